"""rtfast: a transformer inference engine for CPUs that you can read.

>>> import rtfast
>>> model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=rtfast.article.VOCABULARY)
>>> trace = model.trace("hello world")
>>> trace["encoder.layers.0.self_attention.weights"].shape
(2, 2, 2)
"""

import importlib
from typing import TYPE_CHECKING

from .command_start import refusing_in_one_line

with refusing_in_one_line():
    from . import article, kernels
    from .backends import backend
    from .threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from . import typing, weights
    from .checkpoint import CheckpointError
    from .config import Config
    from .generation_options import GenerationOptions
    from .loading import load
    from .model import Transformer
    from .search import Hypothesis
    from .tokenizer import WordTokenizer
    from .torch_modules import from_torch
    from .trace import Trace
else:
    #: Where the rest is. It is loaded when it is first asked for: kernels alone need none of it.
    _HOMES = {
        "CheckpointError": "checkpoint", "Config": "config", "GenerationOptions": "generation_options",
        "Hypothesis": "search", "Trace": "trace", "Transformer": "model", "WordTokenizer": "tokenizer",
        "from_torch": "torch_modules", "load": "loading",
    }
    _MODULES = ("typing", "weights")

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *_HOMES, *_MODULES})

__version__ = "0.1.0"


def get_include() -> str:
    """The folder of rtfast.h, for `include_dirs` of extensions that call the kernels from C or Cython."""
    import os

    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


__all__ = [
    "CheckpointError", "Config", "GenerationOptions", "Hypothesis", "Trace", "Transformer", "WordTokenizer", "article",
    "backend", "from_torch", "get_include", "get_num_threads", "kernels", "load", "set_num_threads", "typing",
    "weights",
]
