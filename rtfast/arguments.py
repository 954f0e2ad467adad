"""Checks of array arguments: what comes out is ready for a backend, what is wrong gets a message.

Every message names the function, the argument, what was given and what fits. A good array
passes with a handful of attribute checks and is never copied.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast import backends
from rtfast.foreign_arrays import as_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.typing import Array, DType, Ids, Packed

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

#: Values of these types have no dtype of their own: they take that of the other operands.
_PLAIN = (bool, int, float, list, tuple, range)
_OPTIONAL = ("bias", "gamma", "beta")
_PACKABLE = ("weight", "b")


def floating(function: str, **operands: Any) -> list[Any]:
    """The operands, in order, as C-contiguous aligned arrays of one dtype; the dtype comes last.

    ndarrays and the arrays of other libraries (foreign_arrays.py) must be float32 or float64 and
    all alike; plain numbers, lists and tuples take the others' dtype, else float64.
    `bias`, `gamma` and `beta` may be None; `weight` and `b` may be packed. Raises TypeError
    for a wrong or mixed dtype, ValueError for a ragged list.
    """
    values: list[Any] = []
    owner = dtype = None
    plain = False
    for name, value in operands.items():
        if type(value) is not np.ndarray:
            if value is None and name in _OPTIONAL:
                values.append(None)
                continue
            if is_packed(value):
                _check_packed(function, name, value)
            elif isinstance(value, _PLAIN) and not hasattr(value, "dtype"):
                values.append(value)
                plain = True
                continue
            else:
                value = _from_object(function, name, value)
        if owner is None:
            owner, dtype = name, value.dtype
            if dtype not in FLOATS:
                raise TypeError(
                    f"{function}: {name} must be float32 or float64, got {dtype}; "
                    f"convert with {name}.astype(numpy.float32)")
        elif value.dtype != dtype:
            raise TypeError(
                f"{function}: {name} must be {dtype} like {owner}, got {value.dtype}; "
                f"convert with {name}.astype(numpy.{dtype})")
        values.append(tidy(value) if isinstance(value, np.ndarray) else value)
    if plain:
        dtype = dtype or FLOATS[1]
        values = [_from_plain(function, name, value, dtype) if isinstance(value, _PLAIN) else value
                  for name, value in zip(operands, values, strict=True)]
    values.append(dtype)
    return values


def _from_object(function: str, name: str, value: Any) -> Array:
    try:
        array = as_array(value)
    except TypeError as error:
        raise TypeError(
            f"{function}: {name} must be an array of float32 or float64 in the CPU's memory, got {error}") from None
    if array.dtype == object:
        raise TypeError(
            f"{function}: {name} must be an array of float32 or float64, got {type(value).__name__}")
    return array


def _from_plain(function: str, name: str, value: Any, dtype: DType) -> Array:
    try:
        array = as_array(value)
    except ValueError as error:  # ragged
        raise ValueError(f"{function}: {name} must be a rectangular list of numbers: {error}") from None
    except TypeError as error:  # of an array in the list
        raise TypeError(f"{function}: {name} must hold real numbers in the CPU's memory, got {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{function}: {name} must hold real numbers, got {array.dtype}")
    with np.errstate(over="ignore"):  # one that is too large is infinite, as IEEE 754 has it
        return tidy(array.astype(dtype))


def tidy(array: Array) -> Array:
    """`array` itself if it is a C-contiguous and aligned ndarray, else a copy that is."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    return array.copy(order="C")


def is_packed(value: object) -> bool:
    """Whether `value` is a packed weight, of whichever backend."""
    return type(value).__name__ == "PackedWeight"


def _check_packed(function: str, name: str, value: Any) -> None:
    if name not in _PACKABLE:
        raise TypeError(
            f"{function}: {name} must be an array, got a PackedWeight; convert with {name}.unpack()")
    if not isinstance(value, backends.active().PackedWeight):
        raise TypeError(
            f"{function}: {name} was packed by {type(value).__module__}, but backend {backends.backend()!r} "
            f"runs now; pack it again with rtfast.kernels.pack({name}.unpack())")


def has_axes(function: str, name: str, array: Array, least: int) -> None:
    """Raise ValueError unless `array` has at least `least` dimensions."""
    if len(array.shape) < least:
        raise ValueError(
            f"{function}: {name} must have at least {least} dimension{'s' if least > 1 else ''}, "
            f"got shape {array.shape}")


def is_vector(function: str, name: str, array: Array | None, width: int, meaning: str) -> None:
    """Raise ValueError unless `array` is None or has shape (width,); `meaning` says what width is."""
    if array is not None and array.shape != (width,):
        raise ValueError(f"{function}: {name} must have shape ({meaning},) = ({width},), got {array.shape}")


