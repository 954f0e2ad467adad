"""The table of weights, and what is made of the arrays that a user gives."""

import dataclasses
import itertools
import json
import os

import numpy as np
import pytest

from rtfast.config import Config
from rtfast.weights import check_shapes, prepare_weights, random_weights, weight_shapes

with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json")) as _file:
    ARTICLE = json.load(_file)

SMALL = Config(7, d_model=4, n_heads=2, d_ff=5, d_key=3, d_value=2, n_encoder_layers=1, n_decoder_layers=1,
               attention_bias=True)


def test_the_whole_table_of_a_small_model():
    def attention(name):
        return {
            f"{name}.query.weight": (4, 6), f"{name}.query.bias": (6,),
            f"{name}.key.weight": (4, 6), f"{name}.key.bias": (6,),
            f"{name}.value.weight": (4, 4), f"{name}.value.bias": (4,),
            f"{name}.output.weight": (4, 4), f"{name}.output.bias": (4,),
            f"{name}.norm.gamma": (4,), f"{name}.norm.beta": (4,)}

    def feed_forward(name):
        return {
            f"{name}.hidden.weight": (4, 5), f"{name}.hidden.bias": (5,),
            f"{name}.output.weight": (5, 4), f"{name}.output.bias": (4,),
            f"{name}.norm.gamma": (4,), f"{name}.norm.beta": (4,)}

    expected = {
        "embedding.weight": (7, 4),
        **attention("encoder.layers.0.self_attention"), **feed_forward("encoder.layers.0.feed_forward"),
        **attention("decoder.layers.0.self_attention"), **attention("decoder.layers.0.cross_attention"),
        **feed_forward("decoder.layers.0.feed_forward"),
        "output.weight": (4, 7), "output.bias": (7,)}
    assert list(weight_shapes(SMALL).items()) == list(expected.items())


def test_projections_of_the_article():
    shapes = weight_shapes(Config.article())
    assert shapes["encoder.layers.5.self_attention.value.weight"] == (4, 6)
    output = np.shape(ARTICLE["encoder"]["given"]["WO"])
    assert shapes["encoder.layers.5.self_attention.output.weight"] == output
    assert not [name for name in shapes if "attention" in name and name.endswith(".bias")]


def test_the_papers_base_model_has_65_million_parameters():
    shapes = weight_shapes(Config.base(37000, tie_embeddings=True, output_bias=False))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == pytest.approx(63e6, rel=0.01)


@pytest.mark.parametrize("switch, on, names", [
    ("attention_bias", True, [".query.bias", ".key.bias", ".value.bias", "attention.output.bias"]),
    ("feed_forward_bias", True, [".hidden.bias", ".feed_forward.output.bias"]),
    ("norm", True, [".norm.gamma", ".norm.beta"]),
    ("output_bias", True, ["output.bias"]),
    ("tie_embeddings", False, ["output.weight"]),
    ("residual", True, []),
])
def test_switches_remove_their_weights_and_no_others(switch, on, names):
    full = weight_shapes(dataclasses.replace(SMALL, **{switch: on}))
    less = weight_shapes(dataclasses.replace(SMALL, **{switch: not on}))

    def belongs(name):
        return any(name == n or not n.startswith("output.") and name.endswith(n) for n in names)

    assert list(less) == [name for name in full if not belongs(name)]
    assert all(any(belongs(n) for n in full) for _ in names)


def arrays(config, dtype=np.float64):
    count = itertools.count(1)
    return {name: (np.arange(np.prod(shape)) + next(count)).reshape(shape).astype(dtype)
            for name, shape in weight_shapes(config).items()}


def test_prepared_weights_are_ready():
    given = arrays(SMALL)
    prepared = prepare_weights(SMALL, dict(reversed(given.items())))
    assert list(prepared) == list(given)
    for name, array in prepared.items():
        assert type(array) is np.ndarray and array.dtype == np.float32
        assert array.flags.c_contiguous and array.flags.aligned and not array.flags.writeable
        assert np.array_equal(array, given[name])


def test_the_callers_arrays_are_not_shared():
    given = arrays(SMALL, np.float32)
    prepared = prepare_weights(SMALL, given)
    for name, array in given.items():
        assert array.flags.writeable and not np.shares_memory(array, prepared[name])
    views = {name: array[:] for name, array in given.items()}
    for view in views.values():
        view.flags.writeable = False  # but its owner can still write
    for name, array in prepare_weights(SMALL, views).items():
        assert not np.shares_memory(array, given[name])
    again = prepare_weights(SMALL, prepared)
    assert all(again[name] is prepared[name] for name in prepared)  # frozen already: not copied again


