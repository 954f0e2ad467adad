"""The NumPy backend, which is also the specification: every backend exports these functions.

What a backend may rely on, because `rtfast.kernels` and the program builder see to it:
arrays are C-contiguous, aligned and of one dtype, float32 or float64; shapes fit together,
any dimension may be 0; inputs may be read-only; `out` arrays are allocated and overlap no
input except where "out may be x" is said. NaN and infinities go the way of IEEE 754 and
raise no warning. Argument order: inputs, weights, scalars, outputs.

B batch, T target (query) length, S source (key) length. Section numbers are those of
"Attention Is All You Need".
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from rtfast.activations import ACTIVATIONS, ELEMENTARY
from rtfast.norms import NORMS
from rtfast.reference.erfc import erf, erfc

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    from rtfast.typing import Array, Bools, DType, Floats, Ids, Shape

    Arguments = ParamSpec("Arguments")

__all__ = [
    "PackedWeight", "large_memory", "pack", "packed_empty", "matmul", "linear", "activate", "softmax", "layer_norm",
    "add_layer_norm", "attention", "embedding", "argmax", "top_k", "can_screen", "screen", "set_num_threads",
    "get_num_threads",
]

_num_threads = 1


def _without_warnings(function: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """`function` with NumPy's floating-point warnings off, for this thread and this call."""
    @functools.wraps(function)
    def quiet(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        with np.errstate(all="ignore"):
            function(*args, **kwargs)
    return quiet


class PackedWeight:
    """A weight (d_in, d_out) in the layout that the backend multiplies fastest: here, as it came."""

    __slots__ = ("_values",)

    def __init__(self, weight: Floats) -> None:
        self._values = np.array(weight, order="C")

    @property
    def shape(self) -> tuple[int, int]:
        """(d_in, d_out)."""
        d_in, d_out = self._values.shape
        return d_in, d_out

    @property
    def dtype(self) -> DType:
        """float32 or float64."""
        return self._values.dtype

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return self._values.nbytes

    def put_columns(self, first: int, block: Floats) -> None:
        """Columns `first` and following, given side by side as rows: block (n, d_in)."""
        self._values[:, first:first + len(block)] = block.T

    def put_rows(self, first: int, first_column: int, block: Floats) -> None:
        """Rows `first` and following of the columns from first_column on: block (n, columns)."""
        self._values[first:first + len(block), first_column:first_column + block.shape[1]] = block

    def unpack(self) -> Floats:
        """A new plain array (d_in, d_out) of the same values."""
        return self._values.copy()


def large_memory() -> None:
    """A place for packed weights to lie side by side: `memory` of `pack` and `packed_empty`. Here NumPy's own, None."""
    return None


def packed_empty(d_in: int, d_out: int, dtype: DType, memory: None = None) -> PackedWeight:
    """A PackedWeight (d_in, d_out) whose columns or rows are still to be put, all of them."""
    return PackedWeight(np.empty((d_in, d_out), dtype))


def pack(weight: Floats, transposed: bool = False, memory: None = None) -> PackedWeight:
    """A PackedWeight with a copy of weight (d_in, d_out), or of one that lies transposed as (d_out, d_in).

    memory: what `large_memory` gave, or None.
    """
    return PackedWeight(weight.T if transposed else weight)


def _plain(weight: Floats | PackedWeight) -> Floats:
    return weight._values if isinstance(weight, PackedWeight) else weight


@_without_warnings
def matmul(a: Floats, b: Floats | PackedWeight, out: Floats) -> None:
    """out (B, m, n) = a (B, m, k) @ b; b is (k, n), (B, k, n) or a PackedWeight (k, n)."""
    np.matmul(a, _plain(b), out=out)


@_without_warnings
def linear(x: Floats, weight: Floats | PackedWeight, bias: Floats | None, activation: int, out: Floats) -> None:
    """out (rows, d_out) = activation(x @ weight + bias), section 3.3.

    x (rows, d_in); weight (d_in, d_out) or PackedWeight; bias (d_out,) or None; activation a code.
    """
    np.matmul(x, _plain(weight), out=out)
    if bias is not None:
        out += bias
    if activation != ACTIVATIONS[None]:
        flat = out.reshape(-1)
        activate(flat, activation, flat)


def _sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), never through an exp that overflows."""
    decay = np.exp(-np.abs(x))
    result: Floats = np.where(x >= 0, 1, decay) / (1 + decay)
    return result


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


def _gelu(x: Floats) -> Floats:
    """x Phi(x), through erfc because 1 + erf cancels for negative x."""
    return x * (0.5 * erfc(x.astype(np.float64) * -math.sqrt(0.5)))


def _gelu_tanh(x: Floats) -> Floats:
    """x (1 + tanh u) / 2 = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    return x * _sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * (x * x * x)))


