"""MarianMT and OPUS-MT: the paper's model, with all sines before all cosines and SiLU for ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtfast.config import Config

from .source import Source, fairseq_layers, fairseq_sizes

if TYPE_CHECKING:
    from collections.abc import Container

#: Tied copies that older files hold, and the sinusoids, which are computed.
IGNORED = ("embed_positions.weight", "lm_head.weight", "embed_tokens.weight")


def config_of(fields: dict[str, Any], names: Container[str]) -> Config:
    """The Config of Marian's config.json."""
    own_words = not fields.get("share_encoder_decoder_embeddings", True)
    return Config(
        **fairseq_sizes(fields), positions="halves", output_bias=True,
        target_vocab_size=fields.get("decoder_vocab_size") if own_words else None)


def sources(config: Config) -> dict[str, Source]:
    """Our names to Marian's."""
    if config.target_vocab_size is None:
        table = {"embedding.weight": Source(
            ("model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight",
             "lm_head.weight"))}
    else:
        table = {"embedding.weight": Source(("model.encoder.embed_tokens.weight",)),
                 "decoder.embedding.weight": Source(("model.decoder.embed_tokens.weight", "lm_head.weight"))}
    fairseq_layers(table, config)
    table["output.bias"] = Source(("final_logits_bias",), flat=True)
    return table
