"""The kernels on plain arrays: checks here, arithmetic in the backend.

For all of them: arrays are float32 or float64 and alike within a call, and may be strided,
transposed, unaligned or read-only; arrays of other libraries (tensors of PyTorch on the CPU, arrays of
Arrow, memoryviews, DLPack) are read where they lie; lists, tuples and numbers take the dtype of the
arrays beside them, else float64. The result is a new C-contiguous array or `out`, a
writeable array of exactly the result's shape and dtype, which may overlap inputs, but not itself.
A wrong type or dtype raises TypeError, a wrong shape or value ValueError; the message names the
argument. Dimensions may be 0. NaN and infinities go the way of IEEE 754, without warnings.

Section numbers are those of "Attention Is All You Need".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from rtfast import backends
from rtfast.activations import ACTIVATIONS, ELEMENTARY
from rtfast.arguments import (
    FLOATS,
    as_matrices,
    as_rows,
    count,
    deliver,
    floating,
    has_axes,
    integer,
    integers_below,
    is_packed,
    is_vector,
    output,
    real,
    switch,
    tidy,
)
from rtfast.foreign_arrays import as_array

if TYPE_CHECKING:
    from rtfast.typing import Array, ArrayLike, DTypeLike, Floats, Ids, Packed, Shape

__all__ = [
    "pack", "matmul", "linear", "activate", "exp", "erf", "tanh", "softmax", "layer_norm", "add_layer_norm",
    "attention", "embedding", "argmax", "top_k", "positional_encoding",
]

#: The largest k of `top_k`.
MOST_TOP = 64

#: Of a table of positions: more than any memory holds.
MOST_ELEMENTS = 2**48

#: Bytes of a weight that is worth pages of memory of its own.
LARGE_WEIGHT = 4 << 20


def __getattr__(name: str) -> Any:
    """`C_API`: the kernels of the active backend for C and Cython, a capsule (see rtfast/include/rtfast.h)."""
    if name != "C_API":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if backends.backend() == "python":
        raise ImportError("rtfast.kernels.C_API needs a compiled backend, but backend 'python' runs now")
    compiled: Any = backends.active()
    return compiled.C_API


def pack(weight: ArrayLike | Packed) -> Packed:
    """A copy of `weight` (d_in, d_out) in the layout that the running backend multiplies fastest.

    Worth it for a weight that is used again: as `weight` of `linear` or `b` of `matmul` it gives the
    same bits as the plain array. It has `shape`, `dtype` and `unpack()`, and belongs to the backend
    that packed it: another one raises TypeError. A weight packed already is returned as it is.
    """
    weight, _ = floating("pack", weight=weight)
    packed: Packed
    if is_packed(weight):
        packed = weight
        return packed
    if weight.ndim != 2:
        raise ValueError(f"pack: weight must have shape (d_in, d_out), got {weight.shape}")
    backend = backends.active()
    packed = backend.pack(weight, False, backend.large_memory() if weight.nbytes >= LARGE_WEIGHT else None)
    return packed


def matmul(a: ArrayLike, b: ArrayLike | Packed, out: Floats | None = None) -> Floats:
    """The matrix product: (..., m, k) @ (k, n) or (..., k, n) -> (..., m, n).

    Leading axes broadcast as in NumPy; b may be packed. With k = 0 the result is zeros.

    Raises TypeError for what is no array of real numbers and for an `out` of another type, ValueError for shapes that
    do not fit and for an `out` of another shape, read-only or overlapping itself; both name the argument.
    """
    result = backends.active().matmul_directly(a, b, out)
    if result is not None:
        return result
    a, b, dtype = floating("matmul", a=a, b=b)
    has_axes("matmul", "a", a, 2)
    has_axes("matmul", "b", b, 2)
    inner = a.shape[-1]
    if b.shape[-2] != inner:
        raise ValueError(
            f"matmul: b must have shape (k, n) or (..., k, n) with k = a.shape[-1] = {inner}, got {b.shape}")
    if len(b.shape) == 2:
        shape = (*a.shape[:-1], b.shape[1])
        a = as_rows(a)[None]  # one product of many rows
    else:
        leading = a.shape[:-2]
        if b.shape[:-2] != leading:
            leading = _broadcast(a, b)
            a = tidy(np.broadcast_to(a, (*leading, *a.shape[-2:])))
            b = tidy(np.broadcast_to(b, (*leading, *b.shape[-2:])))
        shape = (*leading, a.shape[-2], b.shape[-1])
        a, b = as_matrices(a), as_matrices(b)
    result = output("matmul", out, shape, dtype, a, b)
    backends.active().matmul(a, b, result.reshape(a.shape[0], a.shape[1], shape[-1]))
    return deliver(result, out)


def _broadcast(a: Array, b: Array) -> Shape:
    try:
        return np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except (ValueError, RuntimeError):  # the latter for more axes than NumPy knows
        raise ValueError(
            f"matmul: leading axes of a {a.shape[:-2]} and b {b.shape[:-2]} must broadcast, "
            f"got a {a.shape} and b {b.shape}") from None


def linear(x: ArrayLike, weight: ArrayLike | Packed, bias: ArrayLike | None = None, activation: str | None = None,
           out: Floats | None = None) -> Floats:
    """activation(x @ weight + bias), section 3.3: (..., d_in) -> (..., d_out).

    weight (d_in, d_out), plain or packed; bias (d_out,) or None; activation None, 'relu', 'gelu',
    'gelu_tanh' or 'silu'. Raises as `matmul`, and ValueError for another activation.
    """
    code = _activation_code("linear", activation)
    result = backends.active().linear_directly(x, weight, bias, code, out)
    if result is not None:
        return result
    x, weight, bias, dtype = floating("linear", x=x, weight=weight, bias=bias)
    has_axes("linear", "x", x, 1)
    d_in = x.shape[-1]
    if len(weight.shape) != 2 or weight.shape[0] != d_in:
        raise ValueError(
            f"linear: weight must have shape (d_in, d_out) with d_in = x.shape[-1] = {d_in}, "
            f"got {weight.shape}")
    d_out = weight.shape[1]
    is_vector("linear", "bias", bias, d_out, "d_out")
    result = output("linear", out, (*x.shape[:-1], d_out), dtype, x, weight, bias)
    backends.active().linear(as_rows(x), weight, bias, code, as_rows(result))
    return deliver(result, out)


def _activation_code(function: str, activation: object) -> int:
    if activation is None or isinstance(activation, str):
        code = ACTIVATIONS.get(activation)
        if code is not None:
            return code
    choices = ", ".join(repr(name) for name in ACTIVATIONS)
    raise ValueError(f"{function}: activation must be one of {choices}, got {activation!r}")


def activate(x: ArrayLike, activation: str | None, out: Floats | None = None) -> Floats:
    """The activation of every element: x of any shape -> the same shape. out may be x.

    activation None, 'relu' (section 3.3), 'gelu' (x Phi(x)), 'gelu_tanh' or 'silu' (x sigmoid(x)).
    """
    x, dtype = floating("activate", x=x)
    code = _activation_code("activate", activation)
    result = _elementwise_output("activate", out, x)
    backends.active().activate(x.reshape(-1), code, result.reshape(-1))
    return deliver(result, out)


def exp(x: ArrayLike, out: Floats | None = None) -> Floats:
    """e^x of every element, as softmax uses it: x of any shape -> the same shape. out may be x.

    The largest error, in units of the last place, is in docs/kernels.md; likewise for erf and tanh.
    """
    return _elementary("exp", x, out)


def erf(x: ArrayLike, out: Floats | None = None) -> Floats:
    """The error function of every element, as GELU uses it: x of any shape -> the same shape. out may be x."""
    return _elementary("erf", x, out)


def tanh(x: ArrayLike, out: Floats | None = None) -> Floats:
    """The hyperbolic tangent of every element: x of any shape -> the same shape. out may be x."""
    return _elementary("tanh", x, out)


def _elementary(function: str, x: ArrayLike, out: Floats | None) -> Floats:
    x, _ = floating(function, x=x)
    result = _elementwise_output(function, out, x)
    backends.active().activate(x.reshape(-1), ELEMENTARY[function], result.reshape(-1))
    return deliver(result, out)


def _elementwise_output(function: str, out: Floats | None, x: Array, *weights: Array | None) -> Array:
    """As `output`, of x's shape; here out may be x itself."""
    inputs = weights if out is x else (x, *weights)
    return output(function, out, x.shape, x.dtype, *inputs)


