"""The Config: the paper's and the article's sizes, and an error for every value that does not fit."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest

from rtfast.config import Config

with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json")) as _file:
    ARTICLE = json.load(_file)

SIZES = ("vocab_size", "d_model", "n_heads", "d_ff", "d_key", "d_value", "max_length", "target_vocab_size")
LAYERS = ("n_encoder_layers", "n_decoder_layers")
IDS = ("sos_id", "eos_id", "pad_id")
SWITCHES = tuple(field.name for field in dataclasses.fields(Config) if field.type is bool)
NUMBERS = ("layer_norm_eps", "final_norm_eps", "embedding_scale", "attention_scale", "output_scale")
POSITIONS = ("positions", "position_offset", "relative_buckets", "relative_distance")


def make(**fields):
    return Config(**{"vocab_size": 11, **fields})


def test_base_is_the_papers_base_model():
    config = Config.base(37000)
    for name, size in ARTICLE["paper_sizes"].items():
        assert getattr(config, name) == size
    assert config == Config(37000)
    assert (config.vocab_size, config.activation, config.dtype) == (37000, "relu", "float32")
    assert config.attention_scale is None and config.embedding_scale == 1.0
    assert Config.base(37000, d_model=1024, n_heads=16).d_key == 64


def test_article_is_the_articles_toy():
    config = Config.article()
    sizes = dict(ARTICLE["toy_sizes"], vocab_size=ARTICLE["toy_sizes"]["vocab"])
    for name in sizes.keys() - {"vocab", "d_query"}:
        assert getattr(config, name) == sizes[name]
    assert ARTICLE["vocabulary"][config.sos_id] == "SOS" and ARTICLE["vocabulary"][config.eos_id] == "EOS"
    assert config.dtype == "float64" and config.layer_norm_eps == 1e-6
    assert config.article_layer_norm and config.article_positional_encoding
    assert config.feed_forward_bias and config.output_bias and not config.attention_bias
    assert Config.article(attention_scale=1 / 30).attention_scale == 1 / 30


def test_every_field_is_of_a_kind_that_is_tested():
    tested = {*SIZES, *LAYERS, *IDS, *SWITCHES, *NUMBERS, *POSITIONS, "activation", "dtype"}
    assert {field.name for field in dataclasses.fields(Config)} == tested


def test_head_sizes_default_to_an_equal_share():
    assert make(d_model=12, n_heads=3).d_value == 4
    assert make(d_model=12, n_heads=5, d_key=2, d_value=7).d_key == 2
    with pytest.raises(ValueError, match="d_value must be given where n_heads does not divide d_model"):
        make(d_model=12, n_heads=5, d_key=2)


@pytest.mark.parametrize("name", SIZES + LAYERS + IDS)
@pytest.mark.parametrize("value", [True, 1.0, "1", [1], b"1", 1j, np.float64(1), np.True_])
def test_wrong_types_where_an_integer_belongs(name, value):
    with pytest.raises(TypeError, match=rf"{name} must be .*an integer, got"):
        make(**{name: value})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -1, 2**31, 2**64])
def test_sizes_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*within 1\.\.2147483647, got"):
        make(**{name: value})


@pytest.mark.parametrize("name", LAYERS)
def test_number_of_layers(name):
    assert getattr(make(**{name: 0}), name) == 0
    for value in (-1, 10_001, 2**31 - 1):
        with pytest.raises(ValueError, match=rf"{name} must be within 0\.\.10000, got {value}"):
            make(**{name: value})


@pytest.mark.parametrize("name", IDS)
def test_ids_are_within_the_vocabulary(name):
    assert getattr(make(**{name: 10}), name) == 10
    assert getattr(make(**{name: 0}), name) == 0
    for value in (-1, 11):
        with pytest.raises(ValueError, match=rf"{name} must be None or within 0\.\.10, got {value}"):
            make(**{name: value})


def test_positions():
    assert make(positions=None).positions is None and make(positions="relative").relative_buckets == 32
    with pytest.raises(ValueError, match="positions must be one of 'sinusoidal', .* got 'rotary'"):
        make(positions="rotary")
    for name, value in (("position_offset", -1), ("relative_buckets", 1), ("relative_distance", 2**20)):
        with pytest.raises(ValueError, match=f"{name} must be within"):
            make(**{name: value})
    with pytest.raises(ValueError, match="relative_buckets must be a multiple of 4, got 30"):
        make(relative_buckets=30)


def test_many_unknown_fields():
    with pytest.raises(ValueError, match=r"unknown fields 'x0', .*, 'x19', ...; known are") as error:
        Config.from_dict({"vocab_size": 7, **{f"x{i}": 0 for i in range(10**5)}})
    assert len(str(error.value)) < 1000


def test_distances_of_relative_positions():
    """The buckets that grow by logarithm lie between the exact ones and relative_distance."""
    for distance in (2, 16):
        with pytest.raises(ValueError, match="relative_distance must be more than half of relative_buckets, 16, got"):
            Config(7, positions="relative", relative_distance=distance)
    Config(7, positions="relative", relative_distance=17)


def test_only_one_form_of_norm():
    with pytest.raises(ValueError, match="rms_norm and article_layer_norm cannot both be True"):
        make(rms_norm=True, article_layer_norm=True)


@pytest.mark.parametrize("positions", ["halves", "tensor2tensor"])
def test_the_articles_positional_encoding_is_no_other_one(positions):
    with pytest.raises(ValueError, match=f"article_positional_encoding must be False where positions is '{positions}'"):
        make(article_positional_encoding=True, positions=positions)


@pytest.mark.parametrize("name", ["final_norm", "embedding_norm"])
def test_no_norm_is_none_anywhere(name):
    with pytest.raises(ValueError, match=f"{name} must be False where norm is, got True"):
        make(norm=False, **{name: True})


@pytest.mark.parametrize("name", ["sos_id", "eos_id", "pad_id"])
def test_no_special_words_without_words(name):
    with pytest.raises(ValueError, match=f"{name} must be None where vocab_size is: there are no words, got 0"):
        make(vocab_size=None, **{name: 0})


def test_special_words_are_the_targets():
    assert make(target_vocab_size=20, eos_id=19).eos_id == 19
    with pytest.raises(ValueError, match=r"eos_id must be None or within 0\.\.4, got 5"):
        make(target_vocab_size=5, eos_id=5)


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [0, 1, None, "yes", "False"])
def test_switches_are_bools(name, value):
    assert getattr(make(**{name: True}), name) is True
    with pytest.raises(TypeError, match=f"{name} must be True or False, got"):
        make(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite(name):
    for value in (math.nan, math.inf, -math.inf, 1e39, 10**400, 10**6000):
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            make(**{name: value})
    for value in (True, "1", [1.0], 1j):
        with pytest.raises(TypeError, match=f"{name} must be a number, got"):
            make(**{name: value})
    number = getattr(make(**{name: np.float32(0.5)}), name)
    assert number == 0.5 and type(number) is float
    assert type(getattr(make(**{name: 2}), name)) is float


def test_layer_norm_eps_is_not_negative():
    assert make(layer_norm_eps=0).layer_norm_eps == 0.0
    with pytest.raises(ValueError, match="layer_norm_eps must be finite and >= 0"):
        make(layer_norm_eps=-1e-9)


def test_choices():
    for value in (None, "relu", "gelu", "gelu_tanh", "silu"):
        assert make(activation=value).activation == value
    for name in ("activation", "dtype"):
        with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'swish'"):
            make(**{name: "swish"})
        with pytest.raises(TypeError, match=f"{name} must be one of"):
            make(**{name: ["relu"]})


@pytest.mark.parametrize("fields, product", [
    ({"vocab_size": 2**31 - 1, "d_model": 2**18}, "d_model \\* vocab_size"),
    ({"d_ff": 2**30, "d_model": 2**18}, "d_model \\* d_ff"),
    ({"max_length": 2**30, "d_model": 2**18}, "d_model \\* max_length"),
    ({"n_heads": 2**10, "d_key": 2**20, "d_value": 1, "d_model": 2**18}, "d_model \\* n_heads \\* d_key"),
    ({"n_heads": 2**10, "d_key": 1, "d_value": 2**21, "d_model": 1}, "n_heads \\* d_value"),
])
def test_no_product_of_sizes_can_overflow(fields, product):
    with pytest.raises(ValueError, match=f"{product} must be <"):
        make(**fields)


def test_numpy_integers_become_plain_ones():
    config = make(vocab_size=np.int64(20), d_ff=np.uint8(7), eos_id=np.int32(3))
    assert type(config.vocab_size) is int and type(config.d_ff) is int and type(config.eos_id) is int
    json.dumps(config.to_dict())


def test_frozen_and_hashable():
    config = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.d_model = 4
    assert hash(config) == hash(make())
    assert dataclasses.replace(config, norm=False).norm is False
    with pytest.raises(ValueError, match="d_ff"):
        dataclasses.replace(config, d_ff=0)


@pytest.mark.parametrize(
    "config", [Config.base(100), Config.article(attention_scale=1 / 30, activation=None)])
def test_dict_round_trip(config):
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_from_dict_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"unknown fields 'd_modle', 'heads'; known are"):
        Config.from_dict({"vocab_size": 3, "d_modle": 4, "heads": 2})
    with pytest.raises(ValueError, match="vocab_size must be given"):
        Config.from_dict({"d_model": 4})
    with pytest.raises(TypeError, match="fields must be a dict, got list"):
        Config.from_dict([("vocab_size", 3)])
    with pytest.raises(TypeError, match="d_model must be an integer, got None"):
        Config.from_dict({"vocab_size": 3, "d_model": None})


def test_messages_stay_short():
    with pytest.raises(TypeError) as error:
        make(d_model="x" * 10**6)
    assert len(str(error.value)) < 200
    with pytest.raises(ValueError, match="d_model must be .* got an integer of 19932 bits"):
        make(d_model=10**6000)


def test_the_target_s_words_fit_too():
    with pytest.raises(ValueError, match=r"Config: d_model \* target_words must be < 2\*\*48"):
        Config(8, d_model=2**18, d_ff=8, max_length=8, d_key=1, d_value=1, target_vocab_size=2**31 - 1)
