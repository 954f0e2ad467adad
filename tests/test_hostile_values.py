"""Hostile values, drawn at random: every result is that of a wider type where it is defined, NaN or an infinity where
IEEE 754 says so, an error that names the argument where there is none; and no warning but the one of a NaN result."""

import math
import warnings

import numpy as np
import pytest
from cases import DTYPES, assert_same_bits, assert_within, epsilon, precise
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import random_values, small_config
from test_layer_norm import exact_layer_norm
from test_softmax import exact_softmax, softmax_bound

import rtfast
from rtfast import backends, kernels

few = settings(max_examples=60, deadline=None, derandomize=True)
dtypes = st.sampled_from(DTYPES)
sizes = st.sampled_from((1, 2, 3, 7, 8, 9, 16, 17, 33))


def pool(dtype):
    """Numbers that go wrong where anything does."""
    limits = np.finfo(dtype)
    ordinary = (0.0, -0.0, 1.0, -2.5, 1e-3, 88.8, -103.9, 1e10)
    extreme = (limits.max, limits.max / 4, limits.tiny, limits.smallest_subnormal, 1e38, 1e19)
    return [*ordinary, *extreme, *(-x for x in extreme), math.nan, math.inf, -math.inf]


@st.composite
def arrays(draw, dtype, *shape, finite=False):
    """Mostly one number of the pool, some others among it."""
    values = [x for x in pool(dtype) if not finite or math.isfinite(x)]
    numbers = st.sampled_from([float(dtype(x)) for x in values])
    return draw(hnp.arrays(dtype, shape, elements=numbers, fill=numbers))


def on_every_backend(call):
    """{backend: its result}, each without a warning (pytest makes them errors)."""
    results = {}
    for name in backends.available():
        with backends.using(name):
            results[name] = call()
    return results


def quietly(call):
    with np.errstate(all="ignore"):
        return call()


def assert_right(got, exact, bound, what):
    """NaN exactly where `exact` is NaN, elsewhere within the bound."""
    nan = np.isnan(exact)
    assert np.array_equal(np.isnan(got), nan), f"{what}: NaN elsewhere, got {got}, expected {exact}"
    assert_within(np.where(nan, 0, got), np.where(nan, 0, exact), np.where(nan, 0, bound), what)


# ---------------------------------------------------------------------------------------------
# Row by row

@few
@given(st.data(), dtypes, sizes)
def test_softmax(data, dtype, n):
    x = data.draw(arrays(dtype, 3, n))
    exact, below = quietly(lambda: exact_softmax(x))
    bound = quietly(lambda: np.nan_to_num(softmax_bound(exact, np.where(exact > 0, below, 0), dtype)))
    for name, got in on_every_backend(lambda: kernels.softmax(x)).items():
        assert_right(got, exact, bound, name)


@few
@given(st.data(), dtypes, sizes, st.booleans())
def test_layer_norm(data, dtype, n, article):
    """Right where the squares fit the type. Beyond that a result may be NaN or as if the spread were infinite."""
    x, gamma, beta = data.draw(arrays(dtype, 3, n)), data.draw(arrays(dtype, n)), data.draw(arrays(dtype, n))
    exact, bound = quietly(lambda: exact_layer_norm(x, gamma, beta, 1e-5, article))
    largest = quietly(lambda: np.sqrt(np.finfo(dtype).max / n) / 4)
    fits = (np.abs(x) < largest).all(axis=1) & (np.abs(exact) + bound < np.finfo(dtype).max).all(axis=1)
    for name, got in on_every_backend(lambda: kernels.layer_norm(x, gamma, beta, article=article)).items():
        smallest = n * (1 + np.abs(quietly(lambda: precise(gamma)))) * np.finfo(dtype).tiny
        assert_within(got[fits], exact[fits], (bound + smallest)[fits] * 2, name)
        assert np.isnan(got[np.isnan(x).any(axis=1)]).all(), name
        assert np.isnan(got[np.isinf(x).any(axis=1)]).all(), name
    for name, got in on_every_backend(lambda: kernels.add_layer_norm(x, np.zeros_like(x), gamma, beta)).items():
        with backends.using(name):
            assert_same_bits(got, kernels.layer_norm(x + 0, gamma, beta), name)


