"""A model that was saved and loaded is the same, to the last bit; loading reads two files and runs nothing.

Damaged and hostile files are the subject of test_checkpoint.py and test_safetensors_file.py.
"""

import json
import os
import sys

import numpy as np
import pytest
from cases import assert_same_bits
from models import random_ids, random_values, small_config
from subprocesses import printed

import rtfast
from rtfast import backends, safetensors_file

CONFIGS = {
    "small": small_config(),
    "float64": small_config(dtype="float64"),
    "tied, biases": small_config(tie_embeddings=True, attention_bias=True, pad_id=0, eos_id=None),
    "free sizes": small_config(
        d_model=7, n_heads=3, d_key=5, d_value=2, activation="gelu", attention_scale=1 / 30),
    "no layers": small_config(n_encoder_layers=0, n_decoder_layers=0, output_bias=False),
    "the article's": rtfast.Config.article(),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def outputs(model):
    source, target = random_ids(model.config, 9), random_ids(model.config, 5, seed=1)
    return [model.encode(source), model.logits(source, target), np.array(model.generate(source, 8))]


def assert_same_model(got, expected):
    assert got.config == expected.config
    assert list(got.weights) == list(expected.weights)
    for name, array in expected.weights.items():
        assert_same_bits(got.weights[name], array, name)
        assert not got.weights[name].flags.writeable
    for one, other in zip(outputs(got), outputs(expected), strict=True):
        assert_same_bits(one, other)


@every_config
def test_the_same_bits(backend, tmp_path, config):
    model = rtfast.Transformer(config, random_values(config))
    model.save(tmp_path / "model")
    loaded = rtfast.load(tmp_path / "model")
    assert loaded.backend == backend and loaded.tokenizer is None
    assert_same_model(loaded, model)
    loaded.save(tmp_path / "again")  # and what is saved again is the same file
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loaded_on_another_backend(tmp_path, dtype):
    """A file knows nothing of the backend that wrote it: panels and the like are no part of it."""
    config = small_config(dtype=dtype)
    weights, contents = random_values(config), set()
    for writer in backends.available():
        with backends.using(writer):
            rtfast.Transformer(config, weights).save(tmp_path / writer)
        contents.add((tmp_path / writer / "model.safetensors").read_bytes())
        for reader in backends.available():
            with backends.using(reader):
                loaded = rtfast.load(tmp_path / writer)
                assert loaded.backend == reader
                assert_same_model(loaded, rtfast.Transformer(config, weights))
    assert len(contents) == 1


@pytest.mark.parametrize("stored", ["float16", "float32", "float64"])
def test_a_file_of_another_precision(backend, tmp_path, stored):
    """Matrices of several blocks, which are packed while they are read."""
    config = rtfast.Config(vocab_size=3001, d_model=40, n_heads=2, d_ff=70, n_encoder_layers=1, n_decoder_layers=1,
                           max_length=8, sos_id=1, eos_id=2)
    model = rtfast.Transformer.random(config, seed=3)
    model.save(tmp_path)
    with open(tmp_path / "model.safetensors", "wb") as file:
        safetensors_file.write(file, {name: array.astype(stored) for name, array in model.weights.items()})
    loaded = rtfast.load(tmp_path)
    for name, array in model.weights.items():
        assert_same_bits(loaded.weights[name], array.astype(stored).astype("float32"))


def test_the_tokenizer_is_kept(backend, tmp_path):
    model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=rtfast.article.VOCABULARY)
    model.save(tmp_path)
    loaded = rtfast.load(tmp_path)
    assert loaded.tokenizer.vocabulary == rtfast.article.VOCABULARY
    assert loaded.translate("hello world", 5) == model.translate("hello world", 5)
    assert_same_bits(loaded.encode("hello world"), model.encode([0, 2]))


def test_saving_over_another_model(tmp_path):
    first = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=rtfast.article.VOCABULARY)
    second = rtfast.Transformer(small_config(), random_values(small_config()))
    first.save(tmp_path)
    loaded = rtfast.load(tmp_path)
    second.save(tmp_path)
    assert_same_model(rtfast.load(tmp_path), second)
    assert rtfast.load(tmp_path).tokenizer is None
    assert_same_model(loaded, first)  # which holds no map of the file that is gone
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


