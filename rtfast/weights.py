"""The one table of every weight's name and shape, and the arrays that fill it.

Names are those of a trace; a matrix is (d_in, d_out), to be used as x @ weight. A row of the embedding is
a word.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast.config import check_config, shown
from rtfast.foreign_arrays import as_array
from rtfast.safetensors_file import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtfast.config import Config
    from rtfast.safetensors_file import StoredTensor
    from rtfast.typing import Array, DTypeLike, Shape

#: Weights that may be left out, and what they are then: the article's convention (gamma 1, beta 0, no bias).
DEFAULTS = {".gamma": 1.0, ".beta": 0.0, ".bias": 0.0}

#: More layers than this, and than there are weights, are refused before the missing ones are listed.
MAX_MISSING_LAYERS = 100

#: A file may ask for a table of positions of so many elements, or of as many as its weights have.
MAX_POSITIONS = 2**20

#: So many names of a kind fit an error message: a hostile config could ask for half a million.
MAX_LISTED = 1000

_BY_HEAD = {".query.weight": "d_key", ".key.weight": "d_key", ".value.weight": "d_value"}
#: Standard deviation of random biases: small beside the unit variance of what they are added to.
_BIAS_SCALE = 0.02


def weight_shapes(config: Config) -> dict[str, Shape]:
    """`{name: shape}` of every weight of a model, in the order of use.

    H heads: query and key (d_model, H * d_key), value (d_model, H * d_value), head after head in the columns,
    and the output projection (H * d_value, d_model) of section 3.2.2; feed-forward (d_model, d_ff) and
    (d_ff, d_model) of 3.3; gamma and beta (d_model,) of the layer norm that belongs to each sublayer (3.1).
    Without a vocab_size only the layers' and the final norms': there are no words.
    Where the config asks for them: learned positions (max_length, d_model) and relative biases
    (relative_buckets, H) of encoder and decoder, the feed-forward network's gate (d_model, d_ff), and further norms.
    Raises TypeError for what is no `Config`.
    """
    check_config("weight_shapes", config)
    if config.vocab_size is None:
        return stack_shapes(config, "encoder") | stack_shapes(config, "decoder")
    table: dict[str, Shape] = {"embedding.weight": (config.vocab_size, config.d_model)}
    if config.target_vocab_size is not None:
        table["decoder.embedding.weight"] = (config.target_vocab_size, config.d_model)
    for side in ("encoder", "decoder"):
        _add_positions(table, config, side)
        table.update(stack_shapes(config, side))
    if not config.tie_embeddings:
        table["output.weight"] = (config.d_model, config.target_words)
    if config.output_bias:
        table["output.bias"] = (config.target_words,)
    return table


def stack_shapes(config: Config, side: str) -> dict[str, Shape]:
    """`{name: shape}` of the weights of "encoder" or "decoder": its layers and the norm after them.

    Without words, a side without layers is not there, and neither is its norm.
    """
    table: dict[str, Shape] = {}
    decodes = side == "decoder"
    layers = config.n_decoder_layers if decodes else config.n_encoder_layers
    for i in range(layers):
        _add_attention(table, config, f"{side}.layers.{i}.self_attention")
        if decodes:
            _add_attention(table, config, f"{side}.layers.{i}.cross_attention")
        _add_feed_forward(table, config, f"{side}.layers.{i}.feed_forward")
    if config.final_norm and (layers or config.vocab_size is not None):
        _add_norm(table, config, side)
    return table


def _add_positions(table: dict[str, Shape], config: Config, side: str) -> None:
    if config.positions == "learned":
        table[f"{side}.positions.weight"] = (config.max_length, config.d_model)
    if config.positions == "relative":
        table[f"{side}.relative_bias.weight"] = (config.relative_buckets, config.n_heads)
    if config.embedding_norm:
        _add_norm(table, config, f"{side}.embedding")


def _add_attention(table: dict[str, Shape], config: Config, name: str) -> None:
    keys, values = config.n_heads * config.d_key, config.n_heads * config.d_value
    for part, d_in, d_out in (("query", config.d_model, keys), ("key", config.d_model, keys),
                              ("value", config.d_model, values), ("output", values, config.d_model)):
        _add_linear(table, f"{name}.{part}", d_in, d_out, config.attention_bias)
    _add_norm(table, config, name)


def _add_feed_forward(table: dict[str, Shape], config: Config, name: str) -> None:
    if config.gated:
        _add_linear(table, f"{name}.gate", config.d_model, config.d_ff, config.feed_forward_bias)
    _add_linear(table, f"{name}.hidden", config.d_model, config.d_ff, config.feed_forward_bias)
    _add_linear(table, f"{name}.output", config.d_ff, config.d_model, config.feed_forward_bias)
    _add_norm(table, config, name)


def _add_linear(table: dict[str, Shape], name: str, d_in: int, d_out: int, bias: bool) -> None:
    table[f"{name}.weight"] = (d_in, d_out)
    if bias:
        table[f"{name}.bias"] = (d_out,)


def _add_norm(table: dict[str, Shape], config: Config, name: str) -> None:
    if config.norm:
        table[f"{name}.norm.gamma"] = (config.d_model,)
        if not config.rms_norm:
            table[f"{name}.norm.beta"] = (config.d_model,)


def check_shapes(config: Config, shapes: Mapping[str, Shape]) -> None:
    """Raise one ValueError that lists all missing, unexpected and misshapen weights of `shapes`.

    shapes: `{name: shape}`. Fine if left out: gamma, beta and biases. Fine as one matrix per head:
    query and key (n_heads, d_model, d_key), value (n_heads, d_model, d_value).
    """
    check_layers(config, shapes)
    table = weight_shapes(config)
    missing = [
        f"{name} {shape}" for name, shape in table.items() if name not in shapes and _default(name) is None]
    unexpected = [repr(name)[:200] for name in shapes if name not in table]
    misshapen = [
        f"{name} is {tuple(shapes[name])}, must be {shape}" for name, shape in table.items()
        if name in shapes and tuple(shapes[name]) not in (shape, _shape_by_head(config, name))]
    if missing or unexpected or misshapen:
        found = (("missing", missing), ("unexpected", unexpected), ("of a wrong shape", misshapen))
        raise ValueError("weights do not fit the config:" + "".join(
            f"\n  {len(names)} {what}: {', '.join(names[:MAX_LISTED])}{', ...' * (len(names) > MAX_LISTED)}"
            for what, names in found if names))


def check_layers(config: Config, shapes: Mapping[str, Any]) -> None:
    """Raise ValueError for many more layers than there are weights: their names alone would take long to list."""
    layers = config.n_encoder_layers + config.n_decoder_layers
    if layers > len(shapes) + MAX_MISSING_LAYERS:
        raise ValueError(f"weights do not fit the config: n_encoder_layers and n_decoder_layers are {layers} together, "
                         f"but there are only {len(shapes)} weights")


def check_positions(config: Config, shapes: Mapping[str, Shape]) -> None:
    """Raise ValueError for a config from a file that asks for a table out of proportion to the weights.

    It has a row for every position, or the relative bias of every distance.

    shapes: `{name: shape}` of the file's tensors. Learned positions are among them.
    """
    most = max(MAX_POSITIONS, sum(math.prod(shape) for shape in shapes.values()))
    if config.positions == "relative":
        asked = config.n_heads * (2 * config.relative_distance + 1)
        if asked > most:
            raise ValueError(f"relative_distance must be at most {(most // config.n_heads - 1) // 2}: a bias of "
                             f"{config.n_heads} heads for each distance may not be more than the weights or "
                             f"{MAX_POSITIONS}, got {config.relative_distance}")
    elif config.positions not in ("learned", None):
        asked = (config.max_length + config.position_offset) * config.d_model
        if asked > most:
            raise ValueError(f"max_length must be at most {most // config.d_model - config.position_offset}: positions "
                             f"of {config.d_model} numbers each may not be more than the weights or {MAX_POSITIONS}, "
                             f"got {config.max_length}")


class StoredWeight:
    """A weight that is still in its file, to be packed while it is read.

    name: ours. tensor: a `safetensors_file.StoredTensor`. dtype: the config's. transposed: the tensor is a matrix
    that lies the other way round. cut: the part of the tensor's rows that is the weight, a slice.
    """

    #: Bytes that are read at a time: they stay in the L2 cache until they are packed.
    BLOCK = 1 << 18

    def __init__(self, name: str, tensor: StoredTensor, dtype: DTypeLike, transposed: bool = False,
                 cut: slice = slice(None)) -> None:
        self.name, self.transposed = name, transposed
        self._tensor, self._dtype = tensor, np.dtype(dtype)
        self._first, self._end, _ = cut.indices(tensor.shape[0]) if tensor.shape else (0, 0, 1)
        lying = (max(self._end - self._first, 0), *tensor.shape[1:])
        self.shape = lying[::-1] if transposed else lying

    def is_transpose_of(self, other: Any) -> bool:
        """Whether another weight is the same numbers of the same file, lying the other way round."""
        return (isinstance(other, StoredWeight) and self._tensor is other._tensor
                and self.transposed != other.transposed and self.shape == other.shape[::-1])

    def array(self) -> Array:
        """All of it, read-only, in our shape."""
        whole = self._converted(self._tensor.rows(self._first, self._end))
        return convert(self.name, whole.T, self._dtype) if self.transposed else whole

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """(first row, rows as they lie in the file) one after the other."""
        row_bytes = max(1, self._tensor.shape[1] * self._dtype.itemsize)
        step = max(1, self.BLOCK // row_bytes // 32 * 32 or self.BLOCK // row_bytes)
        for i, block in enumerate(self._tensor.blocks(self._first, self._end, step)):
            # What is read-only is a view: the block itself is filled again.
            yield i * step, block if block.dtype == self._dtype else self._converted(block.view())

    def _converted(self, block: Array) -> Array:
        block.flags.writeable = False
        try:
            return convert(self.name, block, self._dtype)
        except ValueError as error:
            raise CheckpointError(f"{self._tensor.path}: {error}") from None


def array_of(values: Any) -> Array:
    """A weight as an array: itself, or read from its file."""
    return values if isinstance(values, np.ndarray) else values.array()


def prepare_weights(config: Config, weights: Mapping[str, Any]) -> dict[str, Any]:
    """`{name: array}` ready for a model: complete, in order, of config.dtype, C-contiguous, read-only.

    weights: a mapping from the names of `weight_shapes` to arrays or nested lists of real numbers. query, key
    and value may be one matrix per head - a list, tuple or 3-D array (n_heads, d_model, d_key), the article's
    W_Q1, W_Q2 - and are then put side by side. As in the article, a gamma left out is ones, a beta or bias
    left out zeros. An array is copied unless it is already all that and owns its memory.

    Raises TypeError for what holds no real numbers; ValueError for a ragged list, for numbers that are finite
    but too large for config.dtype, and one for all missing, unexpected and misshapen weights together.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be a mapping from names to arrays, got {type(weights).__name__}")
    check_layers(config, weights)
    table = weight_shapes(config)
    given = {name: _real_array(name, weights[name]) for name in table if name in weights}
    shapes = {name: given[name].shape if name in given else () for name in weights}
    check_shapes(config, shapes)
    prepared = {}
    for name, shape in table.items():
        if isinstance(given.get(name), StoredWeight):
            prepared[name] = given[name]
        elif name in given:
            prepared[name] = convert(name, _side_by_side(given.pop(name)), config.dtype)
        else:
            prepared[name] = np.full(shape, _default(name), config.dtype)
            prepared[name].flags.writeable = False
    return prepared


