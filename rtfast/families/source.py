"""Where a weight of ours comes from, and what the families' files have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rtfast.config import Config
    from rtfast.typing import Array, Shape

from rtfast.config import shown

#: Theirs -> ours (rtfast/activations.py).
ACTIVATIONS = {
    "relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "swish": "silu", "silu": "silu",
}

#: The embeddings and the output layer of Marian, BART and M2M100.
SHARED = "model.shared.weight"
OF_SOURCE, OF_TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
OUTPUT = "lm_head.weight"
FAIRSEQ_EMBEDDINGS = (SHARED, OF_SOURCE, OF_TARGET, OUTPUT)


class Ends(NamedTuple):
    """Names of the tensors that a model's ends may be, each end the first that a folder has: its own, or what
    transformers ties it to."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    output: tuple[str, ...]

    def ties(self, names: Mapping[str, str]) -> tuple[bool, bool]:
        """Whether source and target have one embedding, and whether the output layer is the target's; names: as
        `Family.config_of` has them."""
        source, target, output = (next((names[name] for name in end if name in names), None) for end in self)
        return source == target, target == output

    def add(self, table: dict[str, Source], config: Config) -> None:
        """Add the embeddings, and an output layer of its own."""
        table["embedding.weight"] = Source(self.source)
        if config.target_vocab_size is not None:
            table["decoder.embedding.weight"] = Source(self.target)
        if not config.tie_embeddings:
            table["output.weight"] = Source(self.output, transposed=True)


#: What is tied to nothing that is there is tied to model.shared, and that is then the first of the others.
FAIRSEQ_ENDS = Ends((OF_SOURCE, SHARED, OUTPUT, OF_TARGET), (OF_TARGET, SHARED, OUTPUT, OF_SOURCE),
                    (OUTPUT, SHARED, OF_TARGET, OF_SOURCE))


class Family(Protocol):
    """What a family's module has: see rtfast/families/__init__.py."""

    #: Endings of names of tensors that are not needed.
    IGNORED: tuple[str, ...]
    #: Names of the tensors that may be one matrix.
    EMBEDDINGS: tuple[str, ...]

    def config_of(self, fields: dict[str, Any], names: Mapping[str, str]) -> Config:
        """The Config of a config.json. names: of the folder's tensors, each with the first of EMBEDDINGS that is the
        same matrix, or with itself."""
        ...

    def sources(self, config: Config, fields: dict[str, Any]) -> dict[str, Source]:
        """For each of our weights the tensor that it is."""
        ...


class Source(NamedTuple):
    """A tensor of a checkpoint: the first of `names` that is there.

    transposed: it lies as (d_out, d_in), as torch.nn.Linear keeps it. skip: rows at its start that are not ours.
    flat: to be read as one row of numbers.
    """

    names: tuple[str, ...]
    transposed: bool = False
    skip: int = 0
    flat: bool = False

    def shape(self, theirs: Shape) -> Shape:
        """Our shape of a tensor of shape `theirs`."""
        if self.flat and len(theirs) == 2 and theirs[0] == 1:
            return (theirs[1],)
        if self.transposed and len(theirs) == 2:
            return (theirs[1], theirs[0])
        if self.skip and theirs:
            return (max(theirs[0] - self.skip, 0), *theirs[1:])
        return tuple(theirs)

    def array(self, theirs: Array) -> Array:
        """Our array of the tensor, a view."""
        if self.flat:
            return theirs.reshape(-1)
        return theirs.T if self.transposed else theirs[self.skip:] if self.skip else theirs


def linear(table: dict[str, Source], ours: str, theirs: str, bias: bool = True) -> None:
    """Add the weight and bias of a torch.nn.Linear."""
    table[f"{ours}.weight"] = Source((f"{theirs}.weight",), transposed=True)
    if bias:
        table[f"{ours}.bias"] = Source((f"{theirs}.bias",))


def norm(table: dict[str, Source], ours: str, theirs: str, beta: bool = True) -> None:
    """Add gamma and beta of a torch.nn.LayerNorm."""
    table[f"{ours}.norm.gamma"] = Source((f"{theirs}.weight",))
    if beta:
        table[f"{ours}.norm.beta"] = Source((f"{theirs}.bias",))


def fairseq_layers(table: dict[str, Source], config: Config) -> None:
    """Add the layers of Marian, BART and M2M100, which all go by fairseq's names."""
    for side, count in (("encoder", config.n_encoder_layers), ("decoder", config.n_decoder_layers)):
        for i in range(count):
            ours, theirs = f"{side}.layers.{i}", f"model.{side}.layers.{i}"
            _attention(table, f"{ours}.self_attention", theirs, "self_attn")
            if side == "decoder":
                _attention(table, f"{ours}.cross_attention", theirs, "encoder_attn")
            linear(table, f"{ours}.feed_forward.hidden", f"{theirs}.fc1")
            linear(table, f"{ours}.feed_forward.output", f"{theirs}.fc2")
            norm(table, f"{ours}.feed_forward", f"{theirs}.final_layer_norm")
        if config.final_norm:
            norm(table, side, f"model.{side}.layer_norm")


def _attention(table: dict[str, Source], ours: str, layer: str, theirs: str) -> None:
    for part, projection in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "out_proj")):
        linear(table, f"{ours}.{part}", f"{layer}.{theirs}.{projection}")
    norm(table, ours, f"{layer}.{theirs}_layer_norm")


def fairseq_sizes(fields: dict[str, Any], names: Mapping[str, str], ends: Ends = FAIRSEQ_ENDS,
                  is_scaled: bool = False) -> dict[str, Any]:
    """The Config fields that Marian, BART and M2M100 say in the same words. is_scaled: what scale_embedding is where
    config.json leaves it out."""
    one_embedding, tied = ends.ties(names)
    for name in ("attention_heads", "ffn_dim"):
        if fields[f"encoder_{name}"] != fields[f"decoder_{name}"]:
            raise ValueError(f"encoder_{name} and decoder_{name} must be equal, got "
                             f"{shown(fields[f'encoder_{name}'])} and {shown(fields[f'decoder_{name}'])}")
    d_model = fields["d_model"]
    return {
        "vocab_size": fields["vocab_size"], "d_model": d_model, "n_heads": fields["encoder_attention_heads"],
        "d_ff": fields["encoder_ffn_dim"], "n_encoder_layers": fields["encoder_layers"],
        "n_decoder_layers": fields["decoder_layers"], "max_length": fields["max_position_embeddings"],
        "activation": activation(fields["activation_function"]), "attention_bias": True,
        "embedding_scale": power(d_model, 0.5) if fields.get("scale_embedding", is_scaled) else 1.0,
        "tie_embeddings": tied, "target_vocab_size": None if one_embedding else fields["vocab_size"],
        "eos_id": eos_id(fields), "pad_id": fields.get("pad_token_id"),
        "sos_id": fields.get("decoder_start_token_id"),
    }


def eos_id(fields: dict[str, Any]) -> Any:
    """The id of EOS, of several the first: all of them are `GenerationOptions.eos_token_id`."""
    ids = fields.get("eos_token_id")
    return ids[0] if isinstance(ids, list) and ids else ids


def power(d_model: object, exponent: float) -> float:
    """d_model to a power; 1.0 for what is no width, which `Config` refuses by its name."""
    return float(float(d_model) ** exponent) if isinstance(d_model, int) and d_model > 0 else 1.0


def activation(name: object) -> str:
    """Our name of an activation. Raises ValueError for one that rtfast lacks."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {shown(name)}")
    return ACTIVATIONS[name]