def test_odd_memory_layouts():
    given = arrays(SMALL, np.float32)
    name = "encoder.layers.0.feed_forward.hidden.weight"
    value = given[name]
    unaligned = np.frombuffer(b"x" + value.tobytes(), np.uint8)[1:].view(np.float32).reshape(value.shape)
    frozen_fortran = np.asfortranarray(value)
    frozen_fortran.flags.writeable = False
    for layout in (value.T.copy().T, np.repeat(value, 2, 1)[:, ::2], value.astype(">f4"), unaligned,
                   frozen_fortran, np.ma.array(value), value.tolist(), value.astype(np.int16),
                   value.astype(np.longdouble)):
        array = prepare_weights(SMALL, {**given, name: layout})[name]
        assert np.array_equal(array, value) and array.flags.c_contiguous and array.flags.aligned
        assert type(array) is np.ndarray and array.dtype == np.dtype("=f4")


def test_one_matrix_per_head():
    config = Config.article(n_encoder_layers=1, n_decoder_layers=0)
    given = ARTICLE["encoder"]["given"]
    weights = arrays(config)
    for part, letter in (("query", "Q"), ("key", "K"), ("value", "V")):
        heads = [given[f"W{letter}1"], given[f"W{letter}2"]]
        for form in (heads, tuple(heads), [np.array(head) for head in heads], np.array(heads, float)):
            name = f"encoder.layers.0.self_attention.{part}.weight"
            prepared = prepare_weights(config, {**weights, name: form})[name]
            assert prepared.flags.c_contiguous and not prepared.flags.writeable
            assert np.array_equal(prepared, np.concatenate(heads, axis=1))
            assert np.array_equal(prepared[:, :3], heads[0])


def test_values_per_head_have_their_own_width():
    weights = arrays(SMALL)
    weights["encoder.layers.0.self_attention.key.weight"] = np.ones((2, 4, 3))
    weights["encoder.layers.0.self_attention.value.weight"] = np.arange(16).reshape(2, 4, 2)
    prepared = prepare_weights(SMALL, weights)["encoder.layers.0.self_attention.value.weight"]
    assert np.array_equal(prepared[:2], [[0, 1, 8, 9], [2, 3, 10, 11]])


def test_matrices_per_head_of_a_wrong_shape():
    config = Config.article(n_encoder_layers=1, n_decoder_layers=0)
    weights = arrays(config)
    name = "encoder.layers.0.self_attention.query.weight"
    for shape in ((3, 4, 3), (2, 3, 4), (1, 2, 4, 3), (6, 4), (24,)):
        with pytest.raises(ValueError, match=r"query\.weight is \(.*\), must be \(4, 6\)"):
            prepare_weights(config, {**weights, name: np.ones(shape)})
    output = "encoder.layers.0.self_attention.output.weight"
    with pytest.raises(ValueError, match=r"attention\.output\.weight is \(2, 3, 4\), must be \(6, 4\)"):
        prepare_weights(config, {**weights, output: np.ones((2, 3, 4))})
    with pytest.raises(ValueError, match=r"query\.weight must be a rectangular array"):
        prepare_weights(config, {**weights, name: [np.ones((4, 3)), np.ones((4, 2))]})


def test_what_may_be_left_out():
    weights = {name: array for name, array in arrays(SMALL).items() if name.endswith(".weight")}
    prepared = prepare_weights(SMALL, weights)
    assert list(prepared) == list(weight_shapes(SMALL))
    for name in prepared.keys() - weights.keys():
        assert np.all(prepared[name] == (1 if name.endswith("gamma") else 0))
        assert prepared[name].dtype == np.float32 and not prepared[name].flags.writeable


def test_all_faults_in_one_message():
    weights = arrays(SMALL)
    del weights["embedding.weight"], weights["output.weight"]
    weights |= {"output.biass": np.ones(7), "encoder.layers.1.feed_forward.hidden.bias": np.ones(5), 3: 1}
    weights["output.bias"] = np.ones(8)
    weights["decoder.layers.0.feed_forward.hidden.weight"] = np.ones((5, 4))
    with pytest.raises(ValueError) as error:
        prepare_weights(SMALL, weights)
    assert str(error.value) == (
        "weights do not fit the config:"
        "\n  2 missing: embedding.weight (7, 4), output.weight (4, 7)"
        "\n  3 unexpected: 'output.biass', 'encoder.layers.1.feed_forward.hidden.bias', 3"
        "\n  2 of a wrong shape: decoder.layers.0.feed_forward.hidden.weight is (5, 4), must be (4, 5), "
        "output.bias is (8,), must be (7,)")


