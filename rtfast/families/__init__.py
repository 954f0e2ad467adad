"""The model families whose Hugging Face folders rtfast reads: one small file each says how theirs map onto ours.

A family has two functions. `config_of(fields, names)` makes a Config of its config.json, given the names of the
tensors that the folder holds. `sources(config, fields)` says for each of our weights (rtfast/weights.py) which tensor
it is and how it lies there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from rtfast.families.source import Family

#: model_type in config.json -> module of this package
FAMILIES = {
    "marian": "marian",
    "bart": "bart",
    "mbart": "bart",
    "m2m_100": "m2m100",
    "t5": "t5",
    "mt5": "t5",
}


def family_of(model_type: object) -> Family | None:
    """The module of a family, None where it is not known."""
    name = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    return None if name is None else cast("Family", importlib.import_module(f"{__name__}.{name}"))