def random_weights(config: Config, seed: Any, scale: float | None = None) -> dict[str, Array]:
    """`{name: array}` of seeded random weights, ready for a model as `prepare_weights` returns them.

    The embedding is standard normal. Matrices are standard normal times 1 / sqrt(d_in), so that models of any
    width and depth stay finite, and biases times 0.02; a `scale` multiplies both instead: scale=1.0 gives the
    article's plain standard-normal weights. gamma is ones, beta zeros. All are drawn in float64 in the order
    of `weight_shapes`, so that a float32 model has the float64 model's values, rounded.

    seed: an integer >= 0, or anything else but None that `numpy.random.default_rng` takes. Raises TypeError
    or ValueError for a bad seed or a scale that is not finite, TypeError for what is no `Config`.
    """
    check_config("random_weights", config)
    if seed is None or isinstance(seed, bool):
        raise TypeError(f"random_weights: seed must be an integer >= 0, got {seed!r}")
    if scale is not None and not isinstance(scale, numbers.Real):
        raise TypeError(f"random_weights: scale must be a number or None, got {scale!r}")
    if scale is not None and not np.isfinite(scale):
        raise ValueError(f"random_weights: scale must be finite, got {scale!r}")
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"random_weights: seed must be an integer >= 0, got {shown(seed)}") from None
    weights = {}
    for name, shape in weight_shapes(config).items():
        if name.endswith((".gamma", ".beta")):
            values = np.full(shape, _default(name))
        else:
            values = generator.standard_normal(shape)
            values *= _random_scale(name, shape, scale)
        values.flags.writeable = False
        weights[name] = convert(name, values, config.dtype)
    return weights