def softmax(x: ArrayLike, out: Floats | None = None) -> Floats:
    """exp(x) / sum(exp(x)) along the last axis, section 3.2.1: (..., n) -> (..., n). out may be x.

    A row of -inf only gives NaN, as its sum is 0. Raises as `matmul`.

    >>> softmax([[1.0, 1.0, 2.0], [0.0, 0.0, 1000.0]]).round(3)
    array([[0.212, 0.212, 0.576],
           [0.   , 0.   , 1.   ]])
    """
    result = backends.active().softmax_directly(x, out)
    if result is not None:
        return result
    x, _ = floating("softmax", x=x)
    has_axes("softmax", "x", x, 1)
    result = _elementwise_output("softmax", out, x)
    backends.active().softmax(as_rows(x), as_rows(result))
    return deliver(result, out)


def layer_norm(x: ArrayLike, gamma: ArrayLike | None = None, beta: ArrayLike | None = None, eps: float = 1e-5,
               out: Floats | None = None, article: bool = False) -> Floats:
    """(x - mean) / sqrt(variance + eps) * gamma + beta along the last axis, section 3.1.

    (..., d) -> (..., d); gamma and beta (d,) or None each; variance is the population's;
    article=True divides by (std + eps), as the article "The Random Transformer" does. eps is
    finite and >= 0. out may be x. Where squares overflow (float32: numbers beyond 1e19 or so) the
    variance is infinite, and the result beta or NaN. Raises as `matmul`, and ValueError for another eps.
    """
    if article is not False:
        article = switch("layer_norm", "article", article)
    result = backends.active().layer_norm_directly(x, None, gamma, beta, eps, article, out)
    if result is not None:
        return result
    x, gamma, beta, _ = floating("layer_norm", x=x, gamma=gamma, beta=beta)
    eps = _check_norm("layer_norm", x, gamma, beta, eps)
    result = _elementwise_output("layer_norm", out, x, gamma, beta)
    backends.active().layer_norm(as_rows(x), gamma, beta, eps, article, as_rows(result))
    return deliver(result, out)