def wide(function, x):
    return np.array([function(float(number)) for number in x.reshape(-1)]).reshape(x.shape)


ACTIVATIONS = {
    "relu": lambda x: x if x > 0 or x != x else 0.0,
    "gelu": lambda x: x * (math.erfc(-x * math.sqrt(0.5)) / 2),
    "gelu_tanh": lambda x: _times_sigmoid(x, math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x)),
    "silu": lambda x: _times_sigmoid(x, x),
    "exp": lambda x: _exp(x),
    "erf": math.erf,
    "tanh": math.tanh,
}


def _times_sigmoid(x, u):
    return x / (1 + _exp(-u)) if x > -1e4 else x * 0.0


def _exp(x):
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


@few
@given(st.data(), dtypes, sizes, st.sampled_from(sorted(ACTIVATIONS)))
def test_activations(data, dtype, n, name):
    x = data.draw(arrays(dtype, n))
    exact = wide(ACTIVATIONS[name], x)
    finite = np.abs(exact) <= float(np.finfo(dtype).max)
    # gelu and silu: to the rounding of a factor of x
    scale = np.where(finite, np.abs(exact), 0)
    if "lu" in name:
        scale = np.maximum(scale, np.where(np.isfinite(x), np.abs(x), 0))
    bound = 32 * epsilon(dtype) * scale + float(np.finfo(dtype).tiny)
    call = getattr(kernels, name, None) or (lambda x: kernels.activate(x, name))
    for backend, got in on_every_backend(lambda: call(x)).items():
        assert np.array_equal(np.isnan(got), np.isnan(exact)), (backend, x, got)
        assert_within(got[finite], exact[finite], bound[finite], backend)
        overflow = ~finite & ~np.isnan(exact)
        assert np.array_equal(got[overflow], np.sign(exact[overflow]) * np.inf), (backend, x, got)


@few
@given(st.data(), dtypes, sizes)
def test_argmax_and_top_k(data, dtype, n):
    x = data.draw(arrays(dtype, 2, n))
    order = np.lexsort((np.broadcast_to(np.arange(n), x.shape), -x, ~np.isnan(x)), axis=-1)
    k = min(n, 5)
    for name, got in on_every_backend(lambda: kernels.argmax(x)).items():
        assert np.array_equal(got, np.argmax(x, axis=1)), name
    for name, (values, places) in on_every_backend(lambda: kernels.top_k(x, k)).items():
        assert np.array_equal(places, order[:, :k]), (name, x)
        assert_same_bits(values, np.take_along_axis(x, places, axis=1), name)
    for name, (values, places) in on_every_backend(lambda: kernels.top_k(x, k, log_softmax=True)).items():
        exact = quietly(lambda: np.log(exact_softmax(x)[0]))
        exact = np.take_along_axis(exact, places, axis=1)
        assert np.array_equal(np.isnan(values), np.isnan(exact)), (name, x, values)


# ---------------------------------------------------------------------------------------------
# Products

def assert_product(got, a, b, what):
    """Of finite operands whose sums cannot overflow: within the bound; IEEE's NaN and infinities; else anything but a
    wrong finite number."""
    limit, wider_a, wider_b = np.finfo(got.dtype).max, precise(a), precise(b)
    exact, sums = quietly(lambda: (wider_a @ wider_b, np.abs(wider_a) @ np.abs(wider_b)))
    special = ~np.isfinite(exact) & ~np.isfinite(sums)
    safe = sums < limit / 2
    bound = (a.shape[-1] + 2) * (epsilon(got.dtype) * sums + float(np.finfo(got.dtype).tiny))
    for place in np.ndindex(got.shape):
        number = got[place]
        if safe[place]:
            assert abs(number - exact[place]) <= bound[place], (what, a, b, got)
        elif special[place] and np.isnan(exact[place]):
            assert np.isnan(number), (what, a, b, got)
        elif special[place]:  # infinite; NaN where a finite part of the sum overflows to the other side
            assert number == exact[place] or np.isnan(number), (what, a, b, got)
        else:
            assert not np.isfinite(number) or abs(number - exact[place]) <= bound[place], (what, a, b, got)


