"""Traces and models as HTML, as notebooks show them: no scripts, colours of the page around, everything escaped."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from rtfast.show import number
from rtfast.walk_steps import walking_order
from rtfast.weights import weight_shapes
from rtfast.words import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtfast.model import Transformer
    from rtfast.trace import Trace

#: Numbers of an intermediate that are shown, and decimals of each.
PREVIEW, DECIMALS = 4, 3
#: Tokens of a sentence, and sentences of a batch, that are shown.
MOST_TOKENS, MOST_SENTENCES = 100, 8

_STYLE = """<style>
.rtfast{overflow-x:auto}.rtfast table{border-collapse:collapse;margin:.3em 0 .6em 1em;font-size:90%}
.rtfast td,.rtfast th{padding:.15em .7em;text-align:left;vertical-align:top;border-bottom:1px solid #8884;\
background:transparent;color:inherit;white-space:nowrap}
.rtfast td.n{font-family:monospace;white-space:pre}
.rtfast summary{cursor:pointer}.rtfast .t{border:1px solid #8888;border-radius:.3em;padding:0 .3em;margin-right:.2em}
</style>"""


def trace_html(trace: Trace) -> str:
    """An overview of a trace: its words, then for each layer what was computed; HTML, folded, some 300 bytes a name.

    Of each intermediate: name, shape, op, formula and its first numbers.
    """
    parts = [_STYLE, '<div class="rtfast">', f"<b>Trace</b>: {len(trace)} intermediates, {trace.nbytes:,} bytes"]
    for side, words in zip(("source", "target"), trace.tokens, strict=True):
        parts.append(_sentences(side, words))
    for group, names in _groups(trace).items():
        rows = "".join(_row(trace, name, group) for name in names)
        parts.append(f"<details><summary><code>{escape(group)}</code> ({len(names)})</summary><table><tr><th>name</th>"
                     f"<th>shape</th><th>op</th><th>formula</th><th>first numbers</th></tr>{rows}</table></details>")
    return "\n".join([*parts, "</div>"])


def model_html(model: Transformer) -> str:
    """A model's sizes, layers, parameters, backend and dtype as a table; HTML."""
    c = model.config
    # A tied output layer is the embedding: weight_shapes names it once.
    parameters = sum(math.prod(shape) for shape in weight_shapes(c).values())
    kinds = [name for name, there in (
        ("pre-norm", c.norm and c.norm_first), ("post-norm", c.norm and not c.norm_first), ("RMS norm", c.rms_norm),
        ("gated", c.gated), ("tied embeddings", c.tie_embeddings), ("no residual", not c.residual),
        ("no norm", not c.norm)) if there]
    words = f"{c.vocab_size:,}" if c.target_vocab_size is None else f"{c.vocab_size:,} to {c.target_vocab_size:,}"
    rows = {
        "layers": f"{c.n_encoder_layers} encoder, {c.n_decoder_layers} decoder", "d_model": f"{c.d_model:,}",
        "n_heads": f"{c.n_heads} (d_key {c.d_key}, d_value {c.d_value})",
        "d_ff": f"{c.d_ff:,} ({c.activation or 'no activation'})", "words": words, "max_length": f"{c.max_length:,}",
        "positions": c.positions or "none", "kind": ", ".join(kinds),
        "parameters": f"{parameters:,}", "dtype": c.dtype, "backend": model.backend,
        "tokenizer": "none" if model.tokenizer is None else repr(model.tokenizer)}
    table = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f'{_STYLE}\n<div class="rtfast">\n<b>Transformer</b><table>{table}</table>\n</div>'


def _sentences(side: str, words: Sequence[Any]) -> str:
    """The words of one side, of a batch each sentence's."""
    sentences = words if words and isinstance(words[0], list) else [words]
    lines = []
    for sentence in sentences[:MOST_SENTENCES]:
        shown = "".join(f'<span class="t">{escape(_seen(word))}</span>' for word in sentence[:MOST_TOKENS])
        lines.append(shown + (f"… {len(sentence)} tokens" if len(sentence) > MOST_TOKENS else ""))
    if len(sentences) > MOST_SENTENCES:
        lines.append(f"… {len(sentences)} sentences")
    return f"<div>{side}: {'<br>'.join(lines)}</div>"


def _seen(word: object) -> str:
    """A token as text in which nothing is invisible, and nothing endless."""
    text = visible(str(word))
    return (text if len(text) <= 40 else text[:39] + "…") if text.strip() else repr(text)


def _groups(trace: Trace) -> dict[str, list[str]]:
    """{where: names} in walking order: "encoder", "encoder.layers.0", ..., "output"."""
    groups: dict[str, list[str]] = {}
    for name in walking_order(trace):
        parts = name.split(".")
        parts = parts[:3] if parts[1:2] == ["layers"] else parts[:1] if len(parts) > 1 else ["output"]
        groups.setdefault(".".join(parts), []).append(name)
    return groups


def _row(trace: Trace, name: str, group: str) -> str:
    array = trace[name]
    short = name.removeprefix(f"{group}.")
    numbers = [number(float(value), DECIMALS, DECIMALS) for value in np.ravel(array[(0,) * (array.ndim - 1)])[:PREVIEW]]
    more = "  …" if array.size > PREVIEW else ""
    return (f'<tr><td title="{escape(name)}"><code>{escape(short)}</code></td><td>{escape(str(array.shape))}</td>'
            f"<td>{escape(trace.op(name))}</td><td>{escape(trace.formula(name))}</td>"
            f'<td class="n">{"".join(f"{text:>9}" for text in numbers)}{more}</td></tr>')