def test_a_loaded_model_outlives_its_files(backend, tmp_path):
    model = rtfast.Transformer(small_config(), random_values(small_config()))
    model.save(tmp_path)
    loaded = rtfast.load(tmp_path)
    for name in ("config.json", "model.safetensors"):
        os.truncate(tmp_path / name, 0)  # a map of it would end the process with SIGBUS
    assert_same_model(loaded, model)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_files_are_named(tmp_path, missing):
    rtfast.Transformer(small_config(), random_values(small_config())).save(tmp_path)
    os.remove(tmp_path / missing)
    with pytest.raises(FileNotFoundError, match=missing):
        rtfast.load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        rtfast.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="config.json"):
        rtfast.load(tmp_path)


def test_a_file_in_place_of_the_folder(tmp_path):
    rtfast.Transformer(small_config(), random_values(small_config())).save(tmp_path)
    with pytest.raises(NotADirectoryError, match="model.safetensors"):
        rtfast.load(tmp_path / "model.safetensors")


def test_a_pickle_is_never_read(tmp_path):
    """One that would run code if it were."""
    mark = tmp_path / "executed"
    code = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    rtfast.Transformer(small_config(), random_values(small_config())).save(tmp_path)
    good = (tmp_path / "model.safetensors").read_bytes()
    for name, message in (("pytorch_model.bin", "pytorch_model.bin: a pickle file can run code"),
                          ("weights.pkl", "weights.pkl: a pickle file can run code"),
                          ("model.safetensors", "model.safetensors")):
        os.remove(tmp_path / "model.safetensors")
        (tmp_path / name).write_bytes(code)
        with pytest.raises(rtfast.CheckpointError, match=message):
            rtfast.load(tmp_path)
        os.remove(tmp_path / name)
        (tmp_path / "model.safetensors").write_bytes(good)
    for name in ("pytorch_model.bin", "weights.pkl", "weights.npy"):
        (tmp_path / name).write_bytes(code)
    rtfast.load(tmp_path)  # what else lies in the folder is nobody's business
    assert not mark.exists()


def test_a_bad_file_is_a_checkpoint_error(tmp_path):
    rtfast.Transformer(small_config(), random_values(small_config())).save(tmp_path)
    assert issubclass(rtfast.CheckpointError, ValueError)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "d_ff": 21}))
    with pytest.raises(rtfast.CheckpointError, match=r"hidden\.weight is \(12, 20\), must be \(12, 21\)"):
        rtfast.load(tmp_path)


#: Events that a model's life may not raise after import. "open" is judged by its path.
FORBIDDEN = (
    "socket", "subprocess", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "exec",
    "compile", "pickle", "import", "ctypes", "marshal", "mmap", "shutil", "urllib", "code", "cpython.run")


def test_what_a_model_does_to_the_system(tmp_path):
    """From load over generate to trace: no code, no process, no socket, no file outside the folder."""
    model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=rtfast.article.VOCABULARY)
    model.save(tmp_path / "model")
    code = f"""if True:
        import sys
        import rtfast
        folder = {str(tmp_path / "model")!r}
        def use():
            model = rtfast.load(folder)
            model.translate("hello world", 3)
            model.logits("hello", "hola")
            model.trace("hello world")
        use()  # modules that are imported late are there now
        events = []
        sys.addaudithook(lambda event, arguments: events is None or events.append((event, arguments)))
        use()
        seen, events = events, None
        for event, arguments in seen:
            print(event, str(arguments[0]).replace(" ", "_") if event == "open" else "-")"""
    words = printed(code)
    events = list(zip(words[::2], words[1::2], strict=True))
    bad = [event for event, _ in events if event.startswith(FORBIDDEN)]
    assert not bad
    opened = [path for event, path in events if event == "open"]
    assert sorted(set(opened)) == [str(tmp_path / "model" / name) for name in ("config.json", "model.safetensors")]


def test_what_load_imports(tmp_path):
    """Late imports are Python's own: no package that happens to be installed is drawn in."""
    rtfast.Transformer(small_config(), random_values(small_config())).save(tmp_path)
    code = f"""if True:
        import sys
        import rtfast
        before = set(sys.modules)
        rtfast.load({str(tmp_path)!r}).generate([3, 4], 3)
        print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))"""
    allowed = {"rtfast", *sys.stdlib_module_names} - {"pickle", "subprocess", "socket", "ctypes"}
    assert set(printed(code)) <= allowed