def add_layer_norm(x: ArrayLike, y: ArrayLike, gamma: ArrayLike | None = None, beta: ArrayLike | None = None,
                   eps: float = 1e-5, out: Floats | None = None, article: bool = False) -> Floats:
    """layer_norm(x + y), the end of every sub-layer, section 3.1: (..., d), (..., d) -> (..., d).

    x and y have one shape; the rest as in `layer_norm`.
    """
    if article is not False:
        article = switch("add_layer_norm", "article", article)
    if y is not None:
        result = backends.active().layer_norm_directly(x, y, gamma, beta, eps, article, out)
        if result is not None:
            return result
    x, y, gamma, beta, dtype = floating("add_layer_norm", x=x, y=y, gamma=gamma, beta=beta)
    eps = _check_norm("add_layer_norm", x, gamma, beta, eps)
    if y.shape != x.shape:
        raise ValueError(f"add_layer_norm: y must have x's shape {x.shape}, got {y.shape}")
    result = output("add_layer_norm", out, x.shape, dtype, x, y, gamma, beta)
    backends.active().add_layer_norm(
        as_rows(x), as_rows(y), gamma, beta, eps, article, None, as_rows(result))
    return deliver(result, out)


def _check_norm(function: str, x: Array, gamma: Array | None, beta: Array | None, eps: Any) -> float:
    has_axes(function, "x", x, 1)
    is_vector(function, "gamma", gamma, x.shape[-1], "x.shape[-1]")
    is_vector(function, "beta", beta, x.shape[-1], "x.shape[-1]")
    number = real(function, "eps", eps)
    if not 0 <= number < math.inf:
        raise ValueError(f"{function}: eps must be finite and >= 0, got {eps}")
    return number


@overload
def attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, mask: ArrayLike | None = None, causal: bool = False,
              scale: float | None = None, return_weights: Literal[False] = False) -> Floats: ...
@overload
def attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, mask: ArrayLike | None = None, causal: bool = False,
              scale: float | None = None, *, return_weights: Literal[True]) -> tuple[Floats, Floats]: ...


def attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, mask: ArrayLike | None = None, causal: bool = False,
              scale: float | None = None, return_weights: bool = False) -> Floats | tuple[Floats, Floats]:
    """Scaled dot-product attention, section 3.2.1: softmax(scale q k^T) v.

    q (..., heads, T, d_key), k (..., heads, S, d_key), v (..., heads, S, d_value) with equal leading
    axes, any number of them -> (..., heads, T, d_value); with return_weights also the softmax
    (..., heads, T, S), as the second of a pair.

    mask: boolean, broadcastable to (..., heads, T, S), True where a query may attend a key. causal: a
    query may not attend later keys, the last query and the last key being aligned. scale multiplies
    the scores, 1 / sqrt(d_key) by default. A query that may attend nothing gives zeros; keys and
    values that it may not attend have no influence, even if they are NaN. Raises as `matmul`, and
    TypeError for a mask that is not boolean.

    One query, two keys; the first is like the query and gets two thirds of its attention:

    >>> q, k, v = [[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[10.0], [20.0]]
    >>> out, weights = attention(q, k, v, return_weights=True)
    >>> weights.round(2), out.round(1)
    (array([[0.67, 0.33]]), array([[13.3]]))
    >>> attention(q, k, v, mask=[[False, True]])
    array([[20.]])
    """
    if causal is not False:
        causal = switch("attention", "causal", causal)
    if return_weights is not False:
        return_weights = switch("attention", "return_weights", return_weights)
    if mask is None and not return_weights:
        result = backends.active().attention_directly(q, k, v, causal, scale)
        if result is not None:
            return result
    q, k, v, dtype = floating("attention", q=q, k=k, v=v)
    for name, array in (("q", q), ("k", k), ("v", v)):
        has_axes("attention", name, array, 2)
    leading, (target, d_key) = q.shape[:-2], q.shape[-2:]
    source, d_value = v.shape[-2:]
    if k.shape[:-2] != leading or k.shape[-1] != d_key:
        raise ValueError(
            f"attention: k must have shape (..., S, d_key) with q's leading axes {leading} and "
            f"d_key = q.shape[-1] = {d_key}, got {k.shape}")
    if v.shape[:-1] != k.shape[:-1]:
        raise ValueError(
            f"attention: v must have shape (..., S, d_value) with k's (..., S) = {k.shape[:-1]}, "
            f"got {v.shape}")
    scale = 1 / math.sqrt(d_key or 1) if scale is None else real("attention", "scale", scale)
    if mask is not None:
        mask = _attention_mask(mask, (*leading, target, source))
    q, k, v = as_matrices(q), as_matrices(k), as_matrices(v)
    batch = q.shape[0]
    out = np.empty((batch, target, d_value), dtype)
    weights = np.empty((batch, target, source), dtype) if return_weights else None
    backends.active().attention(q, k, v, mask, causal, scale, out, None, None, weights)
    out = out.reshape(*leading, target, d_value)
    if weights is not None:
        return out, weights.reshape(*leading, target, source)
    return out


def _attention_mask(mask: Any, shape: Shape) -> Array:
    """`mask` broadcast to `shape` (..., T, S), as uint8 (batch, T, S)."""
    try:
        mask = as_array(mask)
    except ValueError as error:  # ragged
        raise ValueError(f"attention: mask must be a rectangular list of booleans: {error}") from None
    except TypeError as error:
        raise TypeError(f"attention: mask must be boolean and in the CPU's memory, got {error}") from None
    if mask.dtype != np.bool_:
        raise TypeError(
            f"attention: mask must be boolean, True where a query may attend a key, got {mask.dtype}; "
            "convert with mask != 0 (1 = may attend) or mask == 0 (additive mask, 0 = may attend)")
    try:
        mask = np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"attention: mask must broadcast to (..., T, S) = {shape}, got {mask.shape}") from None
    return as_matrices(tidy(mask)).view(np.uint8)


