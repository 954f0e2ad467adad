"""BART and mBART: learned positions and a norm of the embedding; mBART has its norms before the sublayers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtfast.config import Config

from .source import FAIRSEQ_EMBEDDINGS, FAIRSEQ_ENDS, Source, fairseq_layers, fairseq_sizes, norm

if TYPE_CHECKING:
    from collections.abc import Mapping

IGNORED = ()
EMBEDDINGS = FAIRSEQ_EMBEDDINGS

#: The first rows of the table of positions are fairseq's padding, never used.
UNUSED_POSITIONS = 2


def config_of(fields: dict[str, Any], names: Mapping[str, str]) -> Config:
    """The Config of config.json of either."""
    multilingual = fields["model_type"] == "mbart"
    return Config(
        **fairseq_sizes(fields, names), positions="learned", output_bias=True, embedding_norm=True,
        norm_first=multilingual, final_norm=multilingual)


def sources(config: Config, fields: dict[str, Any]) -> dict[str, Source]:
    """Our names to BART's."""
    table: dict[str, Source] = {}
    FAIRSEQ_ENDS.add(table, config)
    for side in ("encoder", "decoder"):
        table[f"{side}.positions.weight"] = Source((f"model.{side}.embed_positions.weight",), skip=UNUSED_POSITIONS)
        norm(table, f"{side}.embedding", f"model.{side}.layernorm_embedding")
    fairseq_layers(table, config)
    table["output.bias"] = Source(("final_logits_bias",), flat=True)
    return table
