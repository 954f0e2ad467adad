"""The example of the article "The Random Transformer", step by step, every number computed by the engine.

Two words go through an encoder and a decoder of ten-word vocabulary and width 4. The inputs and the first
attention's weights are the article's (rtfast.article); all other weights are random, drawn from --seed.
"""

from __future__ import annotations

import statistics
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

import rtfast
from rtfast import article, backends, kernels, show
from rtfast.cli import whole_number
from rtfast.steps import chosen_steps

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rtfast.typing import Array

EXAMPLES = """\
examples:
  rtfast demo
  rtfast demo --steps 5-8 --precision 8    one head after the other, to 8 decimals
  rtfast demo --seed 1 --steps 12,13       other random weights, other words"""

#: Random weights know no Spanish. Among the first thousand seeds this one says what the article hopes for.
DEFAULT_SEED = 729
MOST_WORDS = 8
TEXT = " ".join(article.TOKENS)
LAYER = "encoder.layers.0"
EPS = 1e-6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=whole_number(0), default=DEFAULT_SEED, metavar="N",
                        help=f"draws the weights that the article leaves random (default {DEFAULT_SEED})")
    parser.add_argument("--steps", default=f"1-{len(STEPS)}", metavar="LIST",
                        help=f"steps to show, of {len(STEPS)}: such as 6 or 5-9 or 1,12-13 (default all)")
    parser.add_argument("--precision", type=whole_number(1, 15), default=4, metavar="N",
                        help="decimals, 1 to 15 (default 4; the article prints 8)")
    parser.add_argument("--float32", action="store_true",
                        help="compute in float32, not in the article's float64")


def run(arguments: argparse.Namespace) -> None:
    """Print the steps asked for."""
    chosen = chosen_steps("--steps", arguments.steps, len(STEPS))
    dtype = "float32" if arguments.float32 else "float64"
    model = articles_model(arguments.seed, dtype)
    page = show.Page(arguments.precision)
    walk = SimpleNamespace(
        page=page, model=model, seed=arguments.seed, numbers=first_layer(model),
        generated=model.generate(TEXT, MOST_WORDS), trace=model.trace(TEXT, max_new_tokens=MOST_WORDS))
    print(f"The Random Transformer, number by number    "
          f"(rtfast {rtfast.__version__}, {model.backend} backend, {dtype})")
    for i in chosen:
        title, step = STEPS[i]
        page.title(f"{i + 1:2}. {title}")
        step(walk)


def articles_model(seed: int, dtype: str) -> rtfast.Transformer:
    """A Transformer of the article's sizes whose first attention is the article's; the rest is random.

    The model adds exact sines, the article rounded ones: the two words' embedding makes up for that, so
    that the first layer reads the article's input.
    """
    config = rtfast.Config.article(attention_scale=article.SOFTER_SCALE, dtype=dtype)
    tokenizer = rtfast.WordTokenizer(article.VOCABULARY)
    weights = rtfast.Transformer.random(config, seed).weights
    embedding = weights["embedding.weight"].astype(np.float64)
    read = np.add(article.EMBEDDING, article.POSITIONAL_ENCODING)
    embedding[tokenizer.encode(TEXT)] = read - kernels.positional_encoding(len(read), read.shape[1], article=True)
    name = f"{LAYER}.self_attention"
    return rtfast.Transformer(config, {
        **weights, "embedding.weight": embedding,
        f"{name}.query.weight": article.W_QUERY, f"{name}.key.weight": article.W_KEY,
        f"{name}.value.weight": article.W_VALUE, f"{name}.output.weight": article.W_OUTPUT}, tokenizer)