def embedding(ids: ArrayLike, table: ArrayLike, out: Floats | None = None) -> Floats:
    """The rows of `table` (vocabulary, d) that `ids` name, section 3.4: ids (...) -> (..., d).

    ids: integers of any shape; one outside 0 <= id < vocabulary raises ValueError, anything but
    integers TypeError.
    """
    table, dtype = floating("embedding", table=table)
    if table.ndim != 2:
        raise ValueError(f"embedding: table must have shape (vocabulary, d), got {table.shape}")
    ids = integers_below("embedding", "ids", ids, table.shape[0], "the vocabulary size")
    result = output("embedding", out, (*ids.shape, table.shape[1]), dtype, table)
    backends.active().embedding(ids.reshape(-1), table, 1.0, None, None, as_rows(result))
    return deliver(result, out)


def argmax(x: ArrayLike) -> Any:
    """Index of the first maximum along the last axis, int64: (..., n) -> (...); the first NaN wins.

    Raises ValueError for n = 0. For x (n,) the result is a NumPy integer.
    """
    x, _ = floating("argmax", x=x)
    has_axes("argmax", "x", x, 1)
    if x.shape[-1] == 0:
        raise ValueError(f"argmax: the last axis must not be empty, got shape {x.shape}")
    result = np.empty(x.shape[:-1], np.int64)
    backends.active().argmax(as_rows(x), result.reshape(-1))
    return result[()]


def top_k(x: ArrayLike, k: int, log_softmax: bool = False) -> tuple[Floats, Ids]:
    """The k largest numbers along the last axis, descending, and where they are: (..., n) -> two of (..., min(k, n)).

    Of equal ones the first comes first; a NaN counts as the largest. log_softmax: the values are those of
    log(softmax(x)) along the whole axis. Returns (values, indices int64).

    Raises ValueError for n = 0 and a k that is not from 1 to 64, TypeError for one that is no integer and a log_softmax
    that is no switch.
    """
    x, dtype = floating("top_k", x=x)
    has_axes("top_k", "x", x, 1)
    if x.shape[-1] == 0:
        raise ValueError(f"top_k: the last axis must not be empty, got shape {x.shape}")
    k, log_softmax = integer("top_k", "k", k), switch("top_k", "log_softmax", log_softmax)
    if not 1 <= k <= MOST_TOP:
        raise ValueError(f"top_k: k must be from 1 to {MOST_TOP}, got {k}")
    shape = (*x.shape[:-1], min(k, x.shape[-1]))
    values, indices = np.empty(shape, dtype), np.empty(shape, np.int64)
    backends.active().top_k(as_rows(x), shape[-1], log_softmax, as_rows(values), as_rows(indices))
    return values, indices


def positional_encoding(length: int, d_model: int, article: bool = False, dtype: DTypeLike = np.float64) -> Floats:
    """The sinusoids that mark positions, section 3.5: a table (length, d_model).

    Columns 2i and 2i + 1 hold the sine and cosine of position / 10000^(2i / d_model). article: column
    j, sine if even and cosine if odd, has its own 10000^(2j / d_model), as in the article "The Random
    Transformer". Computed in float64, then cast to dtype, float32 or float64.

    Raises TypeError for sizes that are no integers, another dtype and an `article` that is no switch, ValueError for
    sizes below 0 or beyond all memory.
    """
    length = count("positional_encoding", "length", length)
    d_model = count("positional_encoding", "d_model", d_model)
    article = switch("positional_encoding", "article", article)
    try:
        wanted: Any = np.dtype(dtype)
    except (TypeError, ValueError):
        wanted = repr(dtype)
    if wanted not in FLOATS:
        raise TypeError(f"positional_encoding: dtype must be float32 or float64, got {wanted}")
    if max(length, 1) * max(d_model, 1) >= MOST_ELEMENTS:
        raise ValueError(f"positional_encoding: length * d_model must be < 2**48, got {length} * {d_model}")
    columns = np.arange(d_model)
    frequency_index = columns if article else columns // 2
    # By the C library: NumPy's powers have other last bits on other CPUs.
    periods = [math.pow(10000.0, 2 * i / (d_model or 1)) for i in frequency_index.tolist()]
    angles = np.arange(length)[:, None] / np.array(periods, np.float64)
    table = np.empty((length, d_model), dtype)
    table[:, 0::2] = np.sin(angles[:, 0::2])
    table[:, 1::2] = np.cos(angles[:, 1::2])
    return table