def test_a_huge_list_of_faults_is_cut():
    config = Config(2, d_model=1, n_heads=1, n_encoder_layers=0, n_decoder_layers=100)
    with pytest.raises(ValueError) as error:
        check_shapes(config, {})
    assert "1002 missing" in str(error.value) and str(error.value).endswith(", ...")


@pytest.mark.parametrize("value", [
    np.ones((7, 4), complex), np.full((7, 4), "1"), np.full((7, 4), None), np.ones((7, 4), "M8[s]"),
    np.zeros((7, 4), "f4,f4"), [[2**70] * 4] * 7, [["a"] * 4] * 7, None, object(), {"a": 1},
])
def test_not_numbers(value):
    with pytest.raises(TypeError, match=r"embedding\.weight must hold real numbers"):
        prepare_weights(SMALL, {**arrays(SMALL), "embedding.weight": value})


def test_weights_must_be_a_mapping():
    for wrong in (None, [("a", 1)], np.ones(3), "weights"):
        with pytest.raises(TypeError, match="weights must be a mapping"):
            prepare_weights(SMALL, wrong)


def test_values_too_large_for_float32():
    weights = arrays(SMALL)
    weights["output.bias"][3] = 1e39
    with pytest.raises(ValueError, match=r"weight output\.bias holds a value too large for float32"):
        prepare_weights(SMALL, weights)
    exact = prepare_weights(dataclasses.replace(SMALL, dtype="float64"), weights)
    assert exact["output.bias"][3] == 1e39
    weights["output.bias"][:] = [np.inf, -np.inf, np.nan, 3.4028234e38, 1e-60, 0.1, -0.0]  # all float32 has
    prepared = prepare_weights(SMALL, weights)["output.bias"]
    assert prepared.tobytes() == weights["output.bias"].astype(np.float32).tobytes()


def test_random_weights_are_seeded_and_ready():
    first, second = random_weights(SMALL, 3), random_weights(SMALL, 3)
    assert list(first) == list(weight_shapes(SMALL))
    for name, shape in weight_shapes(SMALL).items():
        assert first[name].shape == shape and first[name].dtype == np.float32
        assert np.array_equal(first[name], second[name]) and not first[name].flags.writeable
    prepared = prepare_weights(SMALL, first)
    assert all(prepared[name] is first[name] for name in first)
    assert not np.array_equal(first["embedding.weight"], random_weights(SMALL, 4)["embedding.weight"])


@pytest.mark.parametrize("scale", [None, 1.0, 0.3])
def test_float32_values_are_the_float64_values_rounded(scale):
    wide = random_weights(dataclasses.replace(SMALL, dtype="float64"), 5, scale)
    narrow = random_weights(SMALL, 5, scale)
    for name, array in wide.items():
        assert array.dtype == np.float64
        assert np.array_equal(narrow[name], array.astype(np.float32))


def test_scales_of_random_weights():
    config = Config(2000, d_model=64, n_heads=4, d_key=32, d_ff=256, n_encoder_layers=1, n_decoder_layers=0)
    layer = "encoder.layers.0"

    def spread(name, scale=None):
        return random_weights(config, 0, scale)[name].std()

    assert spread("embedding.weight") == pytest.approx(1, rel=0.05)
    assert spread(f"{layer}.self_attention.query.weight") == pytest.approx(1 / 8, rel=0.05)
    assert spread(f"{layer}.feed_forward.output.weight") == pytest.approx(1 / 16, rel=0.05)
    assert spread("output.bias") == pytest.approx(0.02, rel=0.1)
    assert spread(f"{layer}.feed_forward.output.weight", 1.0) == pytest.approx(1, rel=0.05)
    assert spread("output.bias", 0.5) == pytest.approx(0.5, rel=0.1)
    assert spread("embedding.weight", 0.5) == pytest.approx(1, rel=0.05)
    weights = random_weights(config, 0, 1.0)
    assert np.all(weights[f"{layer}.self_attention.norm.gamma"] == 1)
    assert np.all(weights[f"{layer}.self_attention.norm.beta"] == 0)


def test_bad_seeds_and_scales():
    for seed in (None, True, False, 1.5, "0"):
        with pytest.raises(TypeError):
            random_weights(SMALL, seed)
    with pytest.raises(ValueError):
        random_weights(SMALL, -1)
    for scale in (np.inf, np.nan):
        with pytest.raises(ValueError, match="scale must be finite"):
            random_weights(SMALL, 0, scale)
    with pytest.raises(TypeError, match="scale must be a number"):
        random_weights(SMALL, 0, "1")
    with pytest.raises(ValueError, match="too large for float32"):
        random_weights(SMALL, 0, 1e39)