def first_layer(model: rtfast.Transformer) -> SimpleNamespace:
    """Every number of the first encoder layer, kernel by kernel; two of a kind are head 1's and head 2's."""
    def array(values: Any) -> Array:
        return np.array(values, model.config.dtype)

    def feed_forward_weight(name: str) -> Array:
        return model.weights[f"{LAYER}.feed_forward.{name}"]

    n = SimpleNamespace(embedding=array(article.EMBEDDING), rounded=array(article.POSITIONAL_ENCODING))
    n.positions = kernels.positional_encoding(2, 4, article=True, dtype=n.embedding.dtype)
    n.x = n.embedding + n.rounded
    n.w_query, n.w_key, n.w_value = map(array, (article.W_QUERY, article.W_KEY, article.W_VALUE))
    both = np.stack([n.x, n.x])
    n.query, n.key, n.value = (kernels.matmul(both, w) for w in (n.w_query, n.w_key, n.w_value))
    n.scores = kernels.matmul(n.query, n.key.transpose(0, 2, 1))
    n.scaled = n.scores / np.sqrt(array(3))
    n.hard = kernels.softmax(n.scaled)
    n.hard_heads = kernels.attention(n.query, n.key, n.value)
    n.heads, n.weights = kernels.attention(
        n.query, n.key, n.value, scale=article.SOFTER_SCALE, return_weights=True)
    n.concatenated = np.concatenate(n.heads, axis=1)
    n.w_output = array(article.W_OUTPUT)
    n.attended = kernels.linear(n.concatenated, n.w_output)
    n.residual = n.x + n.attended
    n.norm = kernels.layer_norm(n.residual, eps=EPS, article=True)
    n.w1, n.b1, n.w2, n.b2 = map(
        feed_forward_weight, ("hidden.weight", "hidden.bias", "output.weight", "output.bias"))
    n.hidden = kernels.linear(n.norm, n.w1, n.b1, activation="relu")
    n.fed = kernels.linear(n.hidden, n.w2, n.b2)
    n.output = kernels.add_layer_norm(n.norm, n.fed, eps=EPS, article=True)
    return n


def spelled(row: Array, column: Array) -> str:
    """A dot product as one would write it down: 1*4 + 3*0."""
    return " + ".join(f"{a:.6g}*{b:.6g}" for a, b in zip(row, column, strict=True))


def tokens(walk: SimpleNamespace) -> None:
    walk.page.say("A model reads numbers. Each word becomes its place in the vocabulary, its id.")
    words = [f"{i} {word}" for i, word in enumerate(article.VOCABULARY)]
    ids = walk.model.tokenizer.encode(TEXT)
    walk.page.formula("ids = places of the words", f"tokenizer.encode({TEXT!r})")
    walk.page.lines(["vocabulary   " + "   ".join(words[:5]), "             " + "   ".join(words[5:]), "",
                     *(f"{word}  ->  {i}" for word, i in zip(article.TOKENS, ids, strict=True))])


def embedding(walk: SimpleNamespace) -> None:
    walk.page.say("Each id picks a row of the embedding, a table of learned vectors. The article makes up",
                  "the two rows that it needs.")
    walk.page.formula("E = rows of the embedding", "kernels.embedding(ids, table)")
    walk.page.matrices(("E", walk.numbers.embedding, article.TOKENS))


def positions(walk: SimpleNamespace) -> None:
    walk.page.say("Attention alone sees no order, so each position adds a pattern of its own: sines in the",
                  "even columns, cosines in the odd ones, slower and slower from left to right. The article",
                  "goes on with two decimals (and cuts 0.99995 off to 0.99).")
    walk.page.formula("PE = sin or cos of position / 10000^(2j/4)",
                      "kernels.positional_encoding(2, 4, article=True)")
    walk.page.matrices(("PE, the article's", walk.numbers.rounded, article.TOKENS),
                       ("PE, computed", walk.numbers.positions, article.TOKENS))


def layer_input(walk: SimpleNamespace) -> None:
    walk.page.say("The sum is what the first layer reads: which word, and where.")
    walk.page.formula("X = E + PE")
    walk.page.matrices(("X", walk.numbers.x, article.TOKENS))