def _silu(x: Floats) -> Floats:
    return x * _sigmoid(x)


def _erf(x: Floats) -> Floats:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return erf(x.astype(np.float64))


_FORMULAS: dict[int, Callable[[Floats], Floats]] = {
    ACTIVATIONS[None]: np.copy,
    ACTIVATIONS["relu"]: _relu,
    ACTIVATIONS["gelu"]: _gelu,
    ACTIVATIONS["gelu_tanh"]: _gelu_tanh,
    ACTIVATIONS["silu"]: _silu,
    ELEMENTARY["exp"]: np.exp,
    ELEMENTARY["erf"]: _erf,
    ELEMENTARY["tanh"]: np.tanh,
}


@_without_warnings
def activate(x: Floats, activation: int, out: Floats) -> None:
    """out (n,) = activation(x (n,)), activation a code of `rtfast.activations` (either table); out may be x.

    The errors of all of them are small against |x|. relu keeps NaN; -inf gives NaN except under
    relu (it is -inf * 0 in the others' formulas) and under no activation.
    """
    out[...] = _FORMULAS[activation](x)


def _softmax(x: Floats, allowed: Bools | None, out: Floats | None, article: bool = False) -> Floats:
    """Softmax of the last axis over the `allowed` elements (None: all); nothing allowed gives zeros.

    article: without subtracting the maximum first, so that large numbers overflow to NaN.
    """
    everywhere = True if allowed is None else allowed
    peak = 0 if article else np.max(x, axis=-1, keepdims=True, initial=-np.inf, where=everywhere)
    powers = np.exp(x - peak)
    if allowed is not None:
        powers = np.where(allowed, powers, 0)
    total = powers.sum(axis=-1, keepdims=True)
    if allowed is not None:
        total[~allowed.any(axis=-1)] = 1
    result: Floats = np.divide(powers, total, out=out)
    if allowed is not None:  # also where the total is NaN
        np.copyto(result, 0, where=~allowed)
    return result


@_without_warnings
def softmax(x: Floats, out: Floats) -> None:
    """out (rows, n) = softmax of each row of x (rows, n), section 3.2.1; out may be x."""
    _softmax(x, None, out)


@_without_warnings
def layer_norm(x: Floats, gamma: Floats | None, beta: Floats | None, eps: float, form: int, out: Floats) -> None:
    """out (rows, d) = (x - mean) / sqrt(variance + eps) * gamma + beta by row, section 3.1.

    x (rows, d), out may be x; gamma, beta (d,) or None each. form: a code of rtfast/norms.py: "article" divides
    by (std + eps), "rms" takes the mean for 0. Mean and variance are the population's, in x's own precision.
    """
    width = x.shape[-1]
    centred = x if form == NORMS["rms"] else x - x.sum(axis=-1, keepdims=True) / width
    variance = (centred * centred).sum(axis=-1, keepdims=True) / width
    spread = np.sqrt(variance) + eps if form == NORMS["article"] else np.sqrt(variance + eps)
    np.divide(centred, spread, out=out)
    if gamma is not None:
        out *= gamma
    if beta is not None:
        out += beta


@_without_warnings
def add_layer_norm(x: Floats, y: Floats, gamma: Floats | None, beta: Floats | None, eps: float, form: int,
                   residual: Floats | None, out: Floats) -> None:
    """out (rows, d) = layer_norm(x + y), section 3.1; residual (rows, d) or None receives x + y."""
    layer_norm(np.add(x, y, out=residual), gamma, beta, eps, form, out)


def _allowed(mask: Array | None, causal: bool, shape: Shape) -> Bools | None:
    """Which query may attend which key, boolean (B, T, S), or None for all of them."""
    _, target, source = shape
    allowed = None if mask is None else mask.astype(bool)
    if causal:
        earlier = np.tri(target, source, source - target, dtype=bool)  # the last query sees every key
        allowed = np.broadcast_to(earlier, shape) if allowed is None else allowed & earlier
    return allowed


def _weighted_values(weights: Floats, v: Floats, allowed: Bools | None, out: Floats) -> None:
    """out (B, T, d_value) = weights (B, T, S) @ v (B, S, d_value) over the allowed pairs.

    Forbidden pairs have weight 0, which is enough where v is finite. An infinite or NaN value
    is added afterwards, to the rows that may attend it.
    """
    finite = np.isfinite(v)
    if allowed is None or finite.all():
        np.matmul(weights, v, out=out)
        return
    np.matmul(weights, np.where(finite, v, 0), out=out)
    for b, s in np.argwhere(~finite.all(axis=-1)):
        term = weights[b, :, s, None] * np.where(finite[b, s], 0, v[b, s])
        np.add(out[b], term, out=out[b], where=allowed[b, :, s, None])


