"""Arrays of .npz files: what NumPy writes comes back; what is wrong is an error with file and member, soon."""

import io
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from cases import assert_same_bits
from test_trace_files import member

import rtfast
from rtfast import npz_file
from rtfast.generate_command import MAX_GROWTH, WEIGHT_TYPES


def read(path, growth=MAX_GROWTH):
    return npz_file.read(path, WEIGHT_TYPES, growth, fortran=True)


def refused(path, growth=MAX_GROWTH):
    """The message about a file that must be refused in bounded memory and time, without its path."""
    begun = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(rtfast.CheckpointError) as error:
            read(path, growth)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 1000
    assert peak < 20 * path.stat().st_size + 4 * 2**20
    assert time.perf_counter() - begun < 5
    return message.removeprefix(f"{path}: ")


class Archive(zipfile.ZipFile):
    """A new archive; what is changed in its entries after a member is written is written as it is then."""

    def __init__(self, path, method=zipfile.ZIP_STORED):
        super().__init__(path, "w", method)

    def lie(self, **fields):
        for name, value in fields.items():
            setattr(self.filelist[-1], name, value)
        self._didModify = True


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_what_numpy_writes(tmp_path, save, kind):
    numbers = np.random.default_rng(0).integers(0, 200, (3, 4, 5)).astype(kind)
    arrays = {"a.b": numbers, "columns": np.asfortranarray(numbers[0]), "line": numbers[0, 0],
              "one": numbers[0, 0, :1].reshape(()), "none": numbers[:0],
              "large": np.random.default_rng(1).integers(0, 2, 300_000).astype(kind)}
    path = tmp_path / "a.npz"
    save(path, **arrays)
    found = read(path, 100)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == np.dtype(kind) and found[name].flags.owndata and found[name].flags.writeable
        assert found[name].flags.f_contiguous == np.asarray(array).flags.f_contiguous
        assert_same_bits(found[name], np.asarray(array), name)


def test_no_more_types_or_orders_than_asked_for(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros((2, 3), np.float32, "F"))
    with pytest.raises(rtfast.CheckpointError, match="'a.npy': must be in C order"):
        npz_file.read(path, ("<f4",))
    with pytest.raises(rtfast.CheckpointError, match="'a.npy': must hold plain numbers, got type '<f4'"):
        npz_file.read(path, ("<f8",), fortran=True)
    np.savez_compressed(path, a=np.zeros((2, 3), np.float32))
    with pytest.raises(rtfast.CheckpointError, match="'a.npy' must not be compressed"):
        npz_file.read(path, ("<f4",))


# What grows

