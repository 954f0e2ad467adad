"""The error function and its complement, which GELU needs and NumPy lacks.

Both formulas are exact mathematics cut off below one rounding error: no fitted constant.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rtfast.typing import Array

#: Below it the Maclaurin series of erf, above it the integral.
_SWITCH = 0.5
#: (-1)^n / (n! (2n + 1)): the series' last term at _SWITCH is below 1e-19.
_SERIES = [(-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(14)]
#: The trapezoid rule's step. Its error, exp(-(pi / step)^2) = 7e-18, is below one rounding.
_STEP = 0.5
#: Squares t^2 of its nodes t = step, 2 step, ...: the first one left out weighs exp(-42).
_NODES = [(n * _STEP) ** 2 for n in range(1, 13)]
#: erfc underflows to 0 before it.
_END = 28.0


def erfc(x: Array) -> Array:
    """1 - erf(x) in float64, at most 5 ULP off down to the denormals; NaN stays NaN.

    x: array of any shape. Returns a float64 array of that shape.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        size = np.minimum(np.abs(x), _END)
        positive = np.where(size < _SWITCH, _series(size), _integral(size))
        return np.where(x < 0, 2 - positive, positive)


def erf(x: Array) -> Array:
    """erf(x) in float64, at most 5 ULP off; NaN stays NaN. x: array of any shape. Returns a float64 array of it."""
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        size = np.minimum(np.abs(x), _END)
        positive = np.where(size < _SWITCH, _small(size), 1 - _integral(size))
        return np.copysign(positive, x)


def _series(x: Array) -> Array:
    """erfc for 0 <= x < _SWITCH."""
    return 1 - _small(x)


def _small(x: Array) -> Array:
    """erf(x) = 2 / sqrt(pi) (x - x^3 / 3 + x^5 / 10 - ...) for 0 <= x < _SWITCH."""
    square = x * x
    total = 0.0
    for coefficient in reversed(_SERIES):
        total = total * square + coefficient
    return (2 / math.sqrt(math.pi)) * x * total


def _integral(x: Array) -> Array:
    """2 x / pi exp(-x^2) times the integral of exp(-t^2) / (x^2 + t^2) over t > 0, by the trapezoid rule.

    The rule misses by exponentially little once the poles t = +-i x are paid for, which takes
    2 / (e^(2 pi x / step) - 1) off.
    """
    square = x * x
    nodes = 0.0
    for node in reversed(_NODES):  # the smallest first
        nodes = nodes + (2 * _STEP / math.pi) * math.exp(-node) / (square + node)
    factor = x * nodes + (_STEP / math.pi) / x
    # The exponential would enlarge the square's rounding error x^2-fold: split x, so that head^2 is exact.
    head = x.astype(np.float32).astype(np.float64)
    gauss = np.exp(-head * head)
    gauss = gauss + gauss * np.expm1((head - x) * (head + x))
    poles = np.where(x < 6, 2 / np.expm1((2 * math.pi / _STEP) * x), 0)
    result: Array = gauss * factor - poles
    return result
