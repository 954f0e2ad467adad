"""The layers of "Attention Is All You Need", section 3: each appends its ops to a program.

Every function takes the program, the name that its intermediates and weights go by, what it
reads, and the config; it returns the buffer it wrote. `x` is (rows, d_model).
"""

import math

from .program import OUTPUT, View


def embedding(program, name, dimension, config):
    """Word vectors plus positions (sections 3.4 and 3.5): (rows, d_model)."""
    out = program.buffer(f"{name}.input", dimension, config.d_model)
    op = program.append("embedding", out.name, (), out, weights=("embedding.weight",),
                        options={"scale": config.embedding_scale})
    scaled = "" if config.embedding_scale == 1.0 else f" * {config.embedding_scale:g}"
    program.trace_extra(f"{name}.embedding", "rows", op, f"E[id]{scaled}", ("embedding.weight",), "embedding")
    program.trace_extra(f"{name}.positional_encoding", "rows", op, "PE[position]", (), "position")
    program.trace_output(op, "embedding + positional_encoding",
                         (f"{name}.embedding", f"{name}.positional_encoding"))
    return out


def linear(program, name, x, d_out, *, weight=None, bias=None, activation=None, transposed=False, source=None):
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


def _projections(program, name, x, parts, config):
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


def _store(program, name, key, value, cache):
    program.append("store", f"{name}.store", (key, value), None, cache=cache)


def _attend(program, name, query, memory_names, cache, *, causal, config):
    """softmax(Q K^T * scale) V, head by head, and the heads side by side (section 3.2.1)."""
    scale = config.attention_scale if config.attention_scale is not None else 1 / math.sqrt(config.d_key)
    out = program.buffer(f"{name}.concatenated", query.buffer.dimension, config.n_heads * config.d_value)
    op = program.append("attention", f"{name}.heads", (query,), out, cache=cache, options={
        "causal": causal, "scale": scale, "article_softmax": config.article_softmax})
    key, value = memory_names
    program.trace_extra(f"{name}.scores", "scores", op, "Q K^T", (query.name, key), "scores")
    program.trace_extra(f"{name}.scaled_scores", "scores", op, f"scores * {scale:.6g}",
                        (f"{name}.scores",), "scaled_scores")
    masked = ", the future masked" if causal else ""
    program.trace_extra(f"{name}.weights", "scores", op, f"softmax(scaled_scores{masked})",
                        (f"{name}.scaled_scores",), "weights")
    heads = View(out, f"{name}.heads", 0, config.d_value, config.n_heads)
    program.trace_view(heads, op, "weights V", (f"{name}.weights", value), form="heads")
    program.trace_output(op, "heads side by side", (f"{name}.heads",))
    return linear(program, f"{name}.output", out, config.d_model,
                  bias=f"{name}.output.bias" if config.attention_bias else None)


def self_attention(program, name, x, cache, *, causal, config):
    """Multi-head attention of a sequence to itself (section 3.2.2): (rows, d_model)."""
    query, key, value = _projections(program, name, x, ("query", "key", "value"), config)
    _store(program, name, key, value, cache)
    return _attend(program, name, query, (key.name, value.name), cache, causal=causal, config=config)


def cross_memory(program, name, states, cache, config):
    """Keys and values of the encoder's output, once per source sentence (section 3.2.3)."""
    key, value = _projections(program, name, states, ("key", "value"), config)
    _store(program, name, key, value, cache)


def cross_attention(program, name, x, cache, config):
    """Multi-head attention of the target to the source (section 3.2.3): (rows, d_model)."""
    (query,) = _projections(program, name, x, ("query",), config)
    return _attend(program, name, query, (f"{name}.key", f"{name}.value"), cache, causal=False, config=config)


def feed_forward(program, name, x, config):
    """activation(x W1 + b1) W2 + b2 (section 3.3): (rows, d_model)."""
    biases = (f"{name}.hidden.bias", f"{name}.output.bias") if config.feed_forward_bias else (None, None)
    hidden = linear(program, f"{name}.hidden", x, config.d_ff, bias=biases[0], activation=config.activation)
    return linear(program, f"{name}.output", hidden, config.d_model, bias=biases[1])


def add_and_norm(program, name, x, sublayer, config):
    """LayerNorm(x + sublayer) (section 3.1), or as much of it as the config keeps: (rows, d_model)."""
    if not config.residual and not config.norm:
        return sublayer
    options = {"eps": config.layer_norm_eps, "article": config.article_layer_norm}
    gamma_beta = (f"{name}.norm.gamma", f"{name}.norm.beta")
    inputs = (x, sublayer) if config.residual else (sublayer,)
    deviation = "(std + eps)" if config.article_layer_norm else "sqrt(var + eps)"
    normalised = f"(x - mean) / {deviation} * gamma + beta"
    if not config.norm:
        out = program.buffer(f"{name}.residual", x.dimension, config.d_model)
        op = program.append("add", out.name, inputs, out)
        program.trace_output(op, "x + sublayer", (x.name, sublayer.name))
        return out
    out = program.buffer(f"{name}.norm", x.dimension, config.d_model)
    kind = "add_layer_norm" if config.residual else "layer_norm"
    op = program.append(kind, out.name, inputs, out, weights=gamma_beta, options=options)
    before = sublayer.name
    if config.residual:
        before = f"{name}.residual"
        program.trace_extra(before, "rows", op, "x + sublayer", (x.name, sublayer.name), "residual")
    program.trace_output(op, normalised, (before, *gamma_beta))
    return out


def encoder_layer(program, name, x, cache, config):
    """Self-attention and feed-forward, each with residual and norm (section 3.1)."""
    attended = self_attention(program, f"{name}.self_attention", x, cache, causal=False, config=config)
    x = add_and_norm(program, f"{name}.self_attention", x, attended, config)
    return add_and_norm(program, f"{name}.feed_forward", x,
                        feed_forward(program, f"{name}.feed_forward", x, config), config)


def decoder_layer(program, name, x, self_cache, cross_cache, config):
    """Causal self-attention, cross-attention and feed-forward (section 3.1)."""
    attended = self_attention(program, f"{name}.self_attention", x, self_cache, causal=True, config=config)
    x = add_and_norm(program, f"{name}.self_attention", x, attended, config)
    attended = cross_attention(program, f"{name}.cross_attention", x, cross_cache, config)
    x = add_and_norm(program, f"{name}.cross_attention", x, attended, config)
    return add_and_norm(program, f"{name}.feed_forward", x,
                        feed_forward(program, f"{name}.feed_forward", x, config), config)


def next_word(program, x, config, *, probabilities, choose):
    """Logits of the rows asked for, and softmax or argmax (section 3.4): (output rows, vocab_size)."""
    wanted = program.buffer(f"{x.name}.wanted", OUTPUT, x.width)
    program.append("gather", wanted.name, (x,), wanted)
    logits = linear(program, "logits", wanted, config.vocab_size, source=x.name,
                    weight="embedding.weight" if config.tie_embeddings else "output.weight",
                    bias="output.bias" if config.output_bias else None, transposed=config.tie_embeddings)
    program.results["logits"] = logits
    if probabilities:
        out = program.buffer("probabilities", OUTPUT, config.vocab_size)
        op = program.append("softmax", out.name, (logits,), out)
        program.trace_output(op, "softmax(logits)", ("logits",))
        program.results["probabilities"] = out
    if choose:
        out = program.buffer("next_id", OUTPUT, 1, integer=True)
        program.append("argmax", out.name, (logits,), out)
        program.results["next_id"] = out