def projections(walk: SimpleNamespace) -> None:
    n = walk.numbers
    walk.page.say("Three projections of X: the key says what a word offers, the query what it looks for, the",
                  "value what it hands over. Each head has its own three matrices; these are head 1's.")
    walk.page.formula("K1 = X W_K1,  V1 = X W_V1,  Q1 = X W_Q1", "kernels.matmul(x, w)")
    projected = (("K", n.w_key, n.key), ("V", n.w_value, n.value), ("Q", n.w_query, n.query))
    for letter, weight, result in projected:
        walk.page.matrices((f"W_{letter}1", weight[0]), (f"{letter}1", result[0], article.TOKENS))
        print()
    walk.page.say(f"So the first number of K1 is {spelled(n.x[0], n.w_key[0][:, 0])} = {n.key[0][0, 0]:.6g}.")


def scores(walk: SimpleNamespace) -> None:
    n, page, words = walk.numbers, walk.page, article.TOKENS
    page.say("A word's score for another is its query times the other's key: a row for who looks, a column",
             "for who is looked at. Divided by sqrt(d_key), softmax turns each row into weights that add",
             "up to 1.")
    page.formula("S1 = Q1 K1^T", "kernels.matmul(q, k.T)")
    page.matrices(("S1", n.scores[0], words, words), ("S1 / sqrt(3)", n.scaled[0], words, words))
    print()
    page.say(f"hello looks at world: {spelled(n.query[0][0], n.key[0][1])} = {n.scores[0][0, 1]:.6g}.")
    page.formula("A1 = softmax(S1 / sqrt(3))", "kernels.softmax(s)")
    page.matrices(("A1", n.hard[0], words, words), ("A2, head 2's", n.hard[1], words, words))
    print()
    page.say("Saturated: scores that are some 20 apart leave all the weight to world, next to none to hello.")


def heads(walk: SimpleNamespace) -> None:
    n, page, words = walk.numbers, walk.page, article.TOKENS
    page.say("A head's output mixes the values by these weights. With weights of 0 and 1 there is no",
             "mixture: both words get world's values.")
    page.formula("Z = softmax(Q K^T / sqrt(3)) V", "kernels.attention(q, k, v)")
    page.matrices(("Z1", n.hard_heads[0], words), ("Z2", n.hard_heads[1], words))
    print()
    page.say("Divided by 30 in place of sqrt(3), the article's softer choice, both words count. From here on",
             "the numbers are those of the softer weights.")
    page.formula("Z = softmax(Q K^T / 30) V", "kernels.attention(q, k, v, scale=1/30)")
    page.matrices(("A1", n.weights[0], words, words), ("Z1", n.heads[0], words))
    print()
    page.matrices(("A2", n.weights[1], words, words), ("Z2", n.heads[1], words))


def output_projection(walk: SimpleNamespace) -> None:
    n = walk.numbers
    walk.page.say("The heads' outputs side by side, 2 x 3 columns, go back to the model's width of 4.")
    walk.page.formula("Z = [Z1 Z2] W_O", "kernels.linear(z, w_o)")
    walk.page.matrices(("[Z1 Z2]", n.concatenated, article.TOKENS), ("W_O", n.w_output),
                       ("Z", n.attended, article.TOKENS))


def add_and_norm(walk: SimpleNamespace) -> None:
    n = walk.numbers
    mean, deviation = n.residual.mean(axis=1), n.residual.std(axis=1)
    walk.page.say("The residual connection adds back what the layer read; layer norm then centres each row",
                  "and brings it to a standard deviation of 1. The article divides by std + eps, eps = 1e-6;",
                  "the paper, and the engine unless told so, by sqrt(variance + eps).")
    walk.page.formula("N = (R - mean) / (std + eps),  R = X + Z",
                      "kernels.layer_norm(r, eps=1e-6, article=True)")
    walk.page.matrices(("R", n.residual, article.TOKENS),
                       ("mean, std", np.stack([mean, deviation], axis=1)),
                       ("N", n.norm, article.TOKENS))


