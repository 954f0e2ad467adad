"""M2M100 and NLLB-200: norms before the sublayers, tensor2tensor's sinusoids.

Padding inside a sentence has the position of its place here; transformers gives it none, and counts it for the tokens
after it in cached steps only, which no run that is the same with and without a cache can follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtfast.config import Config, shown

from .source import FAIRSEQ_EMBEDDINGS, FAIRSEQ_ENDS, Source, fairseq_layers, fairseq_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The sinusoids, which are computed.
IGNORED = ("embed_positions.weight", "embed_positions.weights")
EMBEDDINGS = FAIRSEQ_EMBEDDINGS


def config_of(fields: dict[str, Any], names: Mapping[str, str]) -> Config:
    """The Config of M2M100's config.json."""
    padding = fields["pad_token_id"]
    if not isinstance(padding, int):
        raise ValueError(f"pad_token_id must be an integer, got {shown(padding)}")
    return Config(
        **fairseq_sizes(fields, names, is_scaled=True), positions="tensor2tensor",
        position_offset=padding + 1,  # fairseq counts from there
        output_bias=False, norm_first=True, final_norm=True)


def sources(config: Config, fields: dict[str, Any]) -> dict[str, Source]:
    """Our names to M2M100's."""
    table: dict[str, Source] = {}
    FAIRSEQ_ENDS.add(table, config)
    fairseq_layers(table, config)
    return table
