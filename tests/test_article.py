"""Every figure of the article "The Random Transformer" that follows from its inputs, on every backend.

tests/data/random_transformer.json has the figures, printed with 8 or 9 digits by float64 NumPy code.
"""

import json
import os
import warnings

import numpy as np
import pytest

import rtfast
from rtfast import article, kernels

with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json")) as _file:
    FIGURES = json.load(_file)

GIVEN, EXPECTED = FIGURES["encoder"]["given"], FIGURES["encoder"]["expected"]
ATTENTION = "encoder.layers.0.self_attention"
SELF_ATTENTION_WEIGHTS = {
    f"{ATTENTION}.query.weight": article.W_QUERY, f"{ATTENTION}.key.weight": article.W_KEY,
    f"{ATTENTION}.value.weight": article.W_VALUE, f"{ATTENTION}.output.weight": article.W_OUTPUT}

both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
heads = pytest.mark.parametrize("head", [0, 1], ids=["head 1", "head 2"])


def array(values, dtype):
    return np.array(values, dtype)


def assert_figure(got, printed):
    """float64: every digit that was printed. float32: 2e-5 of each number, but 1e-4 of those below 1e-9.

    Those are the weights of words that get next to no attention: exp enlarges the scores' rounding.
    """
    printed = np.array(printed, np.float64)
    tolerance = 1e-7
    if got.dtype == np.float32:
        tolerance = np.where(np.abs(printed) < 1e-9, 1e-4, 2e-5)
    assert got.shape == printed.shape
    assert (np.abs(got - printed) <= tolerance * np.abs(printed)).all(), f"got {got}, printed {printed}"


# The values that the package brings along

def test_the_constants_are_the_articles():
    assert list(article.VOCABULARY) == FIGURES["vocabulary"]
    assert list(article.TOKENS) == GIVEN["tokens"]
    assert np.array_equal(article.EMBEDDING, GIVEN["embedding"])
    assert np.array_equal(article.POSITIONAL_ENCODING, GIVEN["positional_rounded"])
    assert np.array_equal(article.W_QUERY, [GIVEN["WQ1"], GIVEN["WQ2"]])
    assert np.array_equal(article.W_KEY, [GIVEN["WK1"], GIVEN["WK2"]])
    assert np.array_equal(article.W_VALUE, [GIVEN["WV1"], GIVEN["WV2"]])
    assert np.array_equal(article.W_OUTPUT, GIVEN["WO"])
    assert article.SOFTER_SCALE == 1 / 30
    assert np.allclose(np.add(article.EMBEDDING, article.POSITIONAL_ENCODING), GIVEN["input"], rtol=1e-15)


def test_the_configs_are_the_articles_and_the_papers():
    toy, paper = rtfast.Config.article(), rtfast.Config.base(37000)
    for name in ("d_model", "d_key", "d_value", "d_ff", "n_heads", "n_encoder_layers", "n_decoder_layers"):
        assert getattr(toy, name) == FIGURES["toy_sizes"][name]
        assert getattr(paper, name) == FIGURES["paper_sizes"][name]
    assert toy.vocab_size == FIGURES["toy_sizes"]["vocab"]
    assert toy.n_heads * toy.d_value != toy.d_model
    assert article.VOCABULARY[toy.sos_id] == "SOS" and article.VOCABULARY[toy.eos_id] == "EOS"


# Kernel by kernel

@both_dtypes
def test_embedding(backend, dtype):
    table = np.zeros((10, 4), dtype)
    ids = [article.VOCABULARY.index(word) for word in article.TOKENS]
    table[ids] = article.EMBEDDING
    assert np.array_equal(kernels.embedding(ids, table), GIVEN["embedding"])


def test_positional_encoding(backend):
    """Rounded to two decimals; cos(0.01) = 0.99995 is printed as 0.99, cut off instead."""
    table = kernels.positional_encoding(2, 4, article=True)
    printed = np.array(GIVEN["positional_rounded"])
    cut = np.zeros((2, 4), bool)
    cut[1, 1] = True
    assert np.array_equal(np.round(table, 2)[~cut], printed[~cut])
    assert np.trunc(table[cut] * 100) / 100 == printed[cut] == 0.99
    assert table[1, 1] == pytest.approx(np.cos(0.01), rel=1e-15)
    assert not np.allclose(kernels.positional_encoding(2, 4), table, atol=1e-3)  # the paper's is another


