"""The sizes and choices that say what a Transformer computes: one frozen, checked `Config`."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rtfast.activations import ACTIVATIONS

if TYPE_CHECKING:
    from rtfast.typing import MaybeNone

#: One dimension, and a projection's width (n_heads * d_key), fit 32 bits; a matrix has fewer elements
#: than 2**48. So no product of shapes, even in bytes and padded, can overflow the kernels' 64-bit integers.
MAX_SIZE = 2**31 - 1
MAX_ELEMENTS = 2**48
#: The published record is 1,000 layers; a hostile config.json must not make us list billions of names.
MAX_LAYERS = 10_000
#: Numbers must be finite in float32 too.
MAX_NUMBER = 3.4028234663852886e38
DTYPES = ("float32", "float64")
POSITIONS = ("sinusoidal", "halves", "tensor2tensor", "learned", "relative", None)

_SIZES = ("d_model", "n_heads", "d_ff", "max_length")
_VOCABULARIES = ("vocab_size", "target_vocab_size")
_HEAD_SIZES = ("d_key", "d_value")
_RELATIVE = ("relative_buckets", "relative_distance")
_LAYERS = ("n_encoder_layers", "n_decoder_layers")
_SWITCHES = (
    "attention_bias", "feed_forward_bias", "output_bias", "residual", "norm",
    "article_layer_norm", "article_positional_encoding", "article_softmax",
    "tie_embeddings", "norm_first", "final_norm", "embedding_norm", "rms_norm", "gated",
)
_IDS = ("sos_id", "eos_id", "pad_id")


@dataclasses.dataclass(frozen=True)
class Config:
    """A Transformer's sizes and conventions; the defaults are the paper's base model (table 3).

    Raises TypeError for a value of the wrong type (a bool is not an integer) and ValueError for one that
    does not fit. `dataclasses.replace(config, ...)` checks again, but keeps d_key and d_value as they are.
    """

    #: words in the vocabulary, of source and target alike unless target_vocab_size is given; None for a
    #: `StateTransformer`, which has no words: states go in and come out
    vocab_size: int | None
    #: width of the embedding and of every sublayer's output (3.1)
    d_model: int = 512
    #: parallel attention heads (3.2.2)
    n_heads: int = 8
    #: width of the feed-forward network's hidden layer (3.3)
    d_ff: int = 2048
    n_encoder_layers: int = 6
    n_decoder_layers: int = 6
    #: width of one head's queries and keys; None becomes d_model // n_heads
    d_key: "int | MaybeNone" = None
    #: width of one head's values; None becomes d_model // n_heads
    d_value: "int | MaybeNone" = None
    #: positions that the model has: the longest source and the longest target, in tokens
    max_length: int = 512
    #: between the two linear layers of the feed-forward network: None, "relu", "gelu", "gelu_tanh", "silu"
    activation: str | None = "relu"
    #: whether query, key, value and output projections add a bias
    attention_bias: bool = False
    feed_forward_bias: bool = True
    #: whether the last linear layer, to the vocabulary, adds a bias
    output_bias: bool = True
    #: whether a sublayer's input is added to its output; off for the article's overflow experiment
    residual: bool = True
    #: whether layer normalisation follows each sublayer; off, nowhere, for the article's overflow experiment
    norm: bool = True
    #: layer norm comes before each sublayer, not after its residual connection
    norm_first: bool = False
    #: one more layer norm after the last layer of the encoder and of the decoder, as norm_first needs it
    final_norm: bool = False
    #: layer norm of embedding plus position (BART)
    embedding_norm: bool = False
    #: x / sqrt(mean square + eps) * gamma in place of every layer norm (T5)
    rms_norm: bool = False
    #: feed-forward activation(x W_gate) * (x W_hidden) in place of activation(x W_hidden) (T5 1.1)
    gated: bool = False
    #: added to the variance (to the standard deviation with article_layer_norm), so that it is not zero
    layer_norm_eps: float = 1e-5
    #: the same of the final norm; None is layer_norm_eps
    final_norm_eps: float | None = None
    #: divide by (std + eps), as the article "The Random Transformer" does, not by sqrt(variance + eps)
    article_layer_norm: bool = False
    #: how positions are marked: "sinusoidal" (3.5); "halves", all sines before all cosines (Marian);
    #: "tensor2tensor", halves with frequencies down to exactly 1 / 10000 (M2M100); "learned", a table in the
    #: weights; "relative", a bias of the scores by distance (T5); None, not at all
    positions: str | None = "sinusoidal"
    #: place of the first word in the table of sinusoids
    position_offset: int = 0
    #: of relative positions: how many buckets of distances, and from which distance on there is only one
    relative_buckets: int = 32
    relative_distance: int = 128
    #: column j, not the pair (2i, 2i + 1), sets the frequency (3.5 uses pairs)
    article_positional_encoding: bool = False
    #: softmax as exp(x) / sum without subtracting the row's maximum: overflows to NaN, as in the article
    article_softmax: bool = False
    #: multiplier of the scores; None is 1 / sqrt(d_key) (3.2.1); one step of the article uses 1 / 30
    attention_scale: float | None = None
    #: multiplier of the embedding; the paper's is sqrt(d_model) (3.4)
    embedding_scale: float = 1.0
    #: the last linear layer is the (target's) embedding transposed (3.4)
    tie_embeddings: bool = False
    #: multiplier of the decoder's states before the last linear layer
    output_scale: float = 1.0
    #: words in the target's own vocabulary; None where source and target share one
    target_vocab_size: int | None = None
    #: token that starts a target, None if the caller will give it
    sos_id: int | None = None
    #: token that ends a sequence
    eos_id: int | None = None
    #: token that fills up short rows of a batch
    pad_id: int | None = None
    #: "float32" or "float64": of the weights and of every intermediate value
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in _SIZES:
            self._set(name, _integer(name, getattr(self, name), 1, MAX_SIZE))
        for name in _VOCABULARIES:
            if getattr(self, name) is not None:
                self._set(name, _integer(name, getattr(self, name), 1, MAX_SIZE, "None or "))
        for name in _LAYERS:
            self._set(name, _integer(name, getattr(self, name), 0, MAX_LAYERS))
        for name in _HEAD_SIZES:
            self._set(name, self._head_size(name))
        for name in _RELATIVE:
            self._set(name, _integer(name, getattr(self, name), 2, 2**15))
        self._set("position_offset", _integer("position_offset", self.position_offset, 0, 2**15))
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"Config: {name} must be True or False, got {shown(getattr(self, name))}")
        for name in _IDS:
            if getattr(self, name) is not None:
                if self.target_words is None:
                    raise ValueError(f"Config: {name} must be None where vocab_size is: there are no words, got "
                                     f"{shown(getattr(self, name))}")
                self._set(name, _integer(name, getattr(self, name), 0, self.target_words - 1, "None or "))
        self._set("layer_norm_eps", _number("layer_norm_eps", self.layer_norm_eps, least=0.0))
        if self.final_norm_eps is not None:
            self._set("final_norm_eps", _number("final_norm_eps", self.final_norm_eps, least=0.0))
        self._set("embedding_scale", _number("embedding_scale", self.embedding_scale))
        self._set("output_scale", _number("output_scale", self.output_scale))
        if self.attention_scale is not None:
            self._set("attention_scale", _number("attention_scale", self.attention_scale))
        _choice("activation", self.activation, tuple(ACTIVATIONS))
        _choice("dtype", self.dtype, DTYPES)
        _choice("positions", self.positions, POSITIONS)
        if self.relative_buckets % 4:
            raise ValueError(f"Config: relative_buckets must be a multiple of 4, got {self.relative_buckets}")
        if self.relative_distance <= self.relative_buckets // 2:
            raise ValueError(f"Config: relative_distance must be more than half of relative_buckets, "
                             f"{self.relative_buckets // 2}, got {self.relative_distance}")
        if self.rms_norm and self.article_layer_norm:
            raise ValueError("Config: rms_norm and article_layer_norm cannot both be True")
        if self.article_positional_encoding and self.positions in ("halves", "tensor2tensor"):
            raise ValueError("Config: article_positional_encoding must be False where positions is "
                             f"{self.positions!r}, got True")
        for name in ("final_norm", "embedding_norm"):
            if getattr(self, name) and not self.norm:
                raise ValueError(f"Config: {name} must be False where norm is, got True")
        self._check_products()

    @property
    def target_words(self) -> "int | MaybeNone":
        """Words in the target's vocabulary: target_vocab_size, or vocab_size where it is shared; None without words."""
        return self.vocab_size if self.target_vocab_size is None else self.target_vocab_size

    @property
    def target_embedding(self) -> str:
        """Name of the weight that embeds target words."""
        return "embedding.weight" if self.target_vocab_size is None else "decoder.embedding.weight"

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # plain int or float in place of NumPy's: the rest is frozen

    def _head_size(self, name: str) -> int:
        value = getattr(self, name)
        if value is not None:
            return _integer(name, value, 1, MAX_SIZE, "None or ")
        if self.d_model % self.n_heads:
            raise ValueError(
                f"Config: {name} must be given where n_heads does not divide d_model, "
                f"got None with n_heads {self.n_heads} and d_model {self.d_model}")
        return self.d_model // self.n_heads

    def _check_products(self) -> None:
        for name in _HEAD_SIZES:
            width = self.n_heads * getattr(self, name)
            if width > MAX_SIZE:
                raise ValueError(f"Config: n_heads * {name} must be <= {MAX_SIZE}, got {width}")
            if width * self.d_model >= MAX_ELEMENTS:
                raise ValueError(
                    f"Config: d_model * n_heads * {name} must be < 2**48, got {width * self.d_model}")
        for name in ("vocab_size", "target_words", "d_ff", "max_length"):
            elements = self.d_model * (getattr(self, name) or 0)
            if elements >= MAX_ELEMENTS:
                raise ValueError(f"Config: d_model * {name} must be < 2**48, got {elements}")

    @classmethod
    def base(cls, vocab_size: int, **overrides: Any) -> "Config":
        """The paper's base model (table 3) for a vocabulary of `vocab_size` words."""
        return cls(vocab_size, **overrides)

    @classmethod
    def article(cls, **overrides: Any) -> "Config":
        """The toy model of the article "The Random Transformer", with the article's own conventions.

        10 words, d_model 4, 2 heads of width 3, d_ff 8, 6 + 6 layers, float64; biases only in the
        feed-forward networks and the last linear layer; layer norm divides by (std + 1e-6), softmax
        subtracts no maximum.
        """
        sizes = {
            "vocab_size": 10, "d_model": 4, "d_key": 3, "d_value": 3, "n_heads": 2, "d_ff": 8,
            "n_encoder_layers": 6, "n_decoder_layers": 6, "dtype": "float64",
            "layer_norm_eps": 1e-6, "article_layer_norm": True, "article_positional_encoding": True,
            "article_softmax": True, "sos_id": 6, "eos_id": 5,
        }
        return cls(**{**sizes, **overrides})

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict of plain Python values; `Config.from_dict` makes an equal Config of it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Config":
        """The Config of a dict of fields; those left out take their defaults, vocab_size has none.

        Raises TypeError for anything but a dict, ValueError naming every unknown field, and what `Config`
        raises.
        """
        if not isinstance(fields, dict):
            raise TypeError(f"Config: fields must be a dict, got {type(fields).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = [shown(name) for name in fields if name not in known]
        if unknown:
            raise ValueError(
                f"Config: unknown fields {', '.join(unknown[:20])}{', ...' * (len(unknown) > 20)}; known are "
                f"{', '.join(sorted(known))}")
        if "vocab_size" not in fields:
            raise ValueError("Config: vocab_size must be given, it has no default")
        return cls(**fields)


def check_config(function: str, config: object) -> None:
    """Raise TypeError for what is no `Config`."""
    if not isinstance(config, Config):
        raise TypeError(f"{function}: config must be a Config, got {type(config).__name__}")


def _integer(name: str, value: Any, least: int, most: int, optional: str = "") -> int:
    """`value` as a plain int within least <= value <= most."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"Config: {name} must be {optional}an integer, got {shown(value)}")
    number = int(value)
    if not least <= number <= most:
        raise ValueError(f"Config: {name} must be {optional}within {least}..{most}, got {shown(number)}")
    return number


def _number(name: str, value: Any, least: float = -MAX_NUMBER) -> float:
    """`value` as a plain float, finite in float32 and >= least."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"Config: {name} must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not least <= number <= MAX_NUMBER:  # false for NaN
        wanted = "finite" if least < 0 else f"finite and >= {least:g}"
        raise ValueError(f"Config: {name} must be {wanted} (in float32), got {shown(value)}")
    return number


def _choice(name: str, value: Any, choices: Sequence[str | None]) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"Config: {name} must be one of {_listed(choices)}, got {shown(value)}")
    if value not in choices:
        raise ValueError(f"Config: {name} must be one of {_listed(choices)}, got {shown(value)}")


def _listed(choices: Sequence[str | None]) -> str:
    return ", ".join(repr(choice) for choice in choices)


def shown(value: Any) -> str:
    """repr(value), cut short: a message must not be megabytes, and Python prints no int of 5,000 digits."""
    try:
        text = repr(value)
    except ValueError:
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