@few
@given(st.data(), dtypes, sizes, sizes, sizes)
def test_products(data, dtype, m, k, n):
    a, b, bias = data.draw(arrays(dtype, m, k)), data.draw(arrays(dtype, k, n)), data.draw(arrays(dtype, n))
    for name, got in on_every_backend(lambda: kernels.matmul(a, b)).items():
        assert_product(got, a, b, name)
        with backends.using(name):
            if name != "python":
                assert_same_bits(kernels.linear(a, kernels.pack(b)), got, name)
            with_bias = kernels.linear(a, b, bias)
            assert_same_bits(with_bias, quietly(lambda got=got: got + bias), name)
            assert_same_bits(kernels.pack(b).unpack(), b, name)


# ---------------------------------------------------------------------------------------------
# Attention

@few
@given(st.data(), dtypes, st.sampled_from((1, 2, 5, 17, 33)), sizes, st.sampled_from((1, 3, 8, 17)))
def test_what_a_mask_hides_has_no_influence(data, dtype, target, source, width):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    q, k, v = (random.standard_normal((2, n, width)).astype(dtype) for n in (target, source, source))
    mask = random.random((2, target, source)) < 0.6
    mask[:, :, random.random(source) < 0.4] = False
    mask[:, random.random(target) < 0.3] = False
    hidden = ~mask.any(axis=1)
    clean_k, clean_v = np.where(hidden[..., None], 0, k).astype(dtype), np.where(hidden[..., None], 0, v).astype(dtype)
    k[hidden], v[hidden] = data.draw(arrays(dtype, int(hidden.sum()), width)), data.draw(
        arrays(dtype, int(hidden.sum()), width))
    clean = on_every_backend(lambda: kernels.attention(q, clean_k, clean_v, mask, return_weights=True))
    for name, (out, weights) in on_every_backend(lambda: kernels.attention(q, k, v, mask, return_weights=True)).items():
        assert_same_bits(out, clean[name][0], name)
        assert_same_bits(weights, clean[name][1], name)
        nothing = ~mask.any(axis=2)
        assert (out[nothing] == 0).all() and (weights[nothing] == 0).all() and np.isfinite(out).all(), name


@few
@given(st.data(), dtypes, st.sampled_from((1, 2, 5, 17)), sizes, st.booleans())
def test_huge_scores(data, dtype, target, source, masked):
    """Scores up to 1e38, exact in every type as d_key is 1 and all are powers of two, and small differences of them."""
    powers = [0.0, 1.0, -1.0, 2.0**-20, 2.0**63, -(2.0**63), 2.0**-130]
    numbers = st.sampled_from(powers)
    q, k = (data.draw(hnp.arrays(dtype, (1, n, 1), elements=numbers, fill=numbers)) for n in (target, source))
    v = np.arange(source * 3, dtype=dtype).reshape(1, source, 3) - source
    mask = data.draw(hnp.arrays(bool, (1, target, source))) if masked else None
    allowed = np.ones((1, target, source), bool) if mask is None else mask
    scores = np.where(allowed, precise(q) @ precise(k).swapaxes(1, 2), -np.inf)
    weights, _ = quietly(lambda: exact_softmax(np.where(allowed, scores, -np.inf)))
    weights = np.where(allowed.any(axis=2, keepdims=True), weights, 0)
    for name, (out, got) in on_every_backend(
            lambda: kernels.attention(q, k, v, mask, scale=1.0, return_weights=True)).items():
        assert np.abs(got - weights).max() <= 64 * epsilon(dtype), (name, got, weights)
        assert np.abs(out - weights @ precise(v)).max() <= 64 * epsilon(dtype) * 3 * source, name


@few
@given(st.data(), dtypes, st.booleans())
def test_a_hostile_query_stays_in_its_row(data, dtype, causal):
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((2, 19, 8)).astype(dtype) for _ in range(3))
    clean = on_every_backend(lambda: kernels.attention(q, k, v, causal=causal))
    row = data.draw(st.integers(0, 18))
    hostile = q.copy()
    hostile[0, row] = data.draw(arrays(dtype, 8))
    for name, got in on_every_backend(lambda: kernels.attention(hostile, k, v, causal=causal)).items():
        got[0, row] = clean[name][0, row]
        assert np.allclose(got, clean[name], rtol=1e-4) if name == "python" else np.array_equal(got, clean[name]), name