@both_dtypes
@heads
@pytest.mark.parametrize("name", ["Q", "K", "V"])
def test_projections(backend, dtype, head, name):
    """Of head 1; those of head 2 are not printed, they show in weights2 and head2."""
    x, weight = array(GIVEN["input"], dtype), array(GIVEN[f"W{name}{head + 1}"], dtype)
    got = kernels.matmul(x, weight)
    assert_figure(got, EXPECTED[f"{name}1"] if head == 0 else np.array(GIVEN["input"]) @ GIVEN[f"W{name}2"])
    assert np.array_equal(kernels.linear(x, weight), got)


@both_dtypes
def test_scores(backend, dtype):
    scores = kernels.matmul(array(EXPECTED["Q1"], dtype), array(EXPECTED["K1"], dtype).T)
    assert_figure(scores, EXPECTED["scores1"])
    assert_figure(scores / np.sqrt(dtype(3)), EXPECTED["scores1_scaled"])
    if dtype is np.float64:  # the tiny one hangs on all digits of a score of 78
        assert_figure(kernels.softmax(scores / np.sqrt(3)), EXPECTED["weights1"])


@both_dtypes
@heads
def test_attention(backend, dtype, head):
    """With 1 / sqrt(3) one word takes all the attention; 1 / 30 is softer."""
    x = array(GIVEN["input"], dtype)
    q, k, v = (kernels.matmul(x, array(GIVEN[f"W{name}{head + 1}"], dtype))[None] for name in "QKV")
    out, weights = kernels.attention(q, k, v, return_weights=True)
    assert_figure(weights[0], EXPECTED[f"weights{head + 1}"])
    assert_figure(out[0], EXPECTED[f"head{head + 1}"])
    assert_figure(kernels.attention(q, k, v, scale=1 / 30)[0], EXPECTED[f"head{head + 1}_scale30"])


@both_dtypes
def test_multi_head(backend, dtype):
    """Both heads side by side, times the output projection (6, 4)."""
    side_by_side = np.concatenate([EXPECTED["head1_scale30"], EXPECTED["head2_scale30"]], axis=1)
    got = kernels.linear(array(side_by_side, dtype), array(GIVEN["WO"], dtype))
    assert_figure(got, EXPECTED["multi_head_scale30"])


@both_dtypes
def test_residual_and_layer_norm(backend, dtype):
    """The sum's mean and standard deviation, with which the norm must fit."""
    x, y = array(GIVEN["input"], dtype), array(EXPECTED["multi_head_scale30"], dtype)
    assert_figure((x + y).mean(axis=1), EXPECTED["residual_mean"])
    assert_figure((x + y).std(axis=1), EXPECTED["residual_std"])
    got = kernels.add_layer_norm(x, y, eps=1e-6, article=True)
    assert_figure(got, EXPECTED["residual_layer_norm"])
    assert_figure(kernels.layer_norm(x + y, eps=1e-6, article=True), EXPECTED["residual_layer_norm"])
    mean, std = (np.array(EXPECTED[f"residual_{name}"])[:, None] for name in ("mean", "std"))
    assert_figure(got, (np.array(GIVEN["input"]) + EXPECTED["multi_head_scale30"] - mean) / (std + 1e-6))


@both_dtypes
def test_decoder_after_self_attention(backend, dtype):
    given = FIGURES["decoder"]["given"]
    got = kernels.add_layer_norm(
        array(given["input"], dtype), array(given["self_attention"], dtype), eps=1e-6, article=True)
    assert_figure(got, FIGURES["decoder"]["expected"]["after_self_attention"])


@both_dtypes
def test_softmax_example(backend, dtype):
    example = FIGURES["softmax_example"]
    got = kernels.softmax(array(example["given"], dtype))
    assert np.array_equal(np.round(got.astype(np.float64), 2), example["expected_2_decimals"])


