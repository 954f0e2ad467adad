"""Arrays of other libraries as NumPy arrays, without copies: a tensor of PyTorch, an array of Arrow, a memoryview.

Taken are the buffer protocol, `__array_interface__`, `__array__`, and DLPack for an object that has nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rtfast.typing import Array

#: DLPack's code of the CPU.
_CPU = 1


def as_array(value: Any) -> Array:
    """`value` as an ndarray on its own memory where NumPy can read that, else as numpy.asarray makes one.

    Raises ValueError for a ragged list, and TypeError for an array that NumPy cannot read: on another device, of a type
    that NumPy lacks (bfloat16), sparse, or one that asks for gradients; in a list too; and one with masked elements.
    """
    try:
        if isinstance(value, np.ndarray) and type(value) is not np.ndarray and np.ma.is_masked(value):
            raise TypeError("some of its elements are masked; fill them with value.filled(...)")
        array = np.asarray(value)
        if array.dtype.hasobject and not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
            array = _from_dlpack(value)
    except Exception as error:
        if isinstance(value, (list, tuple)) and isinstance(error, ValueError):
            raise
        raise TypeError(f"{_named(value)}: {error}") from None
    return array


def _from_dlpack(value: Any) -> Array:
    kind, _ = value.__dlpack_device__()
    if kind != _CPU:
        raise TypeError(f"it lies on DLPack device {kind}, not in the CPU's memory (device {_CPU})")
    return np.from_dlpack(value)


def _named(value: Any) -> str:
    """What was given, for a message: its type, and where they are known its dtype and its device."""
    facts = [f"{name} {getattr(value, name)}" for name in ("dtype", "device") if hasattr(value, name)]
    return f"{type(value).__name__}{' of ' if facts else ''}{', '.join(facts)}"