def test_a_tiny_model_may_be_all_zeros(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(npz_file.SMALL // 8))
    assert not read(path)["a"].any()


@pytest.mark.parametrize("arrays", [{"a": np.zeros(2**23)}, {f"a{i}": np.zeros(2**15) for i in range(200)}],
                         ids=["one", "many"])
def test_bombs(tmp_path, arrays):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays)
    assert "grows to" in refused(path)


@pytest.mark.parametrize("shape, said", [((2_500_000,), 1000), ((2_500_000,), 100), ((100,), 528), ((10_000,), 40_128)])
def test_a_member_that_is_larger_than_it_says(tmp_path, shape, said):
    path = tmp_path / "a.npz"
    with Archive(path, zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", member(shape=shape, data=bytes(10**7)))
        archive.lie(file_size=said)
    assert refused(path).startswith("'a.npy': ")


def test_a_member_that_is_smaller_than_it_says(tmp_path):
    path = tmp_path / "a.npz"
    with Archive(path, zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", member(shape=(1000,), data=bytes(4000))[:-100])
        archive.lie(file_size=len(member(shape=(1000,), data=bytes(4000))))
    assert refused(path) == "'a.npy': is cut short"
    with Archive(path) as archive:
        archive.writestr("a.npy", member())
        archive.lie(file_size=10**12)
    assert refused(path).startswith("'a.npy': 1000000000000 bytes cannot be stored in ")
    with Archive(path) as archive:
        archive.writestr("a.npy", member())
        archive.lie(file_size=10**12, compress_size=10**12)
    assert refused(path).startswith("'a.npy': the members must lie side by side")
    with Archive(path, zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", member())
        archive.lie(file_size=2**62)
    assert refused(path).startswith("'a.npy' grows to")


def test_members_that_are_the_same_bytes(tmp_path):
    path = tmp_path / "a.npz"
    with Archive(path) as archive:
        archive.writestr("a.npy", member(data=bytes(100_000), shape=(25_000,)))
        for i in range(50):
            copy = zipfile.ZipInfo(f"more{i}.npy")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, field, getattr(archive.filelist[0], field))
            archive.filelist.append(copy)
        archive.lie()
    assert refused(path).startswith("'more0.npy': the members must lie side by side")


@pytest.mark.parametrize("method, message", [(zipfile.ZIP_BZIP2, "stored or deflated"),
                                             (zipfile.ZIP_LZMA, "stored or deflated")])
def test_other_methods(tmp_path, method, message):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", member(shape=(10**6,), data=bytes(4 * 10**6)))
    assert refused(path) == f"'a.npy' must be {message}"


# What else is wrong

@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a.npy", "a.npy"), ("a.npy", "a")])
def test_a_name_that_is_there_twice(tmp_path, names):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, member())
    assert refused(path) == f"{names[1]!r} is there twice"


def test_objects_are_never_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{}], object))
    heard = []
    if not hasattr(sys, "addaudithook"):
        pytest.skip("no audit hooks")
    sys.addaudithook(lambda event, _: heard.append(event) if event.startswith("pickle") else None)
    assert refused(path) == "'a.npy': must hold plain numbers, got type '|O'"
    np.savez(path, a=np.zeros(2, [("x", "O"), ("y", "f4")]))
    assert refused(path) == "'a.npy': must be an array of NumPy's format 1.0"
    assert not heard


@pytest.mark.parametrize("data, message", [
    (member(shape=(10**15,)), "8 bytes do not fit the shape"), (member(shape=(2**62, 4)), "do not fit the shape"),
    (member(shape=(0, 10**17, 10**17)), "do not fit the shape"), (member(shape=(-2,)), "1.0"),
    (member(shape=(1,)), "do not fit the shape"), (member("<c8", (1,)), "plain numbers"),
    (member("<U2", (1,)), "plain numbers"), (b"\x93NUMPY\x02\x00" + member()[8:], "1.0"), (b"nonsense", "1.0"),
    (member(shape="__import__('os').abort()"), "1.0"), (member()[:40], "1.0"), (b"", "1.0"),
    (b"\x93NUMPY\x01\x00\xff\xff", "1.0")])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members(tmp_path, data, message, method):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("some\nname.npy", data)
    said = refused(path)
    assert said.startswith(r"'some\nname.npy': ") and message in said


def test_a_long_name(tmp_path):
    path = tmp_path / "a.npz"
    with Archive(path) as archive:
        archive.writestr("a" * 60_000, member())
        archive.lie(filename="b" * 60_000)
    assert refused(path).startswith("'bbb")


def test_an_encrypted_member(tmp_path):
    path = tmp_path / "a.npz"
    with Archive(path) as archive:
        archive.writestr("a.npy", member())
        archive.lie(flag_bits=1)
    assert refused(path).startswith("'a.npy': ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_truncation_and_many_changes(tmp_path, save):
    path, file = tmp_path / "a.npz", io.BytesIO()
    arrays = {"a": np.arange(40.0), "b": np.ones((3, 4), np.float32)}
    save(file, **arrays)
    data = file.getvalue()
    for length in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:length])
        refused(path)
    random = np.random.default_rng(0)
    for place in random.integers(0, len(data), 1000):
        changed = bytearray(data)
        changed[place] ^= 1 << int(random.integers(8))
        path.write_bytes(changed)
        try:
            found = read(path)
        except rtfast.CheckpointError as error:
            assert str(error).startswith(f"{path}: ")
        else:  # a date, or a name
            assert all(any(np.array_equal(one, array) for one in arrays.values()) for array in found.values())


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.npz")
    with pytest.raises(rtfast.CheckpointError, match="must be a regular file"):
        read(tmp_path)
