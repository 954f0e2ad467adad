"""Calls with plain arrays, without a detour: here there is none that is quicker.

A compiled backend checks the common case itself, computes and returns the result; None says that
rtfast/kernels.py must look at the arguments. NumPy would gain nothing: it is always None.
"""

__all__ = ["attention_directly", "layer_norm_directly", "linear_directly", "matmul_directly", "softmax_directly"]


def softmax_directly(x, out):
    return None


def layer_norm_directly(x, y, gamma, beta, eps, article, out):
    return None


def linear_directly(x, weight, bias, activation, out):
    return None


def matmul_directly(a, b, out):
    return None


def attention_directly(q, k, v, causal, scale):
    return None
