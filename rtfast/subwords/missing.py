"""What stands for a tokenizer whose package is not installed."""

from __future__ import annotations

from typing import Any


class MissingTokenizer:
    """A model with it works on ids; text is an ImportError that says what to install."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __repr__(self) -> str:
        return f"MissingTokenizer({self._package!r})"

    def _refuse(self, *_: object, **__: object) -> Any:
        raise ImportError(f"this model's tokenizer needs the package {self._package!r}: pip install 'rtfast[text]', or "
                          "generate() from ids")

    encode = encode_target = decode = tokens = for_languages = _refuse
