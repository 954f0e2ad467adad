"""T5, Flan-T5 and mT5: RMS norms before the sublayers, no biases, positions as a bias of the scores by distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtfast.config import Config

from .source import Ends, Source, activation, eos_id, linear, norm, power

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A table that the cross-attention never uses.
IGNORED = ("EncDecAttention.relative_attention_bias.weight",)
EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
_SHARED, _OF_SOURCE, _OF_TARGET, _OUTPUT = EMBEDDINGS
ENDS = Ends((_OF_SOURCE, _SHARED, _OF_TARGET, _OUTPUT), (_OF_TARGET, _SHARED, _OF_SOURCE, _OUTPUT),
            (_OUTPUT, _SHARED, _OF_SOURCE, _OF_TARGET))


#: T5 has no table of positions: this is only what one sentence may take.
MAX_LENGTH = 4096


def config_of(fields: dict[str, Any], names: Mapping[str, str]) -> Config:
    """The Config of T5's config.json."""
    form = fields.get("feed_forward_proj", "gated-gelu" if fields.get("model_type") == "mt5" else "relu")
    gated = isinstance(form, str) and form.startswith("gated-")
    function = form.removeprefix("gated-") if isinstance(form, str) else form
    d_model, (one_embedding, tied) = fields["d_model"], ENDS.ties(names)
    # Gated T5 means the tanh form by "gelu".
    return Config(
        vocab_size=fields["vocab_size"], d_model=d_model, n_heads=fields["num_heads"], d_key=fields["d_kv"],
        d_value=fields["d_kv"], d_ff=fields["d_ff"], n_encoder_layers=fields["num_layers"],
        n_decoder_layers=_or(fields.get("num_decoder_layers"), fields["num_layers"]), max_length=MAX_LENGTH,
        activation=activation("gelu_new" if gated and function == "gelu" else function), gated=gated,
        feed_forward_bias=False, output_bias=False, norm_first=True, final_norm=True, rms_norm=True,
        layer_norm_eps=fields.get("layer_norm_epsilon", 1e-6), positions="relative",
        relative_buckets=fields.get("relative_attention_num_buckets", 32),
        relative_distance=fields.get("relative_attention_max_distance", 128), attention_scale=1.0,
        tie_embeddings=tied, target_vocab_size=None if one_embedding else fields["vocab_size"],
        output_scale=power(d_model, -0.5) if _is_scaled(fields) else 1.0,
        eos_id=eos_id(fields), pad_id=fields.get("pad_token_id"),
        sos_id=_or(fields.get("decoder_start_token_id"), fields.get("pad_token_id")))


def _is_scaled(fields: dict[str, Any]) -> bool:
    """Whether the decoder's states are scaled for the output layer: T5's are, unless the file says otherwise, and from
    transformers 5 on no mT5's, whatever it says."""
    if fields.get("model_type") == "mt5":
        return False
    if "scale_decoder_outputs" in fields:
        return bool(fields["scale_decoder_outputs"])
    return fields.get("tie_word_embeddings") is not False


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def sources(config: Config, fields: dict[str, Any]) -> dict[str, Source]:
    """Our names to T5's."""
    table: dict[str, Source] = {}
    ENDS.add(table, config)
    for side, count in (("encoder", config.n_encoder_layers), ("decoder", config.n_decoder_layers)):
        table[f"{side}.relative_bias.weight"] = Source(
            (f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",))
        for i in range(count):
            ours, theirs = f"{side}.layers.{i}", f"{side}.block.{i}.layer"
            _attention(table, f"{ours}.self_attention", f"{theirs}.0", "SelfAttention")
            if side == "decoder":
                _attention(table, f"{ours}.cross_attention", f"{theirs}.1", "EncDecAttention")
            _feed_forward(table, config, f"{ours}.feed_forward", f"{theirs}.{1 if side == 'encoder' else 2}")
        norm(table, side, f"{side}.final_layer_norm", beta=False)
    return table


def _attention(table: dict[str, Source], ours: str, theirs: str, kind: str) -> None:
    for part, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
        linear(table, f"{ours}.{part}", f"{theirs}.{kind}.{letter}", bias=False)
    norm(table, ours, f"{theirs}.layer_norm", beta=False)


def _feed_forward(table: dict[str, Source], config: Config, ours: str, theirs: str) -> None:
    if config.gated:
        linear(table, f"{ours}.gate", f"{theirs}.DenseReluDense.wi_0", bias=False)
        linear(table, f"{ours}.hidden", f"{theirs}.DenseReluDense.wi_1", bias=False)
    else:
        linear(table, f"{ours}.hidden", f"{theirs}.DenseReluDense.wi", bias=False)
    linear(table, f"{ours}.output", f"{theirs}.DenseReluDense.wo", bias=False)
    norm(table, ours, f"{theirs}.layer_norm", beta=False)
