"""Traces in files come back as they were; what is wrong with a file is a CheckpointError."""

import contextlib
import io
import json
import os
import zipfile

import numpy as np
import pytest
from cases import assert_same_bits
from models import random_model, small_config

import rtfast
from rtfast import safetensors_file

SOURCE, TARGET = [3, 4, 5], [1, 8, 9, 4]
KINDS = [".npz", ".safetensors"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def model():
    config = small_config(eos_id=None)
    tokens = ["SOS", "EOS", "äß日本語\"\\", "</script>", *(f"w{i}" for i in range(9))]
    return rtfast.Transformer(config, random_model(config)[0].weights, rtfast.WordTokenizer(tokens))


def assert_same_trace(one, other):
    assert list(one) == list(other)
    for name in one:
        assert_same_bits(one[name], other[name], name)
        assert one.item(name) == other.item(name)
    assert one.tokens == other.tokens and one.single == other.single and one.generated == other.generated
    for mine, others in ((one.source_ids, other.source_ids), (one.target_ids, other.target_ids)):
        assert [ids.tolist() for ids in mine] == [ids.tolist() for ids in others]


@every_kind
@pytest.mark.parametrize("what", ["one", "batch", "generated", "part", "nan"])
def test_round_trip(tmp_path, model, kind, what):
    trace = {"one": lambda: model.trace(SOURCE, TARGET), "batch": lambda: model.trace([SOURCE] * 2, [TARGET] * 2),
             "generated": lambda: model.trace([SOURCE, SOURCE[::-1]], max_new_tokens=3),
             "part": lambda: model.trace(SOURCE, TARGET, include="*.weights"),
             "nan": lambda: model.run_with(model.trace(SOURCE, TARGET), {"encoder.input": np.nan, "logits": np.inf}),
             }[what]()
    path = tmp_path / f"trace{kind}"
    trace.save(path)
    loaded = rtfast.Trace.load(path)
    assert_same_trace(loaded, trace)
    assert loaded.model is None and all(array.flags.writeable for array in loaded.values())
    again = tmp_path / f"again{kind}"
    loaded.save(again)
    assert_same_trace(rtfast.Trace.load(again), trace)


@every_kind
def test_with_its_model(tmp_path, model, kind):
    path = tmp_path / f"trace{kind}"
    trace = model.trace(SOURCE, TARGET)
    trace.save(str(path))
    loaded = rtfast.Trace.load(str(path), model)
    assert loaded.top(2) == trace.top(2) and list(loaded.lens()) == list(trace.lens())
    changed = {"encoder.input": 0.0}
    assert_same_trace(model.run_with(loaded, changed), model.run_with(trace, changed))


@every_kind
@pytest.mark.parametrize("single", [True, False])
def test_with_another_model(tmp_path, model, kind, single):
    path = tmp_path / f"trace{kind}"
    model.trace(SOURCE if single else [SOURCE] * 2, TARGET if single else [TARGET] * 2).save(path)
    for other in (3, model.config):
        with pytest.raises(TypeError, match="model must be a Transformer or None, got"):
            rtfast.Trace.load(path, other)
    for fields, message in (
            ({"vocab_size": 8}, "the target of the trace has 4 tokens up to 9, the model 40 positions and 8 words"),
            ({"max_length": 3}, "the target of the trace has 4 tokens"),
            ({"d_model": 9}, "its encoder.embedding is not"),
            ({"n_encoder_layers": 1}, "it has no encoder.layers.1"), ({"dtype": "float64"}, "its encoder.embedding is"),
            ({"n_heads": 2, "d_key": 6, "d_value": 6}, "its encoder.layers.0.self_attention.query is not of shape"),
            ({"d_ff": 8}, "its encoder.layers.0.feed_forward.hidden is"), ({"final_norm": True}, None)):
        other = random_model(small_config(eos_id=None, **fields))[0]
        if message is None:  # all that the trace has of it
            assert rtfast.Trace.load(path, other).model is other
            continue
        with pytest.raises(ValueError, match=f"model must be the one that was traced, but {message}"):
            rtfast.Trace.load(path, other)


def test_others_read_the_arrays(tmp_path, model):
    numpy = pytest.importorskip("safetensors.numpy", reason="the safetensors package reads what we write")
    trace = model.trace(SOURCE, TARGET)
    for kind in KINDS:
        trace.save(tmp_path / f"t{kind}")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        assert_same_bits(arrays["logits"], trace["logits"])
    assert_same_bits(numpy.load_file(tmp_path / "t.safetensors")["logits"], trace["logits"])


def test_names_of_files(tmp_path, model):
    trace = model.trace(SOURCE, TARGET, include="logits")
    for call in (trace.save, rtfast.Trace.load):
        with pytest.raises(ValueError, match=r"must end in \.npz or \.safetensors, got .*trace\.json"):
            call(tmp_path / "trace.json")
    with pytest.raises(FileNotFoundError):
        rtfast.Trace.load(tmp_path / "none.npz")


def test_paths(tmp_path, model):
    trace = model.trace(SOURCE, TARGET, include="logits")
    with open(tmp_path / "mine", "wb") as file:
        for call in (trace.save, trace.save_page, rtfast.Trace.load):
            with pytest.raises(TypeError, match="path must be a string or path, got int"):
                call(file.fileno())
        with pytest.raises(TypeError, match="folder must be a string or path, got int"):
            model.save(file.fileno())
    assert (tmp_path / "mine").read_bytes() == b""
    trace.save(os.fsencode(tmp_path / "t.npz"))
    assert_same_trace(rtfast.Trace.load(os.fsencode(tmp_path / "t.npz")), trace)


@every_kind
def test_a_file_is_whole_or_as_it_was(tmp_path, model, monkeypatch, kind):
    def fail(file, *_, **__):
        file.write(b"half")
        raise OSError("no space")

    path = tmp_path / f"trace{kind}"
    model.trace(SOURCE, TARGET, include="logits").save(path)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", fail)
    monkeypatch.setattr(safetensors_file, "write", fail)
    with pytest.raises(OSError, match="no space"):
        model.trace(SOURCE, TARGET).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


# Hostile files

def write(path, about, arrays):
    """A file of that text and those arrays, whatever they are."""
    with open(path, "wb") as file:
        if path.suffix == ".npz":
            np.savez(file, **arrays, **{"rtfast.trace": np.frombuffer(about.encode(), np.uint8)})
        else:
            safetensors_file.write(file, arrays, {"rtfast.trace": about})


def good(model):
    trace = model.trace(SOURCE, TARGET, include=["encoder.input", "logits"])
    items = [[*trace.item(name)] for name in trace]
    about = {"format": 1, "single": True, "tokens": list(trace.tokens), "generated": None, "items": items}
    return about, {**trace, "source_ids": np.array([SOURCE]), "target_ids": np.array([TARGET])}


FAULTS = {
    "format": lambda about, arrays: about.update(format=2),
    "single": lambda about, arrays: about.update(single=1),
    "no items": lambda about, arrays: about.pop("items"),
    "items": lambda about, arrays: about.update(items={}),
    "an item": lambda about, arrays: about["items"].append(["logits"]),
    "twice": lambda about, arrays: about["items"].append(about["items"][0]),
    "a name": lambda about, arrays: about["items"][0].__setitem__(0, 7),
    "inputs": lambda about, arrays: about["items"][0].__setitem__(3, "ab"),
    "axes": lambda about, arrays: about["items"][0].__setitem__(4, ["source"]),
    "unknown axes": lambda about, arrays: about["items"][0].__setitem__(4, ["source", "colour"]),
    "lengths": lambda about, arrays: about["items"][0].__setitem__(4, ["target", "feature"]),
    "tokens": lambda about, arrays: about.update(tokens=[["a"], ["b"]]),
    "token": lambda about, arrays: about.update(tokens=[[None] * 3, ["b"] * 4]),
    "generated": lambda about, arrays: about.update(generated=[-1]),
    "generated too": lambda about, arrays: about.update(generated={"0": 1}),
    "items that are none": lambda about, arrays: about.update(items=7),
    "tokens of one side": lambda about, arrays: about.update(tokens=[about["tokens"][0]]),
    "tokens that are none": lambda about, arrays: about.update(tokens="ab"),
    "no ids": lambda about, arrays: arrays.pop("source_ids"),
    "negative ids": lambda about, arrays: arrays.update(source_ids=np.array([[-1, 2, 3]])),
    "ids of floats": lambda about, arrays: arrays.update(target_ids=np.ones((1, 4))),
    "sentences": lambda about, arrays: arrays.update(target_ids=np.ones((2, 4), np.int64)),
    "sentences of a batch": lambda about, arrays: (
        about.update(single=False, tokens=[[["a"] * arrays["source_ids"].shape[1]], [["b"] * 4] * 2]),
        arrays.update(target_ids=np.ones((2, 4), np.int64))),
    "an array too many": lambda about, arrays: arrays.update(more=np.ones(3, np.float32)),
    "an array too few": lambda about, arrays: arrays.pop("logits"),
    "types": lambda about, arrays: arrays.update(logits=arrays["logits"].astype(np.float64)),
    "integers": lambda about, arrays: arrays.update(logits=arrays["logits"].astype(np.int64)),
}


@every_kind
@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, model, kind, fault):
    path = tmp_path / f"bad{kind}"
    about, arrays = good(model)
    write(path, json.dumps(about), arrays)
    rtfast.Trace.load(path)
    FAULTS[fault](about, arrays)
    write(path, json.dumps(about), arrays)
    with pytest.raises(rtfast.CheckpointError, match=f"bad{kind}"):
        rtfast.Trace.load(path)


