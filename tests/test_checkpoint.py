"""Model folders: what is saved comes back bit for bit, what is damaged is refused by name."""

import dataclasses
import json
import os
import sys
import tracemalloc

import numpy as np
import pytest

from rtfast import checkpoint, safetensors_file
from rtfast.checkpoint import CheckpointError, load, save
from rtfast.config import Config
from rtfast.tokenizer import WordTokenizer
from rtfast.weights import random_weights, weight_shapes

with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json")) as _file:
    VOCABULARY = json.load(_file)["vocabulary"]

TOKENIZER = WordTokenizer(VOCABULARY).to_dict()
ARTICLE = Config.article(n_encoder_layers=1, n_decoder_layers=1)
SMALL = Config(7, d_model=4, n_heads=2, d_ff=5, n_encoder_layers=1, n_decoder_layers=1, attention_bias=True,
               attention_scale=1 / 30, pad_id=0)


@pytest.fixture
def folder(tmp_path):
    """A folder with a good model of the article's kind."""
    path = tmp_path / "model"
    save(path, ARTICLE, random_weights(ARTICLE, 0), WordTokenizer(VOCABULARY))
    return path


def change_config(folder, **fields):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps(config))


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype and ours[name].shape == array.shape
        assert ours[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("config", [
    ARTICLE, SMALL, dataclasses.replace(SMALL, norm=False, tie_embeddings=True, output_bias=False),
    dataclasses.replace(SMALL, n_encoder_layers=0, n_decoder_layers=0)])
def test_round_trip(tmp_path, config):
    weights = random_weights(config, 1)
    save(tmp_path / "a" / "b", config, weights)
    loaded_config, loaded, tokenizer, _ = load(str(tmp_path / "a" / "b"))
    assert loaded_config == config and tokenizer is None
    same(loaded, weights)
    assert list(loaded) == list(weight_shapes(config))
    assert not any(array.flags.writeable for array in loaded.values())
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["config.json", "model.safetensors"]


def test_special_values_keep_their_bits(tmp_path):
    weights = dict(random_weights(SMALL, 1))
    bits = np.array(
        [0x80000000, 0x7FC12345, 0xFF800001, 0x00000001, 0x7F7FFFFF, 0xFF800000, 0x3F800000], np.uint32)
    weights["output.bias"] = bits.view(np.float32)
    save(tmp_path, SMALL, weights)
    assert np.array_equal(load(tmp_path)[1]["output.bias"].view(np.uint32), bits)


def test_tokenizer_comes_back(folder):
    config, _, tokenizer, _ = load(folder)
    assert config == ARTICLE
    assert tokenizer.to_dict() == TOKENIZER
    words = ["<s>", "é", "😀", '"\\', "</s>", "SOS", "EOS"]
    save(folder, SMALL, random_weights(SMALL, 0), WordTokenizer(words, sos="<s>", eos="</s>", unknown="é"))
    tokenizer = load(folder)[2]
    assert tokenizer.vocabulary == tuple(words) and tokenizer.encode("x 😀") == [1, 2]


def test_loading_takes_the_memory_of_one_copy(tmp_path):
    config = Config(20_000, d_model=64, n_heads=1, n_encoder_layers=0, n_decoder_layers=0)
    save(tmp_path, config, random_weights(config, 0))
    tracemalloc.start()
    try:
        weights = load(tmp_path)[1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * sum(array.nbytes for array in weights.values())


def test_paths_of_all_kinds(folder):
    for path in (str(folder), os.fsencode(folder), folder):
        assert load(path)[0] == ARTICLE


def test_other_packages_read_it(folder):
    package = pytest.importorskip("safetensors.numpy")
    theirs = package.load_file(folder / "model.safetensors")
    ours = load(folder)[1]
    same({name: theirs[name] for name in ours}, ours)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "rtfast-transformer"


def test_a_folder_laid_out_by_hand(folder):
    """Half-precision matrices, one per head, biases left out."""
    weights = {
        name: array.astype("f2") for name, array in load(folder)[1].items() if name.endswith(".weight")}
    name = "encoder.layers.0.self_attention.query.weight"
    matrix = weights[name]
    weights[name] = np.stack([matrix[:, :3], matrix[:, 3:]])
    with open(folder / "model.safetensors", "wb") as file:
        safetensors_file.write(file, weights)
    loaded = load(folder)[1]
    assert loaded[name].dtype == np.float64 and np.array_equal(loaded[name], matrix)
    assert not loaded["output.bias"].any()


def test_links_of_the_hugging_face_cache(folder, tmp_path):
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, name in enumerate(("config.json", "model.safetensors")):
        os.rename(folder / name, blobs / str(i))
        os.symlink(os.path.join("..", "..", "blobs", str(i)), snapshot / name)
    assert load(snapshot)[0] == ARTICLE


# What is refused on saving

def test_saving_checks_first(tmp_path):
    weights = random_weights(ARTICLE, 0)
    with pytest.raises(ValueError, match="1 missing: embedding.weight"):
        save(tmp_path / "m", ARTICLE, {n: a for n, a in weights.items() if n != "embedding.weight"})
    with pytest.raises(ValueError, match="vocabulary must have vocab_size = 10 words, got 9"):
        save(tmp_path / "m", ARTICLE, weights, WordTokenizer(VOCABULARY[:-1]))
    with pytest.raises(TypeError, match="tokenizer must be a WordTokenizer or None, got list"):
        save(tmp_path / "m", ARTICLE, weights, VOCABULARY)
    assert not (tmp_path / "m").exists()


def test_a_vocabulary_too_large_for_config_json(tmp_path):
    words = ["SOS", "EOS", *(f"{i:0250d}" for i in range(70_000))]
    config = Config(len(words), d_model=1, n_heads=1, d_ff=1, n_encoder_layers=0, n_decoder_layers=0)
    with pytest.raises(ValueError, match="config.json must be at most 16777216 bytes"):
        save(tmp_path, config, random_weights(config, 0), WordTokenizer(words))


@pytest.mark.parametrize("target, name", [
    (checkpoint.os, "replace"), (checkpoint.os, "fsync"), (checkpoint.safetensors_file, "write")])
def test_a_failed_save_leaves_the_old_model(folder, monkeypatch, target, name):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(target, name, fail)
    with pytest.raises(OSError, match="disk full"):
        save(folder, SMALL, random_weights(SMALL, 0))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# What is refused on loading

def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder \(a model folder holds .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        load(folder / "config.json")
    os.rename(folder / "model.safetensors", folder / "model.tensors")
    with pytest.raises(FileNotFoundError, match=r"no such file .*holds.*model\.safetensors'") as error:
        load(folder)
    assert error.value.filename == str(folder / "model.safetensors")
    os.remove(folder / "config.json")
    with pytest.raises(FileNotFoundError, match=r"no such file .*config\.json'"):
        load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl"])
def test_pickles_are_not_read(folder, name):
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/rtfast-pickled'\ntR.")
    load(folder)  # beside the safetensors file it does not matter
    os.remove(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name}: a pickle file can run code .* convert it once"):
        load(folder)


def refused(folder, message, file="config.json"):
    with pytest.raises(CheckpointError, match=message) as error:
        load(folder)
    assert str(folder / file) in str(error.value) and len(str(error.value)) < 5000


@pytest.mark.parametrize("text, message", [
    (b"", "config must be JSON"),
    (b"[]", "config must be a JSON object, got list"),
    (b"3", "config must be a JSON object, got int"),
    (b"{}", "model_type must be 'rtfast-transformer' or one of .*, got 'None'"),
    (b'{"model_type": "gpt2"}', "model_type must be 'rtfast-transformer' or one of .*, got 'gpt2'"),
    (b'{"model_type": "marian"}', "encoder_attention_heads is missing"),
    (b'{"model_type": ["rtfast-transformer"]}', "model_type must be"),
    (b'{"model_type": "rtfast-transformer"}', "format_version must be 1, got None"),
    (b'{"model_type": "rtfast-transformer", "format_version": 2}', "format_version must be 1, got 2"),
    (b'{"model_type": "rtfast-transformer", "format_version": true}', "format_version must be 1, got True"),
    (b'{"model_type": "rtfast-transformer", "format_version": 1}', "vocab_size must be given"),
    (b'{"a": 1, "a": 2}', "key 'a' is there twice"),
    (b'{"layer_norm_eps": NaN}', "NaN is not JSON"),
    (b'{"layer_norm_eps": Infinity}', "Infinity is not JSON"),
    (b'{"a": "\xff"}', "config must be UTF-8"),
    (b"\xef\xbb\xbf{}", "config must be JSON"),
    (b"[" * 10**6, "nested deeper than 16"),
    (b'{"a":' * 10**6, "nested deeper than 16"),
    (b'{"vocab_size": ' + b"9" * 10**6 + b"}", "at most 20 digits"),
    (b'{"a": "' + b"x" * (16 * 2**20) + b'"}', "must be at most 16777216 bytes"),
])
def test_hostile_configs(folder, text, message):
    (folder / "config.json").write_bytes(text)
    refused(folder, message)


@pytest.mark.parametrize("fields, message", [
    ({"vocab_size": 0}, "vocab_size must be None or within 1"),
    ({"vocab_size": "10"}, "vocab_size must be None or an integer"),
    ({"vocab_size": 1e1}, "vocab_size must be None or an integer"),
    ({"n_heads": 0}, "n_heads must be within 1"),
    ({"n_heads": -2}, "n_heads must be within 1"),
    ({"n_encoder_layers": 2**31}, "n_encoder_layers must be within"),
    ({"sos_id": 10}, "sos_id must be None or within 0..9, got 10"),
    ({"layer_norm_eps": 1e999}, "Infinity is not JSON"),
    ({"activation": {}}, "activation must be one of"),
    ({"norm": 1}, "norm must be True or False"),
    ({"d_modle": 3}, "unknown fields 'd_modle'"),
    ({"tokenizer": []}, "fields must be a dict, got list"),
    ({"tokenizer": {"type": "word"}}, "fields must be type, vocabulary"),
    ({"tokenizer": {**TOKENIZER, "vocabulary": [*VOCABULARY, "x"]}},
     "vocabulary must have vocab_size = 10 words, got 11"),
    ({"tokenizer": {**TOKENIZER, "vocabulary": [1, 2]}}, "must hold strings, got int"),
])
def test_hostile_config_fields(folder, fields, message):
    change_config(folder, **fields)
    refused(folder, message)


def test_an_overflowing_number_in_the_config(folder):
    text = (folder / "config.json").read_text().replace("1e-06", "1e999")
    (folder / "config.json").write_text(text)
    refused(folder, "layer_norm_eps must be finite and >= 0")


@pytest.mark.parametrize("fields, message", [
    ({"d_ff": 9}, r"hidden\.weight is \(4, 8\), must be \(4, 9\)"),
    ({"n_encoder_layers": 2}, "6 missing: encoder.layers.1.self_attention.query.weight"),
    ({"n_decoder_layers": 0}, "18 unexpected: 'decoder.layers.0.self_attention"),
    ({"vocab_size": 2**31 - 1, "d_model": 2**16, "tokenizer": None}, r"embedding\.weight is \(10, 4\), must"),
])
def test_weights_of_another_config_are_refused_unread(folder, fields, message, monkeypatch):
    change_config(folder, **fields)
    monkeypatch.setattr(safetensors_file, "_read_tensor", None)
    refused(folder, message, "model.safetensors")


def test_ten_thousand_layers_are_refused_briefly(folder):
    change_config(folder, n_encoder_layers=10_000, n_decoder_layers=10_000)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="20000 together, but there are only"):
        load(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_positions_are_in_proportion_to_the_weights(folder, tmp_path):
    """A table of sinusoids is in no file: one number would ask for all memory."""
    change_config(folder, max_length=2**31 - 1)
    refused(folder, "max_length must be at most", "config.json")
    config = dataclasses.replace(SMALL, max_length=10**8)
    with pytest.raises(ValueError, match="max_length must be at most"):
        save(tmp_path / "other", config, {name: np.zeros(shape) for name, shape in weight_shapes(config).items()})
    assert not (tmp_path / "other").exists()


def test_biases_of_distances_are_in_proportion_to_the_weights(tmp_path):
    """Of each head a number for every distance, though the file has a few for all of them."""
    config = dataclasses.replace(SMALL, positions="relative", relative_buckets=4, relative_distance=2**15,
                                 n_heads=64)
    with pytest.raises(ValueError, match="relative_distance must be at most 8191: a bias of 64 heads"):
        save(tmp_path / "other", config, {name: np.zeros(shape) for name, shape in weight_shapes(config).items()})


def test_weights_too_large_for_the_config(tmp_path):
    config = dataclasses.replace(SMALL, dtype="float64")
    save(tmp_path, config, {**random_weights(config, 0), "output.bias": np.full(7, 1e300)})
    change_config(tmp_path, dtype="float32")
    refused(tmp_path, "weight output.bias holds a value too large for float32", "model.safetensors")


def test_every_truncation_of_the_weights(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    lengths = {*range(0, 64), *range(64, len(content), 37), len(content) - 1}
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="model.safetensors"):
            load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_pipes_and_folders_in_place_of_files(folder, name):
    os.remove(folder / name)
    os.mkfifo(folder / name)
    refused(folder, "must be a regular file", name)
    os.remove(folder / name)
    os.mkdir(folder / name)
    refused(folder, "must be a regular file", name)


_events = None


def _audit(event, arguments):
    if _events is not None:
        _events.append((event, arguments))


def test_loading_runs_no_code_and_reads_nothing_else(folder):
    global _events
    load(folder)  # imports json
    sys.addaudithook(_audit)  # stays for good, but idle
    _events = []
    try:
        load(folder)
    finally:
        seen, _events = _events, None
    opened = [str(arguments[0]) for event, arguments in seen if event == "open"]
    assert sorted(set(opened)) == [str(folder / "config.json"), str(folder / "model.safetensors")]
    assert {event for event, _ in seen} <= {"open", "os.listdir", "object.__getattr__", "object.__setattr__"}