def _random_scale(name: str, shape: Shape, scale: float | None) -> float:
    if name.endswith(("embedding.weight", "relative_bias.weight")):
        return 1.0
    if scale is not None:
        return float(scale)
    return _BIAS_SCALE if name.endswith(".bias") else shape[0] ** -0.5


def _default(name: str) -> float | None:
    """What fills the weight if it is left out, None where it must be given."""
    return DEFAULTS.get(name[name.rfind("."):])


def _shape_by_head(config: Config, name: str) -> Shape | None:
    for ending, width in _BY_HEAD.items():
        if name.endswith(ending):
            return (config.n_heads, config.d_model, getattr(config, width))
    return None


def _real_array(name: str, value: Any) -> Any:
    if isinstance(value, StoredWeight):
        return value
    try:
        array = as_array(value)
    except ValueError as error:  # ragged
        raise ValueError(f"weight {name} must be a rectangular array: {error}") from None
    except TypeError as error:
        raise TypeError(f"weight {name} must be an array in the CPU's memory, got {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"weight {name} must hold real numbers, got {array.dtype} ({type(value).__name__})")
    return array


def _side_by_side(array: Array) -> Array:
    """One matrix per head (H, d_in, width) -> (d_in, H * width); a vector or matrix as it is."""
    if array.ndim < 3:
        return array
    heads, d_in, width = array.shape
    return array.transpose(1, 0, 2).reshape(d_in, heads * width)


def convert(name: str, array: Array, dtype: DTypeLike) -> Array:
    """`array` as a read-only, C-contiguous ndarray of `dtype`: itself if it is that and owns its memory."""
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.aligned and flags.owndata and not flags.writeable:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        converted = np.array(array, dtype, order="C", copy=True)
    if array.dtype != dtype and not np.array_equal(np.isfinite(converted), np.isfinite(array)):
        raise ValueError(f"weight {name} holds a value too large for {np.dtype(dtype)}: use dtype 'float64'")
    converted.flags.writeable = False
    return converted
