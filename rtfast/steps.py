"""Which steps of a walk a user asks for: what `rtfast demo --steps` and `rtfast explain --step` read."""

from __future__ import annotations

from rtfast.cli import UserError


def chosen_steps(option: str, text: str, count: int) -> list[int]:
    """The places, from 0 on and in order, of the steps that "6", "5-9" or "1,12-13" names, of `count`.

    option: its name. Raises UserError for anything else.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise UserError(f"{option} must look like 6 or 5-9 or 1,12-13, got {text!r}")
        if not 1 <= int(first) <= int(last) <= count:
            raise UserError(f"{option} must be within 1-{count}, got {part.strip()!r}")
        chosen.update(range(int(first) - 1, int(last)))
    return sorted(chosen)
