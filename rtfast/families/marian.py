"""MarianMT and OPUS-MT: the paper's model, with all sines before all cosines and SiLU for ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtfast.config import Config

from .source import (
    FAIRSEQ_EMBEDDINGS,
    FAIRSEQ_ENDS,
    OF_SOURCE,
    OF_TARGET,
    OUTPUT,
    Ends,
    Source,
    fairseq_layers,
    fairseq_sizes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The sinusoids, which are computed.
IGNORED = ("embed_positions.weight",)
EMBEDDINGS = FAIRSEQ_EMBEDDINGS

#: Where source and target have words of their own: only the output layer is tied, to the target's embedding.
OWN_ENDS = Ends((OF_SOURCE,), (OF_TARGET, OUTPUT), (OUTPUT, OF_TARGET))


def config_of(fields: dict[str, Any], names: Mapping[str, str]) -> Config:
    """The Config of Marian's config.json."""
    sizes = fairseq_sizes(fields, names, _ends(fields))
    if not _is_shared(fields):
        words = fields.get("decoder_vocab_size") or fields["vocab_size"]
        if sizes["target_vocab_size"] is not None or words != fields["vocab_size"]:
            sizes["target_vocab_size"] = words
    return Config(**sizes, positions="halves", output_bias=True)


def sources(config: Config, fields: dict[str, Any]) -> dict[str, Source]:
    """Our names to Marian's."""
    table: dict[str, Source] = {}
    _ends(fields).add(table, config)
    fairseq_layers(table, config)
    table["output.bias"] = Source(("final_logits_bias",), flat=True)
    return table


def _is_shared(fields: dict[str, Any]) -> bool:
    return bool(fields.get("share_encoder_decoder_embeddings", True))


def _ends(fields: dict[str, Any]) -> Ends:
    return FAIRSEQ_ENDS if _is_shared(fields) else OWN_ENDS
