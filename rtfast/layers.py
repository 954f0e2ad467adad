"""The layers of "Attention Is All You Need", section 3: each appends its ops to a program.

Every function takes the program, the name that its intermediates and weights go by, what it
reads, and the config; it returns the buffer it wrote. `x` is (rows, d_model).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .kernels import MOST_TOP
from .norms import NORMS
from .program import OUTPUT, TARGET, View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtfast.config import Config
    from rtfast.program import Buffer, Cache, Program

#: Words whose bounds are computed side by side (BYTE_COLUMNS in csrc/bytes.h).
SCREEN_WIDTH = 32


def given_states(program: Program, name: str, dimension: str, d_model: int, formula: str = "given",
                 inputs: Sequence[str] = ()) -> Buffer:
    """States that the caller gives, in place of an embedding: (rows, d_model)."""
    out = program.buffer(f"{name}.input", dimension, d_model)
    program.trace_output(program.append("input", out.name, (), out), formula, inputs)
    return out


def embedding(program: Program, name: str, dimension: str, config: Config) -> Buffer:
    """Word vectors plus positions (sections 3.4 and 3.5), normalised where the config says so: (rows, d_model)."""
    out = program.buffer(f"{name}.input", dimension, config.d_model)
    table = config.target_embedding if dimension == TARGET else "embedding.weight"
    learned = (f"{name}.positions.weight",) if config.positions == "learned" else ()
    op = program.append("embedding", out.name, (), out, weights=(table, *learned),
                        options={"scale": config.embedding_scale})
    scaled = "" if config.embedding_scale == 1.0 else f" * {config.embedding_scale:g}"
    if config.positions in (None, "relative"):
        program.trace_output(op, f"E[id]{scaled}", (table,))
    else:
        program.trace_extra(f"{name}.embedding", "rows", op, f"E[id]{scaled}", (table,), "embedding")
        program.trace_extra(f"{name}.positional_encoding", "rows", op, "PE[position]", learned, "position")
        program.trace_output(op, "embedding + positional_encoding",
                             (f"{name}.embedding", f"{name}.positional_encoding"))
    return norm(program, f"{name}.embedding", out, config) if config.embedding_norm else out


def linear(program: Program, name: str, x: Buffer, d_out: int, *, weight: str | None = None, bias: str | None = None,
           activation: str | None = None, transposed: bool = False, source: str | None = None) -> Buffer:
    """activation(x W + b) (section 3.3): (rows, d_out).

    weight: its name if not {name}.weight; bias: its name, or None without one; transposed: the weight lies
    as (d_out, d_in); source: the name of x in a trace if not its own.
    """
    weight = weight or f"{name}.weight"
    out = program.buffer(name, x.dimension, d_out)
    op = program.append("linear", name, (x,), out, weights=(weight,), bias=(bias,) if bias else (),
                        options={"activation": activation, "transposed": transposed})
    formula = ("x W^T" if transposed else "x W") + (" + b" if bias else "")
    program.trace_output(op, f"{activation}({formula})" if activation else formula,
                         (source or x.name, weight, *op.bias))
    return out


def _projections(program: Program, name: str, x: Buffer, parts: Sequence[str], config: Config) -> list[View]:
    """Several projections of x as one product; a view of its columns for each (section 3.2.2)."""
    widths = {"query": config.d_key, "key": config.d_key, "value": config.d_value}
    total = sum(config.n_heads * widths[part] for part in parts)
    out = program.buffer(f"{name}.projections", x.dimension, total)
    op = program.append(
        "linear", out.name, (x,), out, weights=tuple(f"{name}.{part}.weight" for part in parts),
        bias=tuple(f"{name}.{part}.bias" for part in parts) if config.attention_bias else (),
        options={"activation": None, "transposed": False})
    views, start = [], 0
    for part in parts:
        views.append(View(out, f"{name}.{part}", start, widths[part], config.n_heads))
        start += config.n_heads * widths[part]
        product = f"x W_{part[0].upper()}" + (" + b" if config.attention_bias else "")
        program.trace_view(views[-1], op, product, (x.name, f"{name}.{part}.weight"), form="heads")
    return views


def _store(program: Program, name: str, key: View, value: View, cache: Cache) -> None:
    program.append("store", f"{name}.store", (key, value), None, cache=cache)


def _attend(program: Program, name: str, query: View, memory_names: tuple[str, str], cache: Cache, *, causal: bool,
            config: Config) -> Buffer:
    """softmax(Q K^T * scale) V, head by head, and the heads side by side (section 3.2.1)."""
    scale = config.attention_scale if config.attention_scale is not None else 1 / math.sqrt(config.d_key)
    out = program.buffer(f"{name}.concatenated", query.buffer.dimension, config.n_heads * config.d_value)
    biased = config.positions == "relative" and cache.role != "cross"
    bias = (f"{name.partition('.')[0]}.relative_bias.weight",) if biased else ()
    op = program.append("attention", f"{name}.heads", (query,), out, cache=cache, weights=bias, options={
        "causal": causal, "scale": scale, "article_softmax": config.article_softmax,
        "reach": config.relative_distance})
    key, value = memory_names
    program.trace_extra(f"{name}.scores", "scores", op, "Q K^T", (query.name, key), "scores")
    plus = " + bias[distance]" if biased else ""
    program.trace_extra(f"{name}.scaled_scores", "scores", op, f"scores * {scale:.6g}{plus}",
                        (f"{name}.scores", *bias), "scaled_scores")
    masked = ", the future masked" if causal else ""
    program.trace_extra(f"{name}.weights", "scores", op, f"softmax(scaled_scores{masked})",
                        (f"{name}.scaled_scores",), "weights")
    heads = View(out, f"{name}.heads", 0, config.d_value, config.n_heads)
    program.trace_view(heads, op, "weights V", (f"{name}.weights", value), form="heads")
    program.trace_output(op, "heads side by side", (f"{name}.heads",))
    return linear(program, f"{name}.output", out, config.d_model,
                  bias=f"{name}.output.bias" if config.attention_bias else None)


def self_attention(program: Program, name: str, x: Buffer, cache: Cache, *, causal: bool, config: Config) -> Buffer:
    """Multi-head attention of a sequence to itself (section 3.2.2): (rows, d_model)."""
    query, key, value = _projections(program, name, x, ("query", "key", "value"), config)
    _store(program, name, key, value, cache)
    return _attend(program, name, query, (key.name, value.name), cache, causal=causal, config=config)


def cross_memory(program: Program, name: str, states: Buffer, cache: Cache, config: Config) -> None:
    """Keys and values of the encoder's output, once per source sentence (section 3.2.3)."""
    key, value = _projections(program, name, states, ("key", "value"), config)
    _store(program, name, key, value, cache)