# ---------------------------------------------------------------------------------------------
# What is no array of numbers

GARBAGE = [
    None, "text", b"bytes", object(), {1: 2}, {1.0}, Ellipsis, iter([1.0]), [[1.0], ["a"]], [None],
    np.ones((3, 3), bool), np.ones((3, 3), complex), np.ones((3, 3), object), np.array([["a"] * 3] * 3),
    np.zeros((3, 3), [("x", "f4")]), np.zeros((3, 3), "M8[s]"), np.zeros((3, 3), "m8[s]"), np.zeros((3, 3), "V4"),
    np.ones((3, 3), np.float16), np.ones((3, 3), np.int64), np.ones((3, 3), np.uint8), np.ones((3, 3), ">f4"),
]
CALLS = {
    "matmul": (kernels.matmul, 2), "linear": (kernels.linear, 2), "softmax": (kernels.softmax, 1),
    "layer_norm": (kernels.layer_norm, 1), "add_layer_norm": (kernels.add_layer_norm, 2),
    "attention": (kernels.attention, 3), "argmax": (kernels.argmax, 1), "top_k": (lambda x: kernels.top_k(x, 2), 1),
    "exp": (kernels.exp, 1), "erf": (kernels.erf, 1), "tanh": (kernels.tanh, 1), "pack": (kernels.pack, 1),
    "activate": (lambda x: kernels.activate(x, "relu"), 1),
    "embedding": (lambda table: kernels.embedding([0], table), 1),
}


@pytest.mark.parametrize("function", CALLS)
def test_garbage_is_refused_by_name(backend, function):
    kernel, n = CALLS[function]
    good = [np.ones((3, 3), np.float32)] * n
    kernel(*good)
    for garbage in GARBAGE:
        for i in range(n):
            with pytest.raises((TypeError, ValueError), match=f"^{function}: "):
                kernel(*good[:i], garbage, *good[i + 1:])
    if function not in ("exp", "erf", "tanh", "activate"):
        with pytest.raises(ValueError, match=f"^{function}: .* must have"):
            kernel(np.float32(1), *good[1:])


IDS = st.one_of(
    st.integers(-2**63, 2**64 - 1), st.lists(st.integers(-3, 12)), st.sampled_from(GARBAGE),
    st.lists(st.lists(st.integers(-2, 9), max_size=3), max_size=3),
    hnp.arrays(hnp.integer_dtypes() | hnp.unsigned_integer_dtypes(), hnp.array_shapes(max_side=3)),
    st.sampled_from([np.empty((0, 3), int), np.empty((3, 0), int), np.empty(0), np.array(3), [], [[]], [[], []], 1.0]))


@few
@given(IDS)
def test_ids_are_looked_up_or_refused(ids):
    table = np.arange(27, dtype=np.float32).reshape(9, 3)
    for name in backends.available():
        with backends.using(name):
            try:
                got = kernels.embedding(ids, table)
            except (TypeError, ValueError) as error:
                assert str(error).startswith("embedding: ids must be"), error
            else:
                wanted = np.asarray(ids, np.int64)
                assert ((wanted >= 0) & (wanted < 9)).all()
                assert_same_bits(got, table[wanted], name)


# ---------------------------------------------------------------------------------------------
# Whole models

CONFIG = small_config(n_encoder_layers=1, n_decoder_layers=1, pad_id=0, max_length=9)
WORDS = ["PAD", "SOS", "EOS", *"abcdefghij"]


@pytest.fixture(scope="module")
def model():
    return rtfast.Transformer(CONFIG, random_values(CONFIG), rtfast.WordTokenizer(WORDS))


MODEL_CALLS = {
    "encode": lambda model, ids: model.encode(ids),
    "logits": lambda model, ids: model.logits(ids, [1]),
    "logits, target": lambda model, ids: model.logits([3], ids),
    "score": lambda model, ids: model.score(ids, [3]),
    "score, target": lambda model, ids: model.score([3], ids),
    "generate": lambda model, ids: model.generate(ids, 3),
    "generate, prefix": lambda model, ids: model.generate([3], 3, decoder_input_ids=ids),
    "trace": lambda model, ids: model.trace(ids, [1]),
    "stream": lambda model, ids: list(model.stream(ids, 3)),
    "translate": lambda model, ids: model.translate(ids, 3),
}