def as_rows(array: Array) -> Array:
    """A view (rows, n) of a C-contiguous (..., n)."""
    if array.ndim == 2:
        return array
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def as_matrices(array: Array) -> Array:
    """A view (batch, m, n) of a C-contiguous (..., m, n)."""
    if array.ndim == 3:
        return array
    return array.reshape(math.prod(array.shape[:-2]), *array.shape[-2:])


def output(function: str, out: Array | None, shape: Sequence[int], dtype: DType,
           *inputs: Array | Packed | None) -> Array:
    """Where the backend is to write: `out` itself, or fresh memory.

    Fresh if out is None, or a subclass, not contiguous, not aligned, or may overlap one of `inputs`
    (arrays, None or packed weights): `deliver` copies afterwards. Raises TypeError for an `out`
    that is no ndarray or of another dtype, ValueError for a wrong shape, a read-only one, or one whose numbers share
    memory.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{function}: out must be an ndarray, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"{function}: out must be {dtype} like the operands, got {out.dtype}")
    if out.shape != tuple(shape):
        raise ValueError(f"{function}: out must have shape {tuple(shape)}, got {out.shape}")
    flags = out.flags
    if not flags.writeable:
        raise ValueError(f"{function}: out must be writeable, got a read-only array")
    if type(out) is not np.ndarray or not (flags.c_contiguous and flags.aligned):
        if _may_overlap_itself(out):
            raise ValueError(f"{function}: out must have an element of memory for each number, got shape {out.shape} "
                             f"with strides {out.strides}")
        return np.empty(shape, dtype)
    for array in inputs:
        if isinstance(array, np.ndarray) and np.may_share_memory(out, array):
            return np.empty(shape, dtype)
    return out


def _may_overlap_itself(array: Array) -> bool:
    """Whether two elements may share memory, as those of `as_strided` and `sliding_window_view` do."""
    reach = array.itemsize
    for stride, n in sorted((abs(stride), n) for stride, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return array.size > 0
        reach += stride * (n - 1)
    return False


def deliver(result: Array, out: Array | None) -> Array:
    """The caller's `out` with `result` in it, or `result` where the caller gave none."""
    if out is None or result is out:
        return result
    out[...] = result
    return out


def integers_below(function: str, name: str, values: Any, size: int, what: str) -> Ids:
    """A fresh C-contiguous int64 copy of `values`, any shape of integers within 0 <= value < size.

    A copy because another thread could change the caller's array after the check. Raises TypeError
    for anything but integers, ValueError for the first one out of range; `what` names `size`.
    """
    try:
        given = as_array(values)
    except ValueError as error:  # ragged
        raise ValueError(f"{function}: {name} must be a rectangular list of integers: {error}") from None
    except TypeError as error:
        raise TypeError(f"{function}: {name} must be integers in the CPU's memory, got {error}") from None
    if given.size == 0 and isinstance(values, _PLAIN):
        given = given.astype(np.int64)  # an empty list
    if given.dtype.kind not in "iu":
        raise TypeError(f"{function}: {name} must be integers, got {given.dtype}")
    copy = np.array(given, np.int64, order="C")  # uint64 beyond int64 turns negative: out of range as well
    if copy.size and (copy.min() < 0 or copy.max() >= size):
        position = np.unravel_index(np.argmax((copy < 0) | (copy >= size)), copy.shape)
        place = ", ".join(str(int(i)) for i in position)
        raise ValueError(
            f"{function}: {name} must be in 0 <= id < {size} ({what}), got {given[position]} at [{place}]")
    return copy


def integer(function: str, name: str, value: Any) -> int:
    """`value` as a Python int, NumPy's among them; TypeError for anything else, True and False too."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{function}: {name} must be an integer, got {type(value).__name__}")


def count(function: str, name: str, value: Any) -> int:
    """`value` as a Python int >= 0; TypeError or ValueError otherwise."""
    number = integer(function, name, value)
    if number < 0:
        raise ValueError(f"{function}: {name} must be >= 0, got {number}")
    return number


def switch(function: str, name: str, value: Any) -> bool:
    """`value` as True or False, which NumPy's may be too; TypeError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}: {name} must be True or False, got {value!r}")
    return bool(value)


def real(function: str, name: str, value: Any) -> float:
    """`value` as a Python float; TypeError for what is no number, ValueError for one that is too large."""
    # Python makes a float of these too
    if not isinstance(value, (str, bytes, bool, np.bool_, np.complexfloating, np.timedelta64)):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
        except OverflowError:
            raise ValueError(
                f"{function}: {name} must be a number that a float can hold, got one that is larger") from None
    raise TypeError(f"{function}: {name} must be a number, got {value!r}")
