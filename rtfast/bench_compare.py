"""`rtfast bench --compare FILE`: the rows of this run beside those that an earlier --json wrote."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from rtfast.cli import blaming_the_user
from rtfast.generate_command import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMES = ("rtfast_seconds", "numpy_seconds")


def read(path: str) -> dict[str, Any]:
    """The report in the file, or a `UserError` that says what is wrong with it."""
    with blaming_the_user(path):
        with open(path, encoding="utf-8") as file:
            report: dict[str, Any] = parse_json(file.read())
        if not _is_report(report):
            raise ValueError("--compare takes a file that rtfast bench --json wrote: this one lacks the machine, "
                             "the threads or rows with their names and times")
    return report


def _is_report(report: Any) -> bool:
    return (isinstance(report, dict) and isinstance(report.get("threads"), int)
            and isinstance(report.get("rows"), list) and all(map(_is_row, report["rows"]))
            and all(isinstance(text, str) for text in _setting(report).values()))


def _is_row(row: Any) -> bool:
    return (isinstance(row, dict) and isinstance(row.get("name"), str)
            and all(isinstance(row.get(name), (int, float)) and 0 < row[name] < 1e9 for name in _TIMES))


def _setting(report: Any) -> dict[str, Any]:
    """What else the times depend on: name -> text, or None where the report does not say."""
    found = {}
    for name, *path in (("CPU", "cpu", "model"), ("backend", "backend", "in_use"), ("NumPy", "numpy", "version")):
        value = report.get("machine")
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        found[name] = value
    return {**found, "threads": str(report.get("threads"))}


def lines(before: dict[str, Any], now: dict[str, Any], path: str, duration: Callable[[float], str]) -> list[str]:
    """The comparison as lines of text; duration: writes seconds."""
    then = {row["name"]: row for row in before["rows"]}
    shared = [(then[row["name"]], row) for row in now["rows"] if row["name"] in then]
    text = ["", f"then: {path}{_differences(before, now)}"]
    if shared:
        text += [f"{'':34}{'time of rtfast':^20}{'':9}{'NumPy':>12}",
                 f"{'':34}{'then':>10}{'now':>10}{'then/now':>9}{'then/now':>12}"]
    for old, new in shared:
        ours, peer = (old[name] / new[name] for name in _TIMES)
        text.append(f"{new['name']:34}{duration(old['rtfast_seconds']):>10}{duration(new['rtfast_seconds']):>10}"
                    f"{ours:>9.2f}{peer:>12.2f}")
    here = {row["name"] for row in now["rows"]}
    text += _only("there, not measured now", [name for name in then if name not in here])
    text += _only("now, not there", [row["name"] for row in now["rows"] if row["name"] not in then])
    if shared:
        text.append("then/now: above 1, it is faster now; NumPy's tells how the machine itself differs.")
    return text


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    old, new = _setting(before), _setting(now)
    different = [f"{name} {old[name]}, now {new[name]}" for name in new if old[name] != new[name]]
    return f" (not alike: {'; '.join(different)})" if different else ""


def _only(where: str, names: list[str]) -> list[str]:
    return textwrap.wrap(f"only {where}: {'; '.join(names)}", 100, subsequent_indent="  ") if names else []
