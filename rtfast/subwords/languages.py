"""Source and target language of a tokenizer that has several: which special tokens go round the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Languages:
    """What `for_languages` needs to know: the codes, and how the family marks a text.

    ids: language code -> id. before, after: whether the code goes before the text, or after its EOS. start: whether
    the target's code is the first token of all (in place of being forced as the second).
    """

    def __init__(self, ids: Mapping[str, int], source: str | None, target: str | None, *, after: bool = False,
                 start: bool = False) -> None:
        self.ids, self.source, self.target, self._after, self._start = ids, source, target, after, start
        for name, code in (("src_lang", source), ("tgt_lang", target)):
            if code is not None and code not in ids:
                raise ValueError(f"{name}: no language {code!r}; there are {len(ids)}: "
                                 f"{', '.join(list(ids)[:12])}{', ...' * (len(ids) > 12)}")

    def chosen(self, source: str | None, target: str | None) -> Languages:
        """The same with other languages; None leaves the one that is there."""
        source, target = self.source if source is None else source, self.target if target is None else target
        return Languages(self.ids, source, target, after=self._after, start=self._start)

    def marked(self, ids: list[int], eos: int, code: str | None) -> list[int]:
        """Ids of a text with EOS and the code of its language, if that is known."""
        mark = [] if code is None else [self.ids[code]]
        return [*ids, eos, *mark] if self._after else [*mark, *ids, eos]

    @property
    def options(self) -> dict[str, int]:
        """What generation must be told: the target's language."""
        if self.target is None:
            return {}
        name = "decoder_start_token_id" if self._start else "forced_bos_token_id"
        return {name: self.ids[self.target]}


class OneLanguage:
    """Of tokenizers without a choice."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages to choose from."""
        return ()

    @property
    def target_options(self) -> dict[str, int]:
        """What `generate` must be told about the target's language."""
        return {}

    def for_languages(self, src_lang: str | None = None, tgt_lang: str | None = None) -> Any:
        """Raises ValueError: this tokenizer has no languages to choose from."""
        raise ValueError("src_lang and tgt_lang do nothing here: this model has one pair of languages, got "
                         f"{src_lang!r} and {tgt_lang!r}")


class SeveralLanguages:
    """Of tokenizers with a choice: `_languages` is a `Languages`."""

    _languages: Languages

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages to choose from."""
        return tuple(self._languages.ids)

    @property
    def target_options(self) -> dict[str, int]:
        """What `generate` must be told about the target's language."""
        return self._languages.options

    def for_languages(self, src_lang: str | None = None, tgt_lang: str | None = None) -> Any:
        """The same tokenizer for another pair of languages. Raises ValueError for a code that it lacks."""
        import copy

        other = copy.copy(self)
        other._languages = self._languages.chosen(src_lang, tgt_lang)
        return other
