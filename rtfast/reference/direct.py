"""Calls with plain arrays, without a detour: here there is none that is quicker.

A compiled backend checks the common case itself, computes and returns the result; None says that
rtfast/kernels.py must look at the arguments. NumPy would gain nothing: it is always None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtfast.typing import Floats

__all__ = ["attention_directly", "layer_norm_directly", "linear_directly", "matmul_directly", "softmax_directly"]


def softmax_directly(x: Any, out: Any) -> Floats | None:
    return None


def layer_norm_directly(x: Any, y: Any, gamma: Any, beta: Any, eps: Any, article: Any, out: Any) -> Floats | None:
    return None


def linear_directly(x: Any, weight: Any, bias: Any, activation: int, out: Any) -> Floats | None:
    return None


def matmul_directly(a: Any, b: Any, out: Any) -> Floats | None:
    return None


def attention_directly(q: Any, k: Any, v: Any, causal: bool, scale: Any) -> Floats | None:
    return None