def cross_attention(program: Program, name: str, x: Buffer, cache: Cache, config: Config) -> Buffer:
    """Multi-head attention of the target to the source (section 3.2.3): (rows, d_model)."""
    (query,) = _projections(program, name, x, ("query",), config)
    return _attend(program, name, query, (f"{name}.key", f"{name}.value"), cache, causal=False, config=config)


def feed_forward(program: Program, name: str, x: Buffer, config: Config) -> Buffer:
    """activation(x W1 + b1) W2 + b2 (section 3.3), or with a gate activation(x W_gate) * (x W1): (rows, d_model)."""
    biases = (f"{name}.hidden.bias", f"{name}.output.bias") if config.feed_forward_bias else (None, None)
    if config.gated:
        return linear(program, f"{name}.output", _gated(program, name, x, config), config.d_model, bias=biases[1])
    hidden = linear(program, f"{name}.hidden", x, config.d_ff, bias=biases[0], activation=config.activation)
    return linear(program, f"{name}.output", hidden, config.d_model, bias=biases[1])


def _gated(program: Program, name: str, x: Buffer, config: Config) -> Buffer:
    """activation(x W_gate) * (x W_hidden), the two products as one: (rows, d_ff)."""
    parts = ("gate", "hidden")
    both = program.buffer(f"{name}.projections", x.dimension, 2 * config.d_ff)
    biased = config.feed_forward_bias
    op = program.append("linear", both.name, (x,), both, weights=tuple(f"{name}.{part}.weight" for part in parts),
                        bias=tuple(f"{name}.{part}.bias" for part in parts) if biased else (),
                        options={"activation": None, "transposed": False})
    for i, part in enumerate(parts):
        program.trace_view(View(both, f"{name}.{part}", i * config.d_ff, config.d_ff), op,
                           "x W + b" if biased else "x W", (x.name, f"{name}.{part}.weight"))
    out = program.buffer(f"{name}.gated", x.dimension, config.d_ff)
    op = program.append("gate", out.name, (both,), out, options={"activation": config.activation})
    activated = f"{config.activation}(gate)" if config.activation else "gate"
    program.trace_output(op, f"{activated} * hidden", (f"{name}.gate", f"{name}.hidden"))
    return out


