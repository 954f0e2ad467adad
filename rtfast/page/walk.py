"""The order of the page: its steps, which matrices each shows, and a plain sentence on what happens there and why.

A step is {"id", "title", "paper", "say", "names": [{"name", "title", "say"}]}; a stack has "layers", each with
"blocks" that are steps. A name that no step knows goes to the last one, so that nothing of a trace is lost.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtfast.config import Config
    from rtfast.trace import Trace

#: Title and sentence of each kind of matrix; {…} are filled in from `_facts`.
PARTS = {
    "embedding": ("Embedding", "Each word's id picks its row of the table of word vectors{scaled}."),
    "positional_encoding": ("Positional encoding", "{positions}"),
    "input": ("Input of the first layer", "{input}"),
    "query": ("Query Q", "What each word looks for: its vector times W_Q, a matrix of its own for every head."),
    "key": ("Key K", "What each word offers to be found by: {memory} times W_K."),
    "value": ("Value V", "What each word hands over when it is looked at: {memory} times W_V."),
    "scores": ("Scores Q Kᵀ", "Query times key, for every pair: how well what a row's word looks for fits what a "
                              "column's word offers."),
    "scaled_scores": ("Scaled scores", "{scale}{biased}.{mask}"),
    "weights": ("Attention weights", "Softmax turns each row of scores into shares that add up to 1: how much of its "
                                     "attention the row's word gives to each column's word.{article_softmax}"),
    "heads": ("Heads", "Each row mixes the values of all words by its weights. That is the head's output."),
    "concatenated": ("Concatenation", "The {n_heads} heads' outputs lie side by side again, one long row for a word."),
    "attention_output": ("Output projection", "One more matrix, W_O, lets what the heads found flow together."),
    "residual": ("Residual", "What went into the sublayer is added to what came out, so that nothing is lost on the "
                             "way and each sublayer only has to say what changes."),
    "norm": ("Norm", "{norm}"),
    "gate": ("Gate", "A second product that decides how much of each hidden number passes."),
    "gated": ("Gated hidden layer", "{gated}"),
    "hidden": ("Hidden layer", "Every word on its own: its vector times W₁; {d_model} numbers become "
                               "{d_ff}{activation}."),
    "feed_forward_output": ("Output", "Back to {d_model} numbers, times W₂."),
    "logits": ("Logits", "The last linear layer gives every word of the vocabulary a number{tied}: the larger, the "
                         "likelier."),
    "probabilities": ("Probabilities", "Softmax turns a row of logits into probabilities that add up to 1."),
    "wanted": ("Scaled states", "The decoder's states times {output_scale}, as the last linear layer reads them."),
}

BLOCKS = {
    "self_attention": ("Self-attention", "3.2.2"),
    "cross_attention": ("Cross-attention", "3.2.3"),
    "feed_forward": ("Feed-forward network", "3.3"),
}


def walk(config: Config, trace: Trace) -> list[dict[str, Any]]:
    """The steps, in order: a list of dicts."""
    facts, left = _facts(config), list(trace)

    def take(*names: str, **more: object) -> list[dict[str, Any]]:
        found = [name for name in names if name in left]
        for name in found:
            left.remove(name)
        return [_entry(name, {**facts, **more}) for name in found]

    steps: list[dict[str, Any]] = [{
        "id": "tokens", "kind": "tokens", "title": "Words become ids", "paper": "3.4", "names": [],
        "say": "A model reads numbers. The text is cut into tokens, and each token becomes its place in the "
               "vocabulary: its id."}]
    for side in ("encoder", "decoder"):
        steps += [_input(side, config, take), _stack(side, config, trace, take)]
        steps[-1]["names"] = take(f"{side}.norm")
    if any(name.endswith(".cross_attention.weights") for name in trace):
        steps.append({"id": "cross", "kind": "cross", "title": "Which word looks at which", "paper": "3.2.3",
                      "names": [], "say": _CROSS})
    wanted = [name for name in left if name.endswith(".wanted")]
    steps.append({"id": "next-word", "kind": "words", "title": "The next word", "paper": "3.4", "say": _WORDS,
                  "names": take(*wanted, "logits", "probabilities")})
    if left:
        steps.append({"id": "more", "kind": "matrices", "title": "What else was computed", "paper": None,
                      "say": "Intermediates of this model that have no place in the steps above.",
                      "names": take(*left)})
    return [step for step in steps if step.get("kind") in ("tokens", "cross") or step["names"] or step.get("layers")]


_CROSS = ("The decoder's cross-attention is where the two sentences meet. A line is as strong as the attention that "
          "the word being read on the left gives to the source word on the right, while the next word is looked for.")
_WORDS = ("After the last layer each row is turned into a number for every word of the vocabulary, and these into "
          "probabilities. One of them is chosen, in greedy search the likeliest, and read next, until the sentence "
          "ends. Move the slider to follow.")


def _input(side: str, config: Config, take: Callable[..., list[dict[str, Any]]]) -> dict[str, Any]:
    whose = "source" if side == "encoder" else "target"
    order = {"relative": "Attention sees no order: here its scores will be told how far apart two words are.",
             None: "Attention sees no order, and this model is told of none."}
    place = order.get(config.positions, "Attention sees no order, so each vector is also told its place.")
    say = (f"An id says nothing about a word, a vector can. {place}" if side == "encoder" else
           "The decoder reads what has been said so far, from the start token on, in the same way.")
    return {"id": f"{side}-input", "kind": "matrices", "title": f"{whose.capitalize()} vectors",
            "paper": "3.4 and 3.5", "say": say,
            "names": take(f"{side}.embedding", f"{side}.positional_encoding", f"{side}.input",
                          f"{side}.embedding.norm")}


def _stack(side: str, config: Config, trace: Trace, take: Callable[..., list[dict[str, Any]]]) -> dict[str, Any]:
    count = config.n_encoder_layers if side == "encoder" else config.n_decoder_layers
    say = {"encoder": "Each layer lets the source's words look at each other, then works on every word by itself. Open "
                      "a layer to see all that it computes.",
           "decoder": "Each layer lets the words said so far look at each other, but never ahead, then at the source, "
                      "then works on every word by itself."}[side]
    layers = []
    for i in range(count):
        blocks = [_block(f"{side}.layers.{i}.{part}", config, trace, take) for part in BLOCKS]
        layers.append({"id": f"{side}-layer-{i + 1}", "title": f"{side.capitalize()} layer {i + 1}",
                       "blocks": [block for block in blocks if block]})
    return {"id": f"{side}-stack", "kind": "stack", "title": f"{side.capitalize()}: {count} layer{'s' * (count != 1)}",
            "paper": "3.1", "say": say, "names": [], "layers": [layer for layer in layers if layer["blocks"]]}


def _block(prefix: str, config: Config, trace: Trace,
           take: Callable[..., list[dict[str, Any]]]) -> dict[str, Any] | None:
    """The step of one sublayer, or None where the trace has nothing of it."""
    side, part = prefix.partition(".")[0], prefix.rpartition(".")[2]
    causal = side == "decoder" and part == "self_attention"
    mask = (" Hatched cells lie in the future: they are masked, so that no word sees what comes after it."
            if causal else "")
    biased = config.positions == "relative" and part == "self_attention"
    memory = "the encoder's vector of a source word" if part == "cross_attention" else "its vector"
    title, section = BLOCKS[part]
    norm_last = not config.norm_first
    order = [f"{prefix}.{name}" for name in (
        *(() if norm_last else ("norm",)), "query", "key", "value", "scores", "scaled_scores", "weights", "heads",
        "concatenated", "gate", "hidden", "gated", "output", "residual", *(("norm",) if norm_last else ()))]
    extra = [name for name in trace if name.startswith(f"{prefix}.") and name not in order]
    names = take(*order, *extra, mask=mask, memory=memory, biased=_BIASED * biased)
    if not names:
        return None
    return {"id": prefix.replace(".", "-"), "prefix": prefix, "kind": part, "title": title, "paper": section,
            "say": _SAYS[part].format(n_heads=_heads(config), causal=" so far" * causal, network=_network(config)),
            "names": names}


_SAYS = {
    "self_attention": "Each word looks at the words{causal} of its own sentence and takes up what matters to it, "
                      "{n_heads}.",
    "cross_attention": "Each word of the target looks at the source sentence: the query comes from the decoder, keys "
                       "and values from the encoder, {n_heads}.",
    "feed_forward": "{network}, the same for every position, think over what attention has gathered.",
}
_BIASED = ", and a learned bias for the distance of the two words is added"


def _heads(config: Config) -> str:
    return f"in {config.n_heads} heads at once" if config.n_heads > 1 else "in one head"


def _network(config: Config) -> str:
    if config.gated:
        return "Two linear layers side by side, one of them a gate for the other, and a third after them"
    return "Two linear layers" + " with an activation between them" * (config.activation is not None)


def _entry(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    part = name.rpartition(".")[2]
    if part == "output":
        part = "feed_forward_output" if ".feed_forward." in name else "attention_output"
    title, say = PARTS.get(part, (part.replace("_", " ").capitalize(), ""))
    if name in ("encoder.norm", "decoder.norm"):
        title = "Norm after the last layer"
    elif name.endswith(".embedding.norm"):
        title = "Norm of the embedding"
    elif part == "input" and facts["embedding_norm"]:
        title = "Vectors before their norm"
    return {"name": name, "title": title, "say": say.format(**facts)}


def _facts(config: Config) -> dict[str, Any]:
    """What the sentences need to know of the config."""
    scale = f"{1 / math.sqrt(config.d_key):.4g}, which is 1 / √{config.d_key}"
    scale = scale if config.attention_scale is None else f"{config.attention_scale:.6g}"
    activated = f"{config.activation} {_ACTIVATIONS[config.activation]}" if config.activation else ""
    scaled = "" if config.embedding_scale == 1 else f", times {config.embedding_scale:.6g}"
    return {
        "mask": "", "memory": "its vector", "biased": "", "n_heads": config.n_heads,
        "d_model": config.d_model, "d_ff": config.d_ff, "scaled": scaled,
        "positions": _positions(config),
        "input": ("Word vector plus position: which word it is, and where it stands."
                  if config.positions not in (None, "relative") else
                  f"Each word's id picks its row of the table of word vectors{scaled}."),
        "embedding_norm": config.embedding_norm,
        "scale": ("This model leaves the scores as large as they are" if config.attention_scale == 1 else
                  "Long vectors make large products, and these would make softmax all or nothing; so each score is "
                  f"multiplied by {scale}"),
        "article_softmax": (" As in the article, the row's maximum is not subtracted first." *
                            config.article_softmax),
        "norm": _norm(config), "output_scale": f"{config.output_scale:.6g}",
        "activation": f", and {activated}" if activated and not config.gated else "",
        "gated": (f"Of the gate's numbers {activated}. Then e" if activated else "E") +
                 "ach number of the gate is multiplied by the hidden one in its place.",
        "tied": ", the product of its state with that word's embedding" * config.tie_embeddings,
    }


_ACTIVATIONS = {"relu": "sets the negative ones to 0", "gelu": "bends the negative ones towards 0",
                "gelu_tanh": "bends the negative ones towards 0", "silu": "bends the negative ones towards 0"}


def _positions(config: Config) -> str:
    if config.positions == "learned":
        return "A row for every position, learned in training: the same for any word that stands there."
    shape = {"halves": "sines in the left half, cosines in the right", "tensor2tensor": "sines in the left half, "
             "cosines in the right"}.get(config.positions or "", "sines in the even columns, cosines in the odd ones")
    return (f"A pattern for every position, the same for any word that stands there: {shape}, slower from column to "
            "column.")


def _norm(config: Config) -> str:
    if config.rms_norm:
        return "Each row is divided by the root of its mean square, then scaled by gamma: numbers stay in reach."
    return ("Each row is shifted to mean 0 and divided by its spread, then scaled by gamma and shifted by beta: "
            "numbers stay in reach, layer after layer.")
