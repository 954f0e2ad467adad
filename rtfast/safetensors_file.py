"""Reading and writing safetensors files: 8 bytes of length, a JSON header, then the tensors' bytes.

Written here rather than taken from the `safetensors` package because NumPy stays the only dependency that
way, because the header is about a hundred lines to check, and because the bytes are to be copied and packed
anyway. Nothing is accepted that the package rejects. Everything is checked before the first tensor is read,
and tensors are copied into memory of their own: a mapped file that somebody truncates later would kill the
process.
"""

from __future__ import annotations

import math
import os
import re
import stat
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Container, Iterator, Mapping

    from rtfast.typing import Array, Shape, StrPath

#: The limit of the `safetensors` package, in bytes.
MAX_HEADER = 100_000_000
#: What every NumPy can represent.
MAX_RANK = 32
#: Deeper JSON than this is refused before it is parsed: no file may exhaust the C stack.
MAX_DEPTH = 16
#: JSON of more objects and lists than these, and one for so many bytes, is refused before it is parsed, likewise that
#: of more keys: each of them takes up to 200 bytes of memory, be it empty.
MAX_CONTAINERS, BYTES_PER_CONTAINER = 16384, 16
MAX_PAIRS, BYTES_PER_PAIR = 16384, 10
#: A repeated key is named in texts of up to so many characters.
MAX_NAMED = 2**18

#: Tensor types and how they lie in the file. BF16 has no NumPy type: it is read as bits, given as float32.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
_FIELDS = {"dtype", "shape", "data_offsets"}
_METADATA = "__metadata__"

#: A mark, or a JSON string without escapes; the quote alone begins any other one. No pattern repeats a group: that
#: would take memory for each escape.
_STRING_OR_MARK = re.compile(r'"[^"\\]*"|["\[\]{}:]')
_ESCAPE_OR_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class CheckpointError(ValueError):
    """A model folder or file that cannot be what it should be; the message names the file and the field."""


def read(path: StrPath, check: Callable[[dict[str, Shape]], object] | None = None,
         names: Container[str] | None = None) -> dict[str, Array]:
    """`{name: array}` of a safetensors file, in the header's order, in fresh memory; BF16 becomes float32.

    check: called with `{name: shape}` once the header has been found good and before any tensor is read.
    names: a container of the names to read; all by default.

    Raises CheckpointError for whatever is wrong with the file, FileNotFoundError (or another OSError) where
    it cannot be opened, MemoryError where its tensors do not fit, and what `check` raises.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        entries, start, _ = _read_header(path, file, size)
        if check is not None:
            check({name: shape for name, (_, shape, _) in entries.items()})
        return {name: _read_tensor(path, file, start, name, *entry) for name, entry in entries.items()
                if names is None or name in names}


def stored(path: StrPath, names: Container[str] | None = None) -> dict[str, StoredTensor]:
    """`{name: StoredTensor}` of a safetensors file, of which only the header is read. Raises as `read` does."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        entries, start, _ = _read_header(path, file, size)
    return {name: StoredTensor(path, size, start, name, *entry) for name, entry in entries.items()
            if names is None or name in names}


def metadata(path: StrPath) -> dict[str, str]:
    """The `{name: text}` that a safetensors file says about itself, of which only the header is read; as `read`."""
    with open_regular(path) as file:
        return _read_header(path, file, os.fstat(file.fileno()).st_size)[2]


#: Numbers of two tensors that are compared at a time.
COMPARED = 2**20