def _norm_details(name: str, config: Config, eps: float | None = None) -> tuple[tuple[str, ...], dict[str, Any], str]:
    """(weights, options, formula) of the norm that the config has; eps: if not layer_norm_eps."""
    weights = (f"{name}.norm.gamma",) if config.rms_norm else (f"{name}.norm.gamma", f"{name}.norm.beta")
    form = "rms" if config.rms_norm else "article" if config.article_layer_norm else "paper"
    formula = {"paper": "(x - mean) / sqrt(var + eps) * gamma + beta",
               "article": "(x - mean) / (std + eps) * gamma + beta",
               "rms": "x / sqrt(mean(x^2) + eps) * gamma"}[form]
    return weights, {"eps": config.layer_norm_eps if eps is None else eps, "form": NORMS[form]}, formula


def norm(program: Program, name: str, x: Buffer, config: Config, eps: float | None = None) -> Buffer:
    """Layer norm (section 3.1): (rows, d_model). eps: if not the config's layer_norm_eps."""
    weights, options, formula = _norm_details(name, config, eps)
    out = program.buffer(f"{name}.norm", x.dimension, config.d_model)
    op = program.append("layer_norm", out.name, (x,), out, weights=weights, options=options)
    program.trace_output(op, formula, (x.name, *weights))
    return out


def add(program: Program, name: str, x: Buffer, sublayer: Buffer, config: Config) -> Buffer:
    """The residual connection x + sublayer (section 3.1): (rows, d_model)."""
    out = program.buffer(f"{name}.residual", x.dimension, config.d_model)
    op = program.append("add", out.name, (x, sublayer), out)
    program.trace_output(op, "x + sublayer", (x.name, sublayer.name))
    return out


def sublayer(program: Program, name: str, x: Buffer, config: Config, function: Callable[[Buffer], Buffer]) -> Buffer:
    """function(x) with its residual connection and norm, in the config's order (section 3.1): (rows, d_model)."""
    if not config.norm_first:
        return add_and_norm(program, name, x, function(x), config)
    made = function(norm(program, name, x, config) if config.norm else x)
    return add(program, name, x, made, config) if config.residual else made


def add_and_norm(program: Program, name: str, x: Buffer, sublayer: Buffer, config: Config) -> Buffer:
    """LayerNorm(x + sublayer) (section 3.1), or as much of it as the config keeps: (rows, d_model)."""
    if not config.residual and not config.norm:
        return sublayer
    if not config.norm:
        return add(program, name, x, sublayer, config)
    if not config.residual:
        return norm(program, name, sublayer, config)
    weights, options, formula = _norm_details(name, config)
    out = program.buffer(f"{name}.norm", x.dimension, config.d_model)
    op = program.append("add_layer_norm", out.name, (x, sublayer), out, weights=weights, options=options)
    program.trace_extra(f"{name}.residual", "rows", op, "x + sublayer", (x.name, sublayer.name), "residual")
    program.trace_output(op, formula, (f"{name}.residual", *weights))
    return out