@every_kind
@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": 1, "format": 1}', "\\ud800", "null",
                                  "1e999"])
def test_what_is_no_json_object(tmp_path, model, kind, text):
    path = tmp_path / f"bad{kind}"
    write(path, text, good(model)[1])
    with pytest.raises(rtfast.CheckpointError):
        rtfast.Trace.load(path)


def test_what_is_no_text(tmp_path, model):
    path, (_, arrays) = tmp_path / "bad.npz", good(model)
    np.savez(path, **arrays, **{"rtfast.trace": np.frombuffer(b'{"format": 1, "\xff": 1}', np.uint8)})
    with pytest.raises(rtfast.CheckpointError, match="bad.npz: rtfast.trace: .*can't decode byte 0xff"):
        rtfast.Trace.load(path)


@every_kind
def test_every_truncation(tmp_path, model, kind):
    path = tmp_path / f"bad{kind}"
    about, arrays = good(model)
    write(path, json.dumps(about), arrays)
    data = path.read_bytes()
    for length in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(rtfast.CheckpointError):
            rtfast.Trace.load(path)


@every_kind
def test_flipped_bits_never_do_worse(tmp_path, model, kind):
    path = tmp_path / f"bad{kind}"
    about, arrays = good(model)
    write(path, json.dumps(about), arrays)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(data), 1500):
        changed = bytearray(data)
        changed[place] ^= 1 << int(random.integers(8))
        path.write_bytes(changed)
        with contextlib.suppress(rtfast.CheckpointError):
            rtfast.Trace.load(path)


