"""MarianMT and OPUS-MT: the paper's model, with all sines before all cosines and SiLU for ReLU.

A file that holds tables of positions, as older ones do, has its own: transformers reads them too.
"""

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

IGNORED = ()
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
    stored = [_positions(side) in names for side in ("encoder", "decoder")]
    if stored[0] != stored[1]:
        raise ValueError("embed_positions.weight must be there for both encoder and decoder, or for neither, got "
                         f"{'the encoder' if stored[0] else 'the decoder'}'s alone")
    return Config(**sizes, positions="learned" if stored[0] else "halves", output_bias=True)


def sources(config: Config, fields: dict[str, Any]) -> dict[str, Source]:
    """Our names to Marian's."""
    table: dict[str, Source] = {}
    _ends(fields).add(table, config)
    if config.positions == "learned":
        for side in ("encoder", "decoder"):
            table[f"{side}.positions.weight"] = Source((_positions(side),))
    fairseq_layers(table, config)
    table["output.bias"] = Source(("final_logits_bias",), flat=True)
    return table


def _is_shared(fields: dict[str, Any]) -> bool:
    return bool(fields.get("share_encoder_decoder_embeddings", True))


def _ends(fields: dict[str, Any]) -> Ends:
    return FAIRSEQ_ENDS if _is_shared(fields) else OWN_ENDS


def _positions(side: str) -> str:
    return f"model.{side}.embed_positions.weight"
