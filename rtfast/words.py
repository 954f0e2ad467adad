"""Ids as words that can be seen."""


def words_of(model, ids):
    """The words of ids as text: the tokenizer's, or the ids themselves where there is none (or no model, None)."""
    ids = [int(number) for number in ids]
    tokenizer = getattr(model, "tokenizer", None)
    return list(tokenizer.tokens(ids)) if hasattr(tokenizer, "tokens") else [str(number) for number in ids]


def visible(text):
    """Text in which control characters are escaped: none of them moves a cursor or begins a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
