"""Our safetensors reader and writer against hostile files and against the `safetensors` package."""

import contextlib
import io
import itertools
import json
import os
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtfast.safetensors_file import DTYPES, CheckpointError, parse_json, read, stored, write

#: What we refuse though the package accepts it, by words of our message.
STRICTER = ("dtype must be one of", "is there twice", "object of dtype, shape and data_offsets",
            "a BOOL must be", "shape must be a list of at most 32", "must start with '{'",
            "must need fewer than 2**63 bytes")


def pack(header, data=b"", length=None):
    """The bytes of a file: header is text or a value to be dumped."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def load(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return read(str(path))


def refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load(tmp_path, content)
    assert "model.safetensors: " in str(error.value) and len(str(error.value)) < 1000


def dump(tensors):
    file = io.BytesIO()
    write(file, tensors)
    return file.getvalue()


def every_dtype():
    """One array of each type that NumPy has, of many shapes, with extreme values."""
    rng = np.random.default_rng(0)
    shapes = iter([(), (0,), (3,), (2, 3), (1, 0, 4), (2, 1, 2), (5,), (1,), (4, 2), (7,), (3, 3), (2, 2, 2)])
    result = {}
    for name, code in DTYPES.items():
        if name != "BF16":
            shape = next(shapes)
            size = int(np.prod(shape)) * np.dtype(code).itemsize
            bits = rng.integers(0, 2 if name == "BOOL" else 256, size, np.uint8)
            result[f"tensor {name}"] = bits.view(code).reshape(shape)
    return result


def same(ours, theirs):
    """Equal names, shapes, types and bits (NaN included)."""
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        assert type(ours[name]) is np.ndarray
        assert (ours[name].shape, ours[name].dtype) == (array.shape, array.dtype), name
        assert ours[name].tobytes() == array.tobytes(), name


def test_round_trip(tmp_path):
    same(load(tmp_path, dump(every_dtype())), every_dtype())
    assert load(tmp_path, dump({})) == {}
    odd_names = {"": np.ones(2), 'q"\\\n é 😀 [[[[{{{{' * 9: np.ones(3), "a": np.ones(1)}
    same(load(tmp_path, dump(odd_names)), odd_names)


def test_memory_layouts_on_writing(tmp_path):
    value = np.arange(12.0).reshape(3, 4)
    for layout in (value.T.copy().T, np.repeat(value, 2, 1)[:, ::2], value.astype(">f8"), value.tolist()):
        same(load(tmp_path, dump({"x": layout})), {"x": value})


def test_what_is_written_is_aligned():
    for extra in range(8):
        content = dump({name + "x" * extra: every_dtype()[name] for name in sorted(every_dtype())})
        length = int.from_bytes(content[:8], "little")
        assert length % 8 == 0
        for fields in json.loads(content[8:8 + length]).values():
            assert fields["data_offsets"][0] % np.dtype(DTYPES[fields["dtype"]]).itemsize == 0


def test_what_cannot_be_written():
    for wrong in (np.ones(2, complex), np.array(["a"]), np.array([None]), np.ones(2, "M8[s]")):
        with pytest.raises(TypeError, match="x must be one of"):
            dump({"x": wrong})
    with pytest.raises(TypeError, match="name must be a string"):
        dump({3: np.ones(2)})
    for name in ("__metadata__", "\ud800"):
        with pytest.raises(ValueError):
            dump({name: np.ones(2)})


def test_every_alignment_loads_right(tmp_path):
    value = np.arange(6, dtype=np.float64)
    for spaces in range(16):
        text = json.dumps({"x": entry("F64", (6,), (0, 48))}).encode() + b" " * spaces
        same(load(tmp_path, pack(text, value.tobytes())), {"x": value})
    # F64 after three bytes: no alignment within the data section either
    header = {"b": entry("U8", (3,), (0, 3)), "x": entry("F64", (6,), (3, 51))}
    loaded = load(tmp_path, pack(header, b"\1\2\3" + value.tobytes()))
    same(loaded, {"b": np.array([1, 2, 3], np.uint8), "x": value})
    assert loaded["x"].flags.aligned


def test_bfloat16_becomes_float32(tmp_path):
    bits = np.array([0x3F80, 0xBF80, 0x0000, 0x8000, 0x7F80, 0x7FC1, 0x0001, 0x4049], np.uint16)
    loaded = load(tmp_path, pack({"x": entry("BF16", (2, 4), (0, 16))}, bits.tobytes()))["x"]
    assert loaded.dtype == np.float32 and loaded.shape == (2, 4)
    assert np.array_equal(loaded.view(np.uint32).ravel(), bits.astype(np.uint32) << 16)
    assert loaded[0, 0] == 1 and loaded[1, 3] == 3.140625
    scalar = load(tmp_path, pack({"x": entry("BF16", (), (0, 2))}, bits[:1].tobytes()))["x"]
    assert type(scalar) is np.ndarray and scalar.shape == () and scalar == 1


def test_nothing_stays_mapped(tmp_path):
    loaded = load(tmp_path, dump({"x": np.ones(100_000)}))
    os.truncate(tmp_path / "model.safetensors", 0)
    assert loaded["x"].sum() == 100_000 and loaded["x"].flags.owndata


def test_file_cut_short_while_it_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(dump({"x": np.ones(100), "y": np.ones(100)}))
    with pytest.raises(CheckpointError, match="tensor 'y': 800 bytes expected, only 20 there"):
        read(str(path), check=lambda shapes: os.truncate(path, path.stat().st_size - 780))


def test_check_sees_the_shapes_before_the_data(tmp_path):
    (tmp_path / "f").write_bytes(dump({"x": np.ones((2, 3)), "y": np.float32(1)}))
    seen = []
    read(str(tmp_path / "f"), check=seen.append)
    assert seen == [{"x": (2, 3), "y": ()}]


@pytest.mark.parametrize("content, message", [
    (b"", "at least the 8 bytes of the header's length, has 0"),
    (b"\0" * 7, "at least the 8 bytes of the header's length, has 7"),
    (b"\0" * 8, "must start with '{'"),
    (pack(b"{}", length=3), "within the file's 10 bytes, got 3"),
    (pack(b"{}", length=10**8 + 1), "at most 100000000 bytes"),
    (pack(b"{}", length=2**64 - 1), "at most 100000000 bytes"),
    (pack(b"{}", length=2**63), "at most 100000000 bytes"),
    (pack(b"[]"), "must start with '{'"),
    (pack(b" {}"), "must start with '{'"),
    (pack(b"\xef\xbb\xbf{}"), "must start with '{'"),
    (pack(b'{"\xff": 1}'), "must be UTF-8"),
    (pack(b'{"\xed\xa0\x80": 1}'), "must be UTF-8"),
    (pack(b'{"x": }'), "must be JSON"),
    (pack(b"{} {}"), "must be JSON"),
    (pack(b"{}\0"), "must be JSON"),
    (pack(b"{'x': 1}"), "must be JSON"),
    (pack(b'{"x": NaN}'), "NaN is not JSON"),
    (pack(b'{"x": -Infinity}'), "-Infinity is not JSON"),
    (pack(b'{"x": "\n"}'), "must be JSON"),
    (pack(b'{"\\ud800": 1}'), "half of a surrogate pair"),
    (pack(b'{"x": ' + b"9" * 10**6 + b"}"), "plain integer of at most 20 digits"),
    (pack(b'{"a":' + b"[" * 10**6), "nested deeper than 16"),
    (pack(b'{"a":' * 10**6), "nested deeper than 16"),
    (pack(b'{"x": 1, "x": 1}'), "key 'x' is there twice"),
    (pack(b'{"x": {"dtype": "F32", "dtype": "F32"}}'), "key 'dtype' is there twice"),
    (pack(b'{"__metadata__": {"a": "1", "a": "2"}}'), "key 'a' is there twice"),
    (pack({"__metadata__": {"a": 1}}), "__metadata__ must be an object of strings"),
    (pack({"__metadata__": ["a"]}), "__metadata__ must be an object of strings"),
    (pack({}, b"x"), "must fill the data section of 1 bytes, but need 0"),
])
def test_hostile_files(tmp_path, content, message):
    refused(tmp_path, content, message)


@pytest.mark.parametrize("fields, message", [
    ({"dtype": "F33"}, "dtype must be one of"),
    ({"dtype": "f32"}, "dtype must be one of"),
    ({"dtype": None}, "dtype must be one of"),
    ({"dtype": ["F32"]}, "dtype must be one of"),
    ({"dtype": "F64"}, r"must span the 16 bytes of F64 \[2\], got \[0, 8\]"),
    ({"shape": 2}, "shape must be a list"),
    ({"shape": None}, "shape must be a list"),
    ({"shape": [2.0]}, "shape must be a list"),
    ({"shape": [True, 2]}, "shape must be a list"),
    ({"shape": ["2"]}, "shape must be a list"),
    ({"shape": [-1, -2]}, "shape must be a list"),
    ({"shape": [2**64]}, "shape must be a list"),
    ({"shape": [1] * 33}, "at most 32"),
    ({"shape": [3]}, "must span the 12 bytes"),
    ({"shape": [2**62, 2**62, 0]}, r"fewer than 2\*\*63 bytes"),
    ({"shape": [0, 2**63]}, r"fewer than 2\*\*63 bytes"),
    ({"shape": [2**32, 2**32 + 2]}, r"fewer than 2\*\*63 bytes"),  # 8 bytes, modulo 2**64
    ({"shape": [2**61 + 2]}, r"fewer than 2\*\*63 bytes"),
    ({"data_offsets": [0]}, "data_offsets must be two integers"),
    ({"data_offsets": [0, 4, 8]}, "data_offsets must be two integers"),
    ({"data_offsets": [8, 0]}, "data_offsets must be two integers"),
    ({"data_offsets": [-8, 0]}, "data_offsets must be two integers"),
    ({"data_offsets": [False, 8]}, "data_offsets must be two integers"),
    ({"data_offsets": [0, 8.0]}, "data_offsets must be two integers"),
    ({"data_offsets": {"begin": 0}}, "data_offsets must be two integers"),
    ({"data_offsets": [0, 2**64]}, "data_offsets must be two integers"),
    ({"data_offsets": [2**64 - 8, 2**64 - 1]}, "must span the 8 bytes"),
    ({"data_offsets": [1, 9]}, "must leave no hole: must begin at 0, got 1"),
    ({"extra": 1}, "must be an object of dtype, shape and data_offsets"),
])
def test_hostile_entries(tmp_path, fields, message):
    refused(tmp_path, pack({"x": {**entry(), **fields}}, b"\0" * 8), f"tensor 'x': .*{message}")


def test_hostile_layouts(tmp_path):
    for missing in ("dtype", "shape", "data_offsets"):
        fields = entry()
        del fields[missing]
        refused(tmp_path, pack({"x": fields}, b"\0" * 8), "must be an object of dtype, shape and")
    for wrong in (1, None, [], "F32", ["F32", [2], [0, 8]]):
        refused(tmp_path, pack({"x": wrong}, b"\0" * 8), "tensor 'x': must be an object of")
    two = {"x": entry(), "y": entry(offsets=(8, 16))}
    assert len(load(tmp_path, pack(two, b"\0" * 16))) == 2
    refused(tmp_path, pack(two, b"\0" * 17), "must fill the data section of 17 bytes, but need 16")
    refused(tmp_path, pack(two, b"\0" * 15), "must fill the data section of 15 bytes, but need 16")
    two["y"] = entry(offsets=(4, 12))
    refused(tmp_path, pack(two, b"\0" * 12), "tensor 'y': data_offsets must not overlap")
    two["y"] = entry(offsets=(12, 20))
    refused(tmp_path, pack(two, b"\0" * 20), "tensor 'y': data_offsets must leave no hole")
    two["y"] = entry()
    refused(tmp_path, pack(two, b"\0" * 8), "must not overlap")
    refused(tmp_path, pack({"x": entry("BOOL", (1,), (0, 1))}, b"\2"), "tensor 'x': a BOOL must be 0 or 1")
    minus_zero = json.dumps({"x": entry()}).replace("[0, 8]", "[-0, 8]").encode()
    refused(tmp_path, pack(minus_zero, b"\0" * 8), "plain integer")


def test_hostile_strings_take_linear_time():
    start = time.perf_counter()
    many = 10**6
    for text in (b'{"' + b'\\"' * many, b'{"' + b"\\" * many, b'["' + b'","' * many,
                 b'{"' + b"[" * many + b'":1}'):
        with contextlib.suppress(CheckpointError):
            parse_json("f", text, "header")
    assert time.perf_counter() - start < 10  # quadratic: hours


def packed_keys(n, *entries):
    """An object of n keys of three characters, as many as bytes allow, its values the entries in turn."""
    letters = "".join(chr(i) for i in range(32, 127)).replace('"', "").replace("\\", "")
    keys = itertools.islice(itertools.product(letters, repeat=3), n)
    return "{" + ",".join(f'"{"".join(key)}":{entry}' for key, entry in zip(keys, itertools.cycle(entries))) + "}"


def keyed(entry, size):
    """About `size` bytes of an object with the keys "0", "1", ..., all with one value."""
    return "{" + ",".join(f'"{i:x}":{entry}' for i in range(size // (len(entry) + 9))) + "}"


@pytest.mark.parametrize("text", [
    '{"a":[' + "[]," * 10**5 + "0]}", '{"a":[' + "{}," * 10**5 + "0]}", keyed("{}", 10**6), keyed("0", 10**6),
    '{"a":[' + ("[" * 14 + "]" * 14 + ",") * 30_000 + "0]}", '{"' + r"\u00e9" * 10**5 + '":0}',
    '{"' + "\\n" * 10**6 + '":0}', '{"a":[' + "1.5," * 10**5 + "0]}", keyed("0", 10**6)[:-1] + ',"0":1}',
    '{"__metadata__":' + keyed('""', 10**6) + "}", '{"a":["' + "\U0001f600" + "a" * 10**6 + '"]}',
    packed_keys(174763, "0"), packed_keys(174763, "1.5"), packed_keys(349526, "{}", "0")],
    ids=["lists", "objects", "keys of objects", "keys", "deep", "escapes", "newlines", "floats", "twice", "metadata",
         "wide", "short keys", "keys of numbers", "objects in turn"])
def test_memory_is_in_proportion_to_the_text(text):
    data = text.encode()
    tracemalloc.start()
    with contextlib.suppress(CheckpointError):
        parse_json("f", data, "header")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 + (20 if sys.version_info >= (3, 11) else 24) * len(data)


def test_little_but_keys():
    with pytest.raises(CheckpointError, match="header must not be little but keys: more than"):
        parse_json("f", packed_keys(174763, "0").encode(), "header")
    assert len(parse_json("f", packed_keys(16384, "0").encode(), "header")) == 16384
    assert len(parse_json("f", packed_keys(174763, "1.5").encode(), "header")) == 174763


def test_repeated_keys_of_a_large_text(tmp_path):
    text = keyed("0", 10**6)
    assert len(parse_json("f", text.encode(), "header")) > 10**4
    with pytest.raises(CheckpointError, match="a key is there twice"):
        parse_json("f", text[:-1].encode() + b',"1f":1}', "header")
    assert parse_json("f", b'{"a:{[": ":", "\\":": [":"], "": {"x": "\\\\"}}', "header") == {
        "a:{[": ":", '":': [":"], "": {"x": "\\"}}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_not_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(CheckpointError, match="must be a regular file"):
            read(str(path))
    with pytest.raises(FileNotFoundError, match="nothing"):
        read(str(tmp_path / "nothing"))


def test_a_huge_file_of_holes_is_refused_by_its_header(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack({"x": entry()}, b"\0" * 8))
    os.truncate(path, 2**40)
    with pytest.raises(CheckpointError, match="must fill the data section"):
        read(str(path))


# Against the package

def compare(package, path, content):
    """True if both accept with equal bits, False if both refuse, None if only we do for a known reason."""
    try:
        theirs = {name: info for name, info in package.deserialize(content)}
    except package.SafetensorError:
        theirs = None
    path.write_bytes(content)
    try:
        ours = read(str(path))
    except CheckpointError as error:
        if theirs is None:
            return False
        assert any(reason in str(error) for reason in STRICTER), (content, str(error))
        return None
    assert theirs is not None, content
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        info = theirs[name]
        if info["dtype"] == "BF16":
            array = (array.view(np.uint32) >> 16).astype(np.uint16)
        assert array.shape == tuple(info["shape"])
        assert array.dtype == DTYPES[info["dtype"]]
        assert array.tobytes() == bytes(info["data"])
    return True


def example():
    header = {"__metadata__": {"k": "v"}, "x": entry("BF16", (1, 2), (0, 4)),
              "y": entry("BOOL", (2,), (4, 6)), "z": entry("I16", (0,), (6, 6))}
    return pack(header, b"\x80\x3f\x01\x02\1\0")


def test_every_truncation_and_extension(tmp_path):
    package = pytest.importorskip("safetensors")
    content = example()
    assert compare(package, tmp_path / "f", content) is True
    for length in range(len(content)):
        assert compare(package, tmp_path / "f", content[:length]) is False
        assert compare(package, tmp_path / "f", content[length + 1:]) is False
    assert compare(package, tmp_path / "f", content + b"\0") is False


def test_every_flipped_bit(tmp_path):
    package = pytest.importorskip("safetensors")
    content = example()
    outcomes = []
    for i in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[i] ^= 1 << bit
            outcomes.append(compare(package, tmp_path / "f", bytes(flipped)))
    assert outcomes.count(True) > 50 and outcomes.count(False) > 500
    assert outcomes.count(None) < 30


def test_every_deleted_doubled_or_replaced_byte(tmp_path):
    package = pytest.importorskip("safetensors")
    text = example()[8:-6]
    outcomes = []
    for i in range(len(text)):
        for new in (b"", text[i:i + 1] * 2, b"0", b"-", b"\\", b'"', b"]", b" ", b"\0", b"e", b"."):
            changed = text[:i] + new + text[i + 1:]
            outcomes.append(compare(package, tmp_path / "f", pack(changed, example()[-6:])))
    assert outcomes.count(True) > 100 and outcomes.count(False) > 1000


def test_both_read_what_the_other_writes(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    same(package.load(dump(every_dtype())), every_dtype())
    same(load(tmp_path, package.save(every_dtype(), metadata={"format": "pt"})), every_dtype())
    assert package.load(dump({})) == {}


SIZES = st.one_of(
    st.integers(0, 4), st.sampled_from([-1, 2**31, 2**32, 2**62, 2**63, 2**64, 1.0, True, None, "1"]))
FIELDS = st.fixed_dictionaries({
    "dtype": st.sampled_from([*DTYPES, "F8_E4M3", "F4", "C64", "", None]),
    "shape": st.lists(st.one_of(st.integers(0, 3), SIZES), max_size=3),
    "slip": st.sampled_from([0] * 8 + [1, -1]),
    "span": st.sampled_from([0] * 8 + [1, -1]),
    "drop": st.sampled_from([None] * 12 + ["dtype", "shape", "data_offsets"]),
})


def assemble(tensors, data_slip):
    """A header that follows the rules but for what the fields break, and about as much data as it says."""
    header, end = {}, 0
    for name, fields in tensors:
        size = np.dtype(DTYPES.get(fields["dtype"], "u1")).itemsize
        for length in fields["shape"]:
            size *= length if type(length) is int and 0 <= length < 5 else 1
        begin = end + fields["slip"]
        end = begin + size + fields["span"]
        header[name] = entry(fields["dtype"], fields["shape"], (begin, end))
        header[name].pop(fields["drop"], None)
    return pack(header, bytes(max(0, end + data_slip)))


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=st.lists(st.tuples(st.text(max_size=3), FIELDS), max_size=4),
       data_slip=st.sampled_from([0] * 6 + [1, -1]))
def test_random_headers(tmp_path, tensors, data_slip):
    package = pytest.importorskip("safetensors")
    compare(package, tmp_path / "f", assemble(tensors, data_slip))


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_to_good_headers(tmp_path, data):
    package = pytest.importorskip("safetensors")
    text = bytearray(example()[8:-6])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 3)))
        text[start:end] = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from(
            [b"[", b"]", b"{}", b"null", b"1e2", b"-0", b"00", b"\\u0041", b"\\ud83d", b"\xc3\xa9", b"\t"])))
    compare(package, tmp_path / "f", pack(bytes(text), example()[-6:]))


def test_a_file_that_changes_between_header_and_tensors(tmp_path):
    """What lies in a file is read when it is asked for."""
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        write(file, {"a": np.arange(6, dtype=np.float32).reshape(3, 2)})
    tensor = stored(path)["a"]
    assert np.array_equal(tensor.rows(1, 3), [[2, 3], [4, 5]]) and tensor.rows(1, 1).shape == (0, 2)
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="model.safetensors: changed while it was read"):
        tensor.rows(0, 1)


def test_tensors_of_the_same_bytes_and_other_types_are_not_equal(tmp_path):
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        write(file, {name: np.zeros((2, 2), dtype) for name, dtype in
                     (("a", np.float32), ("b", np.float32), ("c", np.int32))} | {"d": np.zeros((2, 3), np.float32)})
    found = stored(path)
    assert found["a"].equals(found["b"])
    assert not found["a"].equals(found["c"]) and not found["a"].equals(found["d"])