# The same figures as intermediates of a model

def first_layer(dtype, **fields):
    """One encoder layer with the article's matrices, reading the article's input.

    The model adds its own positional encoding, which is not rounded: the embedding makes up for it.
    """
    config = rtfast.Config.article(
        n_encoder_layers=1, n_decoder_layers=0, dtype=np.dtype(dtype).name, **fields)
    ids = [article.VOCABULARY.index(word) for word in article.TOKENS]
    embedding = np.zeros((10, 4))
    embedding[ids] = GIVEN["input"] - kernels.positional_encoding(2, 4, article=True)
    weights = {
        **SELF_ATTENTION_WEIGHTS, "embedding.weight": embedding,
        "encoder.layers.0.feed_forward.hidden.weight": np.ones((4, 8)),
        "encoder.layers.0.feed_forward.output.weight": np.ones((8, 4)),
        "output.weight": np.ones((4, 10))}
    return rtfast.Transformer(config, weights, rtfast.WordTokenizer(article.VOCABULARY))


@both_dtypes
def test_encoder_layer(backend, dtype):
    trace = first_layer(dtype, attention_scale=article.SOFTER_SCALE).trace("hello world", "")
    assert_figure(trace["encoder.input"], GIVEN["input"])
    for name, part in (("Q1", "query"), ("K1", "key"), ("V1", "value"), ("scores1", "scores")):
        assert_figure(trace[f"{ATTENTION}.{part}"][0], EXPECTED[name])
    assert_figure(trace[f"{ATTENTION}.scaled_scores"][0], np.array(EXPECTED["scores1"]) / 30)
    both = [EXPECTED["head1_scale30"], EXPECTED["head2_scale30"]]
    assert_figure(trace[f"{ATTENTION}.heads"], both)
    assert_figure(trace[f"{ATTENTION}.concatenated"], np.concatenate(both, axis=1))
    assert_figure(trace[f"{ATTENTION}.output"], EXPECTED["multi_head_scale30"])
    residual = trace[f"{ATTENTION}.residual"]
    assert_figure(residual.mean(axis=1), EXPECTED["residual_mean"])
    assert_figure(residual.std(axis=1), EXPECTED["residual_std"])
    assert_figure(trace[f"{ATTENTION}.norm"], EXPECTED["residual_layer_norm"])


@both_dtypes
def test_encoder_layer_with_the_papers_scale(backend, dtype):
    """Without subtracting the maximum, head 2's scores of about 100 are too large for float32's exp.

    Tiny weights are rounded more here: the float32 input is not the article's to the last digit.
    """
    trace = first_layer(dtype, article_softmax=dtype is np.float64).trace("hello world", "")
    scaled = trace[f"{ATTENTION}.scaled_scores"][0]
    weights = trace[f"{ATTENTION}.weights"]
    assert_figure(scaled, EXPECTED["scores1_scaled"])
    if dtype is np.float64:
        assert_figure(weights, [EXPECTED["weights1"], EXPECTED["weights2"]])
    else:
        assert np.allclose(weights, [EXPECTED["weights1"], EXPECTED["weights2"]], rtol=1e-3, atol=0)
    assert_figure(trace[f"{ATTENTION}.heads"], [EXPECTED["head1"], EXPECTED["head2"]])


def test_the_articles_softmax_overflows_in_float32(backend):
    trace = first_layer(np.float32).trace("hello world", "")
    assert trace.first_nan() == f"{ATTENTION}.weights"
    assert not np.isnan(trace[f"{ATTENTION}.weights"][0]).any()