def feed_forward(walk: SimpleNamespace) -> None:
    n, words = walk.numbers, article.TOKENS
    walk.page.say("Each word by itself goes through two linear layers with ReLU between them: 4 -> 8 -> 4.",
                  f"Their weights W1, b1, W2, b2 are random, from seed {walk.seed}. ReLU makes negative",
                  "numbers 0.")
    walk.page.formula("H = ReLU(N W1 + b1)", 'kernels.linear(n, w1, b1, activation="relu")')
    walk.page.matrices(("W1", n.w1), ("H", n.hidden, words))
    walk.page.formula("F = H W2 + b2, then LayerNorm(N + F)", "kernels.linear, kernels.add_layer_norm")
    walk.page.matrices(("F", n.fed, words), ("LayerNorm(N + F)", n.output, words))
    print()
    walk.page.say("That is one encoder layer. A model computes it in one go, and model.trace(...) has the",
                  "same intermediates by name. Between the two, kernel by kernel here and the whole model",
                  f"there, the largest difference is {_largest_difference(walk):.1e}.")


def _largest_difference(walk: SimpleNamespace) -> float:
    n, attention, network = walk.numbers, f"{LAYER}.self_attention", f"{LAYER}.feed_forward"
    pairs = {"encoder.input": n.x, f"{attention}.query": n.query, f"{attention}.key": n.key,
             f"{attention}.value": n.value, f"{attention}.scores": n.scores,
             f"{attention}.weights": n.weights, f"{attention}.heads": n.heads,
             f"{attention}.output": n.attended, f"{attention}.norm": n.norm,
             f"{network}.hidden": n.hidden, f"{network}.output": n.fed, f"{network}.norm": n.output}
    return max(float(np.abs(walk.trace[name] - values).max()) for name, values in pairs.items())


def stack(walk: SimpleNamespace) -> None:
    walk.page.say("Six encoder layers of standard-normal weights read hello world, in float64: without",
                  "residual and layer norm, then with them. For each layer, the largest score and the",
                  "largest number it ends in:")
    columns, warned = [], []
    for kept in (False, True):
        model = random_stack(walk.seed, residual=kept, norm=kept)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.encode(TEXT)
        warned.append([str(warning.message) for warning in caught])
        trace = model.trace(TEXT, "")
        last = "norm" if kept else "output"
        for name in ("self_attention.scaled_scores", f"feed_forward.{last}"):
            columns.append([np.abs(trace[f"encoder.layers.{i}.{name}"]).max() for i in range(6)])
    print()
    cells = [[show.number(float(value), 2, 2) for value in row] for row in zip(*columns, strict=True)]
    walk.page.lines(show.table_lines(
        cells, [f"layer {i + 1}" for i in range(6)],
        ["score without", "number without", "score with", "number with"]))
    for kept, messages in zip(("Without", "With"), warned, strict=True):
        print()
        if messages:
            walk.page.say(f"{kept} them, the engine warns: {messages[0]}. The exp of a score above 709.78 is",
                          "too large for float64: inf / inf is NaN, not a number.")
        else:
            walk.page.say(f"{kept} them, the numbers stay finite.")


def random_stack(seed: int, **fields: Any) -> rtfast.Transformer:
    """Standard-normal weights, and the article's embedding of the two words."""
    config = rtfast.Config.article(**fields)
    weights = rtfast.Transformer.random(config, seed, scale=1.0).weights
    table = weights["embedding.weight"].copy()
    tokenizer = rtfast.WordTokenizer(article.VOCABULARY)
    table[tokenizer.encode(TEXT)] = article.EMBEDDING
    return rtfast.Transformer(config, {**weights, "embedding.weight": table}, tokenizer)