@_without_warnings
def attention(q: Floats, k: Floats, v: Floats, mask: Array | None, causal: bool, scale: float, out: Floats,
              scores: Floats | None, scaled_scores: Floats | None, weights: Floats | None,
              article_softmax: bool = False) -> None:
    """out (B, T, d_value) = softmax(scale q k^T) v, section 3.2.1; B counts batch times heads.

    q (B, T, d_key); k (B, S, d_key); v (B, S, d_value); mask None or (B, T, S) boolean or uint8,
    nonzero where query t may attend key s. causal: it may also attend only s <= S - T + t, so
    that the last query meets the last key. A query that may attend nothing gives zeros. Keys and
    values that a query may not attend have no influence on it, even NaN or infinite.
    scores, scaled_scores, weights: each None or (B, T, S), receive q k^T, scale q k^T and the
    softmax. Forbidden pairs keep their raw product in the first two and are 0 in weights.
    article_softmax: exp(x) / sum without subtracting the maximum, as the article's code.
    """
    _attend(q, k, v, mask, causal, scale, out, scores, scaled_scores, weights, article_softmax, None)


def _attend(q: Floats, k: Floats, v: Floats, mask: Array | None, causal: bool, scale: float, out: Floats,
            scores: Floats | None, scaled_scores: Floats | None, weights: Floats | None, article_softmax: bool,
            position_bias: Floats | None, given: tuple[str, Floats] | None = None) -> None:
    """`attention` for the executor: position_bias, None or (B, T, S), is added to the scaled scores.

    given: None, or which of "scores", "scaled_scores" and "weights" is not computed, and its values (B, T, S) instead;
    weights may then reach what is hidden.
    """
    given, values = given or (None, None)
    scores = np.matmul(q, k.swapaxes(1, 2), out=scores)
    if given == "scores":
        scores[...] = values
    scaled_scores = np.multiply(scores, scale, out=scaled_scores)
    if position_bias is not None:
        scaled_scores += position_bias
    if given == "scaled_scores":
        scaled_scores[...] = values
    allowed = _allowed(mask, causal, scores.shape)
    weights = _softmax(scaled_scores, allowed, weights, article_softmax)
    if given == "weights":
        weights[...], allowed = values, None
    _weighted_values(weights, v, allowed, out)


@_without_warnings
def embedding(ids: Ids, table: Floats, scale: float, positions: Ids | None, positional: Floats | None,
              out: Floats) -> None:
    """out[r] = table[ids[r]] * scale + positional[positions[r]], sections 3.4 and 3.5.

    ids (rows,) int64 within the table; table (vocabulary, d); scale a float; positions (rows,)
    int64 and positional (length, d), or None both; out (rows, d).
    """
    np.multiply(table[ids], scale, out=out)
    if positional is not None:
        out += positional[positions]


def argmax(x: Floats, out: Ids) -> None:
    """out (rows,) int64 = index of the first maximum of each row of x (rows, n), n >= 1; NaN is one."""
    out[...] = x.argmax(axis=-1)


def can_screen() -> bool:
    """Whether `screen` can make anything: a faster way to the likeliest words (csrc/screen.pxi)."""
    return False


def screen(packed: PackedWeight, bias: Floats | None) -> None:
    """What programs with the ops "screen" and "pick" need of a packed weight, or None: here always."""
    return None


@_without_warnings
def top_k(x: Floats, k: int, log_softmax: bool, values: Floats, ids: Ids) -> None:
    """values, ids (rows, k) = the k largest numbers of each row of x (rows, n), descending, and where they are.

    Of equal ones the first comes first; a NaN counts as the largest. log_softmax: of the values, of the whole row.
    k: from 1 to n, at most 64.
    """
    ranks = np.where(np.isnan(x), -np.inf, -x)
    places = np.lexsort((np.broadcast_to(~np.isnan(x), x.shape), ranks), axis=-1)[:, :k]
    values[...] = np.take_along_axis(x, places, axis=-1)
    ids[...] = places
    if log_softmax:
        largest = x.max(axis=-1, keepdims=True)
        values -= largest
        values -= np.log(np.exp(x - largest).sum(axis=-1, keepdims=True))



def set_num_threads(n: int) -> None:
    """Remember n >= 1, without effect: the reference runs on the calling thread, NumPy's BLAS on its own."""
    global _num_threads
    _num_threads = n


def get_num_threads() -> int:
    """The n of the last set_num_threads, 1 before."""
    return _num_threads
