"""The arrays of .npz files from anywhere: no pickle, no member that grows without bound, nothing that does not fit.

NumPy's own reader believes what a member says of its size, and parses its header as Python.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from . import safetensors_file
from .safetensors_file import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from rtfast.typing import Array, Shape, StrPath

#: All members of a file may be so many bytes more than they are allowed to grow: a tiny model may be nearly all zeros.
SMALL = 2**20
#: Bytes that are read at a time.
CHUNK = 2**18

#: The beginning of a member, as NumPy writes it, and what follows its length: type, order and shape.
_START = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(rb"\{'descr': '([^']{2,4})', 'fortran_order': (True|False), "
                     rb"'shape': \(((?:\d{1,18},? ?){0,4})\), \} *\n", re.DOTALL)
#: What zipfile and zlib raise for a damaged file.
_DAMAGES = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError, OverflowError,
            OSError, struct.error)


def read(path: StrPath, types: Container[str], growth: int = 0, fortran: bool = False) -> dict[str, Array]:
    """`{name: array}` of an .npz file, in its order, in fresh memory.

    types: of the arrays, as NumPy's headers say them ("<f4"). growth: compressed members may be, all together, so many
    times as large as the file and `SMALL`; 0: none may be compressed. fortran: whether columns may come first.

    Raises CheckpointError for whatever is wrong with the file, with its name and the member's; OSError; MemoryError.
    """
    with safetensors_file.open_regular(path) as file:
        try:
            if not zipfile.is_zipfile(file):
                raise ValueError("not an .npz file, or cut short; numpy.savez(path, **arrays) writes one")
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                _check(members, os.fstat(file.fileno()).st_size, growth)
                return {_name(member): _member(archive, member, types, fortran) for member in members}
        except _DAMAGES as error:
            raise CheckpointError(f"{path}: {_said(error)}") from None


def _said(error: BaseException) -> str:
    return str(error)[:500] or type(error).__name__


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _check(members: Iterable[zipfile.ZipInfo], size: int, growth: int) -> None:
    """Raise ValueError for members that are more than the file has room for, before any of them is read."""
    names, packed, whole = set(), 0, 0
    for member in members:
        shown = repr(member.filename[:200])
        stored = member.compress_type == zipfile.ZIP_STORED
        if not growth and not stored:
            raise ValueError(f"{shown} must not be compressed")
        if not stored and member.compress_type != zipfile.ZIP_DEFLATED:
            raise ValueError(f"{shown} must be stored or deflated")
        if stored and member.file_size != member.compress_size:
            raise ValueError(f"{shown}: {member.file_size} bytes cannot be stored in {member.compress_size}")
        if _name(member) in names:
            raise ValueError(f"{shown} is there twice")
        names.add(_name(member))
        packed, whole = packed + member.compress_size, whole + member.file_size
        if packed > size:
            raise ValueError(f"{shown}: the members must lie side by side, their sizes are more than the file's")
        if whole > max(growth, 1) * size + SMALL * bool(growth):
            raise ValueError(f"{shown} grows to {member.file_size} bytes: the members may have "
                             f"{growth} times the file's {size}, and {SMALL}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, types: Container[str], fortran: bool) -> Array:
    """The array of one member, that is as large as its header says."""
    try:
        with archive.open(member) as stream:
            dtype, shape, order, left = _header(stream, member.file_size, types, fortran)
            if math.prod(shape, start=dtype.itemsize) != left:
                raise ValueError(f"{left} bytes do not fit the shape {shape}")
            array: Array = np.empty(shape, dtype, order)
            _fill(stream, array.reshape(-1, order="A").view(np.uint8).data)
            return array
    except _DAMAGES as error:
        raise ValueError(f"{member.filename[:200]!r}: {_said(error)}") from None


def _header(stream: IO[bytes], size: int, types: Container[str],
            fortran: bool) -> tuple[np.dtype[np.generic], Shape, Literal["C", "F"], int]:
    """Type, shape and order of a member of `size` bytes, and how many of them are left."""
    start = stream.read(len(_START) + 2)
    length = int.from_bytes(start[len(_START):], "little")
    header = _HEADER.fullmatch(stream.read(length)) if start.startswith(_START) else None
    if header is None:
        raise ValueError("must be an array of NumPy's format 1.0")
    kind = header[1].decode("latin-1")
    if kind not in types:
        raise ValueError(f"must hold plain numbers, got type {kind!r}")
    if header[2] == b"True" and not fortran:
        raise ValueError("must be in C order")
    shape = tuple(int(length) for length in header[3].split(b",") if length.strip())
    return np.dtype(kind), shape, "F" if header[2] == b"True" else "C", size - len(start) - length


def _fill(stream: IO[bytes], view: memoryview) -> None:
    """Read into all of `view`, never more at a time than there is place for: a member's size may be a lie."""
    at = 0
    while at < len(view):
        data = stream.read(min(CHUNK, len(view) - at))
        if not data:
            raise ValueError("is cut short")
        view[at:at + len(data)] = data
        at += len(data)