def decoder(walk: SimpleNamespace) -> None:
    trace, page = walk.trace, walk.page
    source, target = trace.tokens
    generated = walk.model.tokenizer.tokens(walk.generated)
    name = "decoder.layers.0"
    page.say("The decoder starts from SOS and reads what it has written so far. A word may attend to itself",
             "and to what came before it, never to what follows (-). Its first layer, head 1:")
    print()
    future = ~np.tri(len(target), dtype=bool)
    weights = trace[f"{name}.self_attention.weights"][0]
    page.lines(show.matrix("self-attention weights", weights, target, target, page.precision, hidden=future))
    print()
    page.say("Cross-attention then looks at the encoder's output for hello world, a row for each word read:")
    print()
    states = trace["encoder.layers.5.feed_forward.norm"]
    crossed = trace[f"{name}.cross_attention.weights"]
    page.matrices(("encoder's output", states, source))
    print()
    page.matrices(*((f"cross-attention, head {h + 1}", crossed[h], target, source) for h in range(2)))
    print()
    if np.ptp(crossed) < 0.02:
        page.say("The first layer's norm has left hello and world next to equal, so each gets about half.")
        print()
    page.say("After six such layers a linear layer gives each word of the vocabulary a logit, softmax turns",
             "the logits into probabilities, and the likeliest word is next. In percent, after each word",
             "read:")
    page.formula("P = softmax(Y W + b)", 'model.trace("hello world")["probabilities"]')
    percent = [[f"{100 * p:.1f}" for p in row] for row in trace["probabilities"]]
    page.lines(show.table_lines(percent, target, article.VOCABULARY))
    print()
    width = max(map(len, (*target, *generated)))
    page.lines(f"{read:>{width}} -> {word:{width}}  {100 * p:5.1f} %  {show.bar(p, 40)}"
               for read, word, p in zip(target, generated, trace["probabilities"].max(axis=1), strict=True))


def generation(walk: SimpleNamespace) -> None:
    model, page = walk.model, walk.page
    ids = walk.generated
    page.say(f"Word by word, the likeliest each time (greedy), until EOS or {MOST_WORDS} words:")
    page.formula(f"{TEXT}  ->  {' '.join(model.tokenizer.tokens(ids))}",
                 f'model.generate("{TEXT}")')
    page.say("Random weights know no language" + (
        ": this seed was looked for. Try --seed 1, 2, 3." if walk.seed == DEFAULT_SEED else "."))
    print()
    seconds = median_seconds(lambda: model.generate(TEXT, max_new_tokens=MOST_WORDS))
    steps = "1 decode step" if len(ids) == 1 else f"{len(ids)} decode steps"
    lines = [f"{steps} and the encoder before: {1e6 * seconds:,.0f} microseconds, {_where(model.backend)}"]
    if model.backend != "python":
        with backends.using("python"):
            plain = rtfast.Transformer(model.config, model.weights, model.tokenizer)
        slow = median_seconds(lambda: plain.generate(TEXT, max_new_tokens=MOST_WORDS))
        lines += [f"the same on the python backend: {1e6 * slow:,.0f} microseconds, "
                  f"{slow / seconds:,.0f} times as long"]
    page.lines(lines)


def _where(backend: str) -> str:
    threads = rtfast.get_num_threads()
    if backend == "python" or threads == 1:
        return f"{backend}, 1 thread"
    return f"{backend}, up to {threads} threads"


def median_seconds(call: Callable[[], object], budget: float = 0.3) -> float:
    """Median time of one call, over as many calls as fit the budget, 5 at least."""
    call()
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


STEPS = (
    ("Words become numbers", tokens),
    ("Embedding: numbers become vectors", embedding),
    ("Positional encoding: where a word stands", positions),
    ("The input of the first layer", layer_input),
    ("Keys, values, queries", projections),
    ("Scores and attention weights", scores),
    ("The heads' outputs", heads),
    ("Both heads together", output_projection),
    ("Residual and layer norm", add_and_norm),
    ("Feed-forward network", feed_forward),
    ("Six layers: why residual and norm are there", stack),
    ("The decoder: what comes next?", decoder),
    ("Generation", generation),
)