@both_dtypes
def test_decoder_layer(backend, dtype):
    """The single word attends to itself alone; values and output projection give the article's attention."""
    given = FIGURES["decoder"]["given"]
    config = rtfast.Config.article(n_encoder_layers=0, n_decoder_layers=1, dtype=np.dtype(dtype).name)
    weights = {name: values * 0 for name, values in rtfast.Transformer.random(config).weights.items()
               if name.endswith(".weight")}
    weights["embedding.weight"][config.sos_id] = given["input"][0] - kernels.positional_encoding(1, 4)[0]
    name = "decoder.layers.0.self_attention"
    weights[f"{name}.value.weight"][0, 0] = 1
    weights[f"{name}.output.weight"][0] = given["self_attention"][0]
    trace = rtfast.Transformer(config, weights).trace([0], [config.sos_id])
    assert_figure(trace["decoder.input"], given["input"])
    assert_figure(trace[f"{name}.output"], given["self_attention"])
    assert_figure(trace[f"{name}.norm"], FIGURES["decoder"]["expected"]["after_self_attention"])


def test_every_figure_is_compared():
    """A figure that is added to the file must be added here."""
    assert set(EXPECTED) == {
        "K1", "V1", "Q1", "scores1", "scores1_scaled", "weights1", "weights2", "head1", "head2",
        "head1_scale30", "head2_scale30", "multi_head_scale30", "residual_mean", "residual_std",
        "residual_layer_norm"}
    assert set(FIGURES["decoder"]["expected"]) == {"after_self_attention"}
    assert set(FIGURES) == {"about", "vocabulary", "toy_sizes", "paper_sizes", "conventions", "encoder",
                            "decoder", "softmax_example"}


# "No-norm stack": overflows without residual and norm, stays finite with them

def stack(seed=0, **fields):
    """Six blocks of standard-normal weights that read the article's embedding of "hello world"."""
    config = rtfast.Config.article(**fields)
    weights = rtfast.Transformer.random(config, seed, scale=1.0).weights
    embedding = weights["embedding.weight"].copy()
    embedding[[0, 2]] = article.EMBEDDING
    return rtfast.Transformer(config, {**weights, "embedding.weight": embedding},
                              rtfast.WordTokenizer(article.VOCABULARY))


@pytest.mark.parametrize("seed", range(5))
def test_without_residual_and_norm_it_overflows(backend, seed):
    model = stack(seed, residual=False, norm=False)
    with pytest.warns(RuntimeWarning, match="the result is NaN: it appeared first in") as caught:
        states = model.encode("hello world")
    assert np.isnan(states).all()
    (warning,) = caught
    assert warning.filename == __file__  # the caller's line
    with pytest.warns(RuntimeWarning) as caught:
        logits = model.logits("hello world", "")
    assert np.isnan(logits).all()
    trace = model.trace("hello world", "")
    first = trace.first_nan()
    for one in (warning, *caught):
        assert f"first in {first} = {trace.formula(first)}" in str(one.message)
    names = list(trace)
    assert all(np.isfinite(trace[name]).all() or np.isinf(trace[name]).any()
               for name in names[:names.index(first)])
    assert first.startswith("encoder.layers.") and trace.op(first) == "attention"


def test_generating_from_an_overflow_warns(backend):
    with pytest.warns(RuntimeWarning, match="appeared first in encoder.layers"):
        assert stack(residual=False, norm=False).translate("hello world", max_new_tokens=3) is not None


@pytest.mark.parametrize("seed", range(5))
def test_with_residual_and_norm_it_stays_finite(backend, seed):
    model = stack(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(model.encode("hello world")).all()
        trace = model.trace("hello world")
    assert trace.first_nan() is None
    assert all(np.isfinite(values).all() for values in trace.values())


@pytest.mark.parametrize("kept", ["residual", "norm"])
def test_one_of_them_alone(backend, kept):
    """A norm alone keeps it finite as well; a residual alone does not."""
    model = stack(**{"residual": False, "norm": False, kept: True})
    if kept == "norm":
        assert np.isfinite(model.encode("hello world")).all()
    else:
        with pytest.warns(RuntimeWarning, match="NaN"):
            model.encode("hello world")


def test_a_softmax_that_subtracts_the_maximum_does_not_overflow(backend):
    """The overflow is that of exp: the article's numbers themselves stay within float64."""
    model = stack(residual=False, norm=False, article_softmax=False)
    assert np.isfinite(model.encode("hello world")).all()