def member(dtype="<f4", shape=(2,), data=b"\0" * 8, fortran=False):
    header = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize("data, message", [
    (member(shape=(10**15,)), "do not fit the shape"), (member(shape=(2**62, 4)), "do not fit the shape"),
    (member(shape=(-2,)), "1.0"), (member("|O"), "must hold"), (member("|O8"), "must hold"),
    (member("<c8", (1,)), "must hold"),
    (member(fortran=True), "C order"), (b"\x93NUMPY\x02\x00" + member()[8:], "1.0"), (b"nonsense", "1.0"),
    (member(shape="__import__('os').abort()"), "1.0"), (member(shape="(" * 5000), "1.0"), (b"", "1.0"),
    (member(shape="(1" + "0" * 5000 + ",)"), "1.0"), (b"\x93NUMPY\x01\x00\xff\xff", "1.0"),
])
def test_members_of_an_archive(tmp_path, data, message):
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", data)
    with pytest.raises(rtfast.CheckpointError, match=message):
        rtfast.Trace.load(path)


def test_archives_that_would_grow(tmp_path, model):
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logits.npy", member(shape=(10**6,), data=b"\0" * 4 * 10**6))
    with pytest.raises(rtfast.CheckpointError, match="must not be compressed"):
        rtfast.Trace.load(path)
    # Many members that are the same bytes of the file
    once = io.BytesIO()
    with zipfile.ZipFile(once, "w") as archive:
        archive.writestr("logits.npy", member(data=b"\0" * 100_000, shape=(25_000,)))
        shared = archive.filelist[0]
        for i in range(50):
            copy = zipfile.ZipInfo(f"more{i}.npy")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, field, getattr(shared, field))
            archive.filelist.append(copy)
        archive._didModify = True
    path.write_bytes(once.getvalue())
    with pytest.raises(rtfast.CheckpointError):
        rtfast.Trace.load(path)