def flat(ids):
    """All ids of nested lists, in one."""
    return [i for row in ids for i in flat(row)] if isinstance(ids, list) or getattr(ids, "ndim", 0) else [ids]


@few
@given(IDS, st.sampled_from(sorted(MODEL_CALLS)))
def test_models_take_ids_or_refuse_them(model, ids, call):
    """A TypeError or a ValueError, or it was ids; never another exception, and no warning."""
    try:
        result = MODEL_CALLS[call](model, ids)
    except (TypeError, ValueError) as error:
        assert str(error)
    else:
        if call == "generate, prefix" and ids is None:
            return
        assert all(0 <= i < 13 for i in flat(ids)) and result is not None


@pytest.mark.parametrize("call", MODEL_CALLS)
@pytest.mark.parametrize("ids", [[], np.empty((0, 4), int), np.empty((2, 0), int), [[]], [0], [[0, 0]], [3] * 10, [13],
                                 [-1], [[3, 4], [3, 2**40]], np.array([2**64 - 1], np.uint64), [3.0], [True], [3j],
                                 np.array(3), np.array([3], object), np.array([["a"]])], ids=repr)
def test_empty_and_wrong_ids_are_refused(model, call, ids):
    if call == "generate, prefix" and not any(np.ravel(ids).tolist()):
        ids = [[]] * 2  # no prefix at all is allowed, two of them for one source are not
    with pytest.raises((TypeError, ValueError)):
        MODEL_CALLS[call](model, ids)


def nan_warnings(call):
    """The result, and whether the documented warning was given; any other is an error."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = call()
    assert all(w.category is RuntimeWarning and "the result is NaN" in str(w.message) for w in seen), seen
    return result, bool(seen)


@few
@given(st.data(), dtypes)
def test_hostile_weights(data, dtype):
    """Every function ends; a NaN in a result is warned of, and nothing else is."""
    config = small_config(n_encoder_layers=1, n_decoder_layers=1, dtype=np.dtype(dtype).name)
    values = random_values(config)
    name = data.draw(st.sampled_from(sorted(values)))
    weight = values[name].reshape(-1)
    weight[data.draw(st.integers(0, weight.size - 1)):][:data.draw(st.integers(1, 9))] = data.draw(
        st.sampled_from(pool(dtype)))
    with backends.using(data.draw(st.sampled_from(backends.available()))):
        model = rtfast.Transformer(config, values)
        source, target = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0], [1, 4, 0, 2, 5]
        for call in (lambda: model.encode(source), lambda: model.logits(source, target)):
            result, warned = nan_warnings(call)
            assert result.dtype == dtype and warned == np.isnan(result).any()
        score, _ = nan_warnings(lambda: model.score(source, target[1:]))
        assert np.isnan(score) or score <= 1e-3
        for options in ({}, {"num_beams": 3}, {"do_sample": True, "top_k": 3, "seed": 1}):
            ids, _ = nan_warnings(lambda options=options: model.generate(source, 6, **options))
            assert len(ids) <= 6 and all(0 <= i < config.vocab_size for i in ids)
        trace = model.trace(source, target)
        assert_same_bits(trace["logits"], nan_warnings(lambda: model.logits(source, target))[0])


def test_the_longest_and_the_shortest(model):
    for ids in ([3], [3] * 9):
        assert np.isfinite(model.encode(ids)).all() and np.isfinite(model.logits(ids, ids)).all()
        assert len(model.generate(ids)) <= 9
        assert np.isfinite(model.trace(ids, ids)["logits"]).all()


@pytest.mark.parametrize("temperature", [1e-30, 1e-38, 1e-40, 1e-46, 1e-300, 5e-324])
@pytest.mark.parametrize("top_k", [0, 5])
def test_a_temperature_of_almost_nothing_draws_the_likeliest(backend, temperature, top_k):
    model = rtfast.Transformer(CONFIG, random_values(CONFIG))
    drawn = model.generate([3, 4, 5], 6, do_sample=True, temperature=temperature, top_k=top_k, seed=1)
    assert drawn == model.generate([3, 4, 5], 6)
    assert len(model.generate([3, 4, 5], 6, do_sample=True, temperature=1e300, top_k=top_k, seed=1)) <= 6
