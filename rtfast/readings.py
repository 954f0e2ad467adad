"""What a trace says about words: the likeliest next ones, what each layer would say, which source words are attended.

Each function is the one place that computes its reading; the terminal walk and the plots only show it.
"""

import numpy as np

from . import backends, kernels
from .norms import NORMS


def words_of(model, ids):
    """The words of ids as text: the tokenizer's, or the ids themselves where there is none."""
    ids = [int(number) for number in ids]
    tokenizer = getattr(model, "tokenizer", None)
    return list(tokenizer.tokens(ids)) if hasattr(tokenizer, "tokens") else [str(number) for number in ids]


def top(model, trace, k=5):
    """For each target position the k likeliest next words, a list of lists of (word, probability)."""
    _, places = kernels.top_k(trace["logits"], k)
    return [[(word, float(row[i])) for word, i in zip(words_of(model, ids), ids, strict=True)]
            for ids, row in zip(places, trace["probabilities"], strict=True)]


def alignment(trace, layers=None, heads=None):
    """Cross-attention averaged over layers and heads: (T, S), rows that sum to 1.

    layers, heads: numbers from 0 on, or a list of them; None takes all. Raises ValueError for a trace without
    cross-attention, IndexError for a layer or head that is not there.
    """
    names = [name for name in trace if name.endswith(".cross_attention.weights")]
    if not names:
        raise ValueError("alignment: the trace has no cross-attention weights")
    weights = np.stack([trace[name] for name in names])
    if weights.ndim != 4:
        raise ValueError(f"alignment: the trace must be of one sentence, got weights of shape {weights.shape[1:]}")
    weights = weights[_chosen("layers", layers, weights.shape[0])]
    return weights[:, _chosen("heads", heads, weights.shape[1])].mean(axis=(0, 1))


def _chosen(name, asked, count):
    places = list(range(count)) if asked is None else [asked] if isinstance(asked, (int, np.integer)) else list(asked)
    if not places or not all(0 <= place < count for place in places):
        raise IndexError(f"alignment: {name} must be within 0..{count - 1}, got {asked!r}")
    return places


def lens(model, trace):
    """{name of each decoder layer's last state: logits (T, target words)}: what the model would say after that layer.

    The final norm, where the config has one, and the output layer are applied to every state, by the model's kernels;
    the last one is trace["logits"].
    """
    config, weights = model.config, model.weights
    matrix = weights[config.target_embedding].T if config.tie_embeddings else weights["output.weight"]
    packed, bias = kernels.pack(np.ascontiguousarray(matrix)), weights["output.bias"] if config.output_bias else None
    found = {}
    for name in decoder_states(trace, config.n_decoder_layers):
        states = _final_norm(config, weights, trace[name]) if config.final_norm else trace[name]
        if config.output_scale != 1.0:
            states = states * states.dtype.type(config.output_scale)
        found[name] = kernels.linear(states, packed, bias)
    return found


def decoder_states(trace, layers):
    """Names of what each of the decoder's layers ends in."""
    last = {}
    for name in trace:
        parts = name.split(".")
        if parts[:2] == ["decoder", "layers"] and parts[-1] != "wanted":
            last[int(parts[2])] = name
    return [last[i] for i in range(layers)]


def _final_norm(config, weights, states):
    form = "rms" if config.rms_norm else "article" if config.article_layer_norm else "paper"
    eps = config.layer_norm_eps if config.final_norm_eps is None else config.final_norm_eps
    out = np.empty_like(states)
    backends.active().layer_norm(
        states.reshape(-1, config.d_model), weights.get("decoder.norm.gamma"), weights.get("decoder.norm.beta"), eps,
        NORMS[form], out.reshape(-1, config.d_model))
    return out