class StoredTensor:
    """A tensor in its file. shape: of the whole; dtype: as the file calls it; path: the file's."""

    def __init__(self, path: StrPath, size: int, start: int, name: str, dtype: str, shape: Shape, begin: int) -> None:
        self.shape, self.dtype, self.path = shape, dtype, path
        self._size, self._where = size, (start, name, dtype, shape, begin)

    def rows(self, first: int, end: int) -> Array:
        """Rows [first, end) of a tensor of one axis or more, (end - first, ...), in fresh memory; BF16 becomes float32.

        Raises CheckpointError where the file is no longer what its header said.
        """
        (rows,) = self.blocks(first, end, max(end - first, 1)) if end > first else (self._empty(0),)
        return rows

    def equals(self, other: StoredTensor) -> bool:
        """Whether both are the same bits, of one shape and type, read some rows at a time."""
        if self.shape != other.shape or self.dtype != other.dtype:
            return False
        step = max(1, COMPARED // max(1, math.prod(self.shape[1:])))
        return all(np.array_equal(one.view(np.uint8), two.view(np.uint8)) for one, two in zip(
            self.blocks(0, self.shape[0], step), other.blocks(0, self.shape[0], step), strict=True))

    def blocks(self, first: int, end: int, step: int) -> Iterator[Array]:
        """The same, `step` rows at a time: a generator. Each block may lie where the one before it did."""
        start, name, dtype, shape, begin = self._where
        room = self._empty(min(step, end - first))
        row_bytes = room.itemsize * math.prod(shape[1:])
        with open_regular(self.path) as file:
            if os.fstat(file.fileno()).st_size != self._size:
                raise CheckpointError(f"{self.path}: changed while it was read")
            file.seek(start + begin + first * row_bytes)
            for row in range(first, end, step):
                part = room if end - row >= len(room) else room[:end - row]
                yield _read_array(self.path, file, name, dtype, part)

    def _empty(self, rows: int) -> Array:
        _, _, dtype, shape, _ = self._where
        return np.empty((rows, *shape[1:]), DTYPES[dtype])


def write(file: IO[bytes], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write `{name: array}` to a binary file object as safetensors. metadata: `{name: text}` to go with it.

    The widest types come first, so that all tensors are aligned. Raises TypeError for a name that is not a
    string or an array whose type the format lacks, ValueError for a name that the format reserves or that is
    not valid Unicode, and for a header above 100 MB.
    """
    import json

    header: dict[str, Any] = {} if metadata is None else {_METADATA: metadata}
    end = 0
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        if not isinstance(name, str):
            raise TypeError(f"safetensors: a tensor's name must be a string, got {name!r}")
        if name == _METADATA:
            raise ValueError(f"safetensors: a tensor must not be named {_METADATA}")
        dtype = _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise TypeError(
                f"safetensors: {name} must be one of {', '.join(_NAMES.values())}, got {array.dtype}")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"safetensors: the header must be at most {MAX_HEADER} bytes, got {len(text)}")
    file.write(len(text).to_bytes(8, "little") + text)
    header.pop(_METADATA, None)
    for name, entry in header.items():
        array = np.ascontiguousarray(arrays[name], DTYPES[entry["dtype"]])
        file.write(array.reshape(-1).view(np.uint8).data)


def open_regular(path: StrPath) -> io.FileIO:
    """The file at `path` opened for reading; CheckpointError unless it is a regular file or a link to one."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
        raise CheckpointError(f"{path}: must be a regular file")
    return open(path, "rb", buffering=0)


def read_bytes(path: StrPath, file: io.FileIO, count: int, what: str) -> bytearray:
    """The next `count` bytes of `file` as a bytearray; CheckpointError if there are fewer."""
    buffer = bytearray(count)
    _fill(path, file, memoryview(buffer), what)
    return buffer


def parse_json(path: StrPath, data: bytes | bytearray, what: str, digits: int = 20) -> Any:
    """The value of JSON text in UTF-8 bytes; stricter than `json.loads`, in memory of at most 4 MB and 20 times the
    text, or 24 times on Python 3.10, whose dictionaries are larger.

    Refused with CheckpointError, which names `path` and `what`: more than 16 levels, little but brackets or keys;
    repeated keys, NaN and Infinity, integers of more than `digits` digits or "-0", halves of surrogate pairs, a byte
    order mark.
    """
    import json

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: {what} must be UTF-8: {error.reason} at byte {error.start}") from None
    pairs = _check_marks(path, text, len(data), what)
    kept = 0

    def count(members: dict[str, Any]) -> dict[str, Any]:
        nonlocal kept
        kept += len(members)
        return members

    def integer(digits_there: str) -> int:
        return _short_int(digits_there, digits)

    try:
        value = json.loads(text, object_hook=count, parse_constant=_no_constant, parse_int=integer)
        if kept != pairs:
            if len(text) <= MAX_NAMED:
                json.loads(text, object_pairs_hook=_distinct)
            raise ValueError("a key is there twice")
        if _SURROGATE.search(text):
            _check_strings(value)
    except UnicodeEncodeError:
        raise CheckpointError(f"{path}: {what} must be valid Unicode, got half of a surrogate pair") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: {what} must be JSON: {error}") from None
    return value


def _check_marks(path: StrPath, text: str, size: int, what: str) -> int:
    """The number of colons between keys and values; that brackets are not too deep, and neither are too many."""
    depth = containers = colons = 0
    most, most_pairs = MAX_CONTAINERS + size // BYTES_PER_CONTAINER, MAX_PAIRS + size // BYTES_PER_PAIR
    for mark in _marks(text):
        if mark == ":":
            colons += 1
            if colons > most_pairs:
                raise CheckpointError(f"{path}: {what} must not be little but keys: more than {most_pairs} of them")
        elif mark in "[{":
            depth += 1
            containers += 1
            if depth > MAX_DEPTH:
                raise CheckpointError(f"{path}: {what} must not be nested deeper than {MAX_DEPTH} levels")
            if containers > most:
                raise CheckpointError(f"{path}: {what} must not be little but brackets: more than {most} of them open")
        else:
            depth -= 1
    return colons


def _marks(text: str) -> Iterator[str]:
    """The brackets and colons of JSON text that lie outside strings, in order."""
    at: int | None = 0
    while at is not None:
        begun, at = at, None
        for match in _STRING_OR_MARK.finditer(text, begun):
            mark = text[match.start()]
            if mark != '"':
                yield mark
            elif match.end() == match.start() + 1:
                at = _end_of_string(text, match.end())
                break


def _end_of_string(text: str, at: int) -> int | None:
    """Where a string with escapes ends, None where it does not; it is read from `at` on."""
    ends = (match.end() for match in _ESCAPE_OR_QUOTE.finditer(text, at) if match.group() == '"')
    return next(ends, None)


def _check_strings(value: Any) -> None:
    """Raise UnicodeEncodeError for a string that is not valid Unicode, among keys and values at any depth."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, (dict, list)):
        for part in value:
            _check_strings(part)
        for part in value.values() if isinstance(value, dict) else ():
            _check_strings(part)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # None
        raise ValueError(f"key {twice[:200]!r} is there twice")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _short_int(text: str, digits: int) -> int:
    if len(text) > digits or text == "-0":
        raise ValueError(f"{text[:24]!r} is not a plain integer of at most {digits} digits")
    return int(text)


def _read_header(path: StrPath, file: io.FileIO,
                 size: int) -> tuple[dict[str, tuple[str, Shape, int]], int, dict[str, str]]:
    """The checked header: `{name: (dtype, shape, begin)}`, where the data section starts, in bytes, and metadata."""
    if size < 8:
        raise CheckpointError(f"{path}: must have at least the 8 bytes of the header's length, has {size}")
    length = int.from_bytes(read_bytes(path, file, 8, "header length"), "little")
    if length > MAX_HEADER:
        raise CheckpointError(f"{path}: header length must be at most {MAX_HEADER} bytes, got {length}")
    if length > size - 8:
        raise CheckpointError(f"{path}: header length must be within the file's {size} bytes, got {length}")
    data = read_bytes(path, file, length, "header")
    if not data.startswith(b"{"):
        raise CheckpointError(f"{path}: header must start with '{{', got {bytes(data[:1])!r}")
    header = parse_json(path, data, "header")
    metadata = header.pop(_METADATA, None)
    _check_metadata(path, metadata)
    entries = {name: _check_entry(path, name, entry) for name, entry in header.items()}
    _check_layout(path, entries, size - 8 - length)
    return {name: (dtype, shape, begin) for name, (dtype, shape, begin, _) in entries.items()}, \
        8 + length, metadata or {}


def _check_metadata(path: StrPath, metadata: Any) -> None:
    if metadata is not None and not (
            isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise CheckpointError(f"{path}: {_METADATA} must be an object of strings")


def _check_entry(path: StrPath, name: str, entry: Any) -> tuple[str, Shape, int, int]:
    """(dtype, shape, begin, end) of one tensor, with end - begin the bytes that dtype and shape need."""
    where = f"{path}: tensor {name[:200]!r}"
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise CheckpointError(f"{where}: must be an object of dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {str(dtype)[:40]!r}")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        raise CheckpointError(f"{where}: shape must be a list of at most {MAX_RANK} integers >= 0")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets must be two integers, 0 <= begin <= end")
    # NumPy refuses a shape whose non-zero sizes overflow, even if it is empty.
    room = count = np.dtype(DTYPES[dtype]).itemsize
    for length in shape:
        room *= length or 1
        count *= length
    if room >= 2**63:
        raise CheckpointError(f"{where}: shape {shape} must need fewer than 2**63 bytes")
    if offsets[1] - offsets[0] != count:
        raise CheckpointError(
            f"{where}: data_offsets must span the {count} bytes of {dtype} {shape}, got {offsets}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**64 for value in values)


def _check_layout(path: StrPath, entries: Mapping[str, tuple[str, Shape, int, int]], size: int) -> None:
    """The tensors must lie end to end and fill the `size` bytes of the data section."""
    reached = 0
    for begin, end, name in sorted((entry[2], entry[3], name) for name, entry in entries.items()):
        if begin != reached:
            fault = "leave no hole" if begin > reached else "not overlap"
            raise CheckpointError(
                f"{path}: tensor {name[:200]!r}: data_offsets must {fault}: must begin at {reached}, "
                f"got {begin}")
        reached = end
    if reached != size:
        raise CheckpointError(
            f"{path}: the tensors must fill the data section of {size} bytes, but need {reached}")


def _read_tensor(path: StrPath, file: io.FileIO, start: int, name: str, dtype: str, shape: Shape, begin: int) -> Array:
    file.seek(start + begin)
    return _read_array(path, file, name, dtype, np.empty(shape, DTYPES[dtype]))


def _read_array(path: StrPath, file: io.FileIO, name: str, dtype: str, array: Array) -> Array:
    """What comes next in the file, read into `array` of the type that the file names `dtype`."""
    where = f"tensor {name[:200]!r}"
    _fill(path, file, array.reshape(-1).view(np.uint8).data, where)
    if dtype == "BF16":
        bits = array.astype(np.uint32)
        bits <<= np.uint32(16)  # NumPy 1 takes a plain 16 for int64 where bits has no dimensions
        return bits.view(np.float32)
    if dtype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise CheckpointError(f"{path}: {where}: a BOOL must be 0 or 1")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _fill(path: StrPath, file: io.FileIO, view: memoryview, what: str) -> None:
    """Fill `view` from an unbuffered file, which gives at most 2 GB at a time."""
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])
        if not got:
            raise CheckpointError(f"{path}: {what}: {len(view)} bytes expected, only {done} there")
        done += got