def encoder_layer(program: Program, name: str, x: Buffer, cache: Cache, config: Config, *,
                  causal: bool = False) -> Buffer:
    """Self-attention and feed-forward, each with residual and norm (section 3.1)."""
    attention, feeding = f"{name}.self_attention", f"{name}.feed_forward"
    x = sublayer(program, attention, x, config, lambda x: self_attention(
        program, attention, x, cache, causal=causal, config=config))
    return sublayer(program, feeding, x, config, lambda x: feed_forward(program, feeding, x, config))


def decoder_layer(program: Program, name: str, x: Buffer, self_cache: Cache, cross_cache: Cache, config: Config, *,
                  causal: bool = True) -> Buffer:
    """Self-attention that does not see the future, cross-attention and feed-forward (section 3.1)."""
    attention, crossing, feeding = (f"{name}.{part}" for part in ("self_attention", "cross_attention", "feed_forward"))
    x = sublayer(program, attention, x, config, lambda x: self_attention(
        program, attention, x, self_cache, causal=causal, config=config))
    x = sublayer(program, crossing, x, config, lambda x: cross_attention(program, crossing, x, cross_cache, config))
    return sublayer(program, feeding, x, config, lambda x: feed_forward(program, feeding, x, config))


def _wanted(program: Program, x: Buffer, config: Config) -> Buffer:
    """The rows asked for, scaled as the last linear layer wants them: (output rows, d_model)."""
    wanted = program.buffer(f"{x.name}.wanted", OUTPUT, x.width)
    op = program.append("gather", wanted.name, (x,), wanted, options={"scale": config.output_scale})
    if config.output_scale != 1.0:
        program.trace_output(op, f"x * {config.output_scale:g}", (x.name,))
    return wanted


def _output_layer(config: Config) -> tuple[str, str | None, bool]:
    """Weight, bias or None, and whether the weight lies transposed, of the last linear layer."""
    return (config.target_embedding if config.tie_embeddings else "output.weight",
            "output.bias" if config.output_bias else None, config.tie_embeddings)


def next_word(program: Program, x: Buffer, config: Config, *, probabilities: bool, choose: bool) -> None:
    """Logits of the rows asked for, and softmax or the likeliest words (section 3.4): (output rows, vocab_size)."""
    wanted, (weight, bias, transposed) = _wanted(program, x, config), _output_layer(config)
    logits = linear(program, "logits", wanted, config.target_words, weight=weight, bias=bias, transposed=transposed,
                    source=x.name if config.output_scale == 1.0 else wanted.name)
    program.results["logits"] = logits
    if probabilities:
        out = program.buffer("probabilities", OUTPUT, config.target_words)
        op = program.append("softmax", out.name, (logits,), out)
        program.trace_output(op, "softmax(logits)", ("logits",))
        program.results["probabilities"] = out
    if choose:
        out = program.buffer("top", OUTPUT, MOST_TOP)
        program.append("top", out.name, (logits,), out)
        program.results["top"] = out


def likeliest_words(program: Program, x: Buffer, config: Config) -> None:
    """The likeliest words of the rows asked for and their logits, without the others': see csrc/screen.pxi."""
    wanted, (weight, bias, _) = _wanted(program, x, config), _output_layer(config)
    details = {"weights": (weight,), "bias": (bias,) if bias else ()}
    bounds = program.buffer("logits.bounds", OUTPUT, -(-config.target_words // SCREEN_WIDTH))
    program.append("screen", bounds.name, (wanted,), bounds, **details)
    out = program.buffer("top", OUTPUT, MOST_TOP)
    program.append("pick", out.name, (wanted, bounds), out, **details)
    program.results["top"] = out
