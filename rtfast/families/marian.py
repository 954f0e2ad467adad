"""MarianMT and OPUS-MT: the paper's model, with all sines before all cosines and SiLU for ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtfast.config import Config

from .source import SHARED, Source, fairseq_embeddings, fairseq_layers, fairseq_sizes

if TYPE_CHECKING:
    from collections.abc import Container

#: The sinusoids, which are computed, and the embedding that nothing uses where encoder and decoder have their own.
IGNORED = ("embed_positions.weight", SHARED)


def config_of(fields: dict[str, Any], names: Container[str]) -> Config:
    """The Config of Marian's config.json."""
    sizes = fairseq_sizes(fields, names)
    if not fields.get("share_encoder_decoder_embeddings", True):
        sizes["target_vocab_size"] = fields.get("decoder_vocab_size")
    return Config(**sizes, positions="halves", output_bias=True)


def sources(config: Config) -> dict[str, Source]:
    """Our names to Marian's."""
    table: dict[str, Source] = {}
    fairseq_embeddings(table, config)
    fairseq_layers(table, config)
    table["output.bias"] = Source(("final_logits_bias",), flat=True)
    return table
