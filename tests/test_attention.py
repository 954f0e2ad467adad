"""Attention: error bounds, exact selections, and masks that let nothing through."""

import numpy as np
import pytest
from cases import (
    Guarded,
    assert_same_bits,
    assert_within,
    both_dtypes,
    epsilon,
    normal,
    precise,
    skip_unless_bits_are_promised,
    surrounded,
    whole,
)

from rtfast import backends, kernels

#: (batch, T, S, d_key, d_value): around rows of a tile, columns of a panel, chunks of a sum.
SIZES = (
    (1, 1, 1, 1, 1), (2, 2, 3, 3, 3), (3, 5, 7, 2, 4), (1, 6, 16, 16, 17), (2, 7, 17, 15, 16),
    (1, 8, 63, 33, 31), (2, 12, 64, 64, 64), (1, 13, 65, 65, 63), (3, 1, 33, 64, 64), (1, 1, 300, 8, 65),
    (2, 17, 128, 17, 1), (1, 37, 129, 1, 33), (1, 3, 257, 257, 5), (2, 33, 31, 47, 97), (1, 70, 70, 32, 32),
    (1, 2, 521, 16, 16),
)


def inputs(sizes, dtype, make=normal, seed=0):
    """q, k and v for (batch, T, S, d_key, d_value), each between NaNs."""
    batch, target, source, d_key, d_value = sizes
    shapes = (batch, target, d_key), (batch, source, d_key), (batch, source, d_value)
    return [surrounded(make(shape, dtype, seed + i)) for i, shape in enumerate(shapes)]


def some_mask(sizes, seed=0):
    """A mask (batch, T, S) with a row that may attend nothing and one that may attend everything."""
    mask = np.random.default_rng(seed).random(sizes[:3]) < 0.6
    mask[0, 0] = False
    mask[-1, -1] = True
    return mask


def causal_mask(target, source):
    """(T, S): the last query and the last key are aligned."""
    return np.arange(source) <= np.arange(target)[:, None] + source - target


def exact_attention(q, k, v, mask, scale):
    """Output and weights in a wider type, and bounds for both.

    A score is off by (d_key + 3) eps |q| |k| scale; a weight by twice the largest such error of its row
    and by exp, the distance to the largest score, the sum and the division; the output by (S + 2) eps.
    """
    eps, (q, k, v) = epsilon(q.dtype), map(precise, (q, k, v))
    scores = q @ k.swapaxes(-1, -2) * scale
    loss = (q.shape[-1] + 3) * eps * abs(scale) * (np.abs(q) @ np.abs(k).swapaxes(-1, -2))
    if mask is None:
        mask = np.ones(scores.shape, bool)
    peak = np.max(scores, axis=-1, keepdims=True, initial=-np.inf, where=mask)
    peak = np.where(np.isfinite(peak), peak, 0)
    powers = np.where(mask, np.exp(np.where(mask, scores - peak, 0)), 0)
    total = powers.sum(axis=-1, keepdims=True)
    weights = powers / np.where(total == 0, 1, total)
    loss = 2 * np.max(loss, axis=-1, keepdims=True, initial=0, where=mask)
    relative = loss + eps * (np.where(mask, peak - scores, 0) + 8 + scores.shape[-1] / 16)
    out_relative = np.max(relative, axis=-1, keepdims=True, initial=0) + eps * (scores.shape[-1] + 2)
    tiny = 1e-37 if eps > 1e-10 else 1e-307
    return (weights @ v, out_relative * (weights @ np.abs(v)) + tiny,
            weights, np.where(mask, relative * weights + tiny, 0))


def attend(q, k, v, mask=None, causal=False, scale=None):
    """Call the backend with guarded outputs. Returns out, weights, scores, scaled scores."""
    batch, target, source = q.shape[0], q.shape[1], k.shape[1]
    out = Guarded((batch, target, v.shape[2]), q.dtype)
    traced = [Guarded((batch, target, source), q.dtype) for _ in range(3)]
    scale = q.shape[2] ** -0.5 if scale is None else scale
    mask = None if mask is None else np.ascontiguousarray(mask).view(np.uint8)
    backends.active().attention(q, k, v, mask, causal, scale, out.array, *(t.array for t in traced))
    scores, scaled, weights = (t.check() for t in traced)
    return out.check(), weights, scores, scaled


@both_dtypes
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_error_is_within_the_bound(backend, dtype, masked, causal):
    for i, sizes in enumerate(SIZES):
        q, k, v = inputs(sizes, dtype, seed=i)
        mask = some_mask(sizes, i) if masked else None
        allowed = mask
        if causal:
            earlier = np.broadcast_to(causal_mask(*sizes[1:3]), sizes[:3])
            allowed = earlier if mask is None else mask & earlier
        out, out_bound, weights, bound = exact_attention(q, k, v, allowed, sizes[3] ** -0.5)
        got, got_weights = kernels.attention(q, k, v, mask, causal, return_weights=True)
        assert_within(got, out, out_bound, sizes)
        assert_within(got_weights, weights, bound, sizes)
        if allowed is not None:
            assert (got_weights[~allowed] == 0).all()
        assert_same_bits(kernels.attention(q, k, v, mask, causal), got, sizes)


@both_dtypes
def test_tracing_gives_every_step_and_changes_no_bit(backend, dtype):
    for sizes in SIZES:
        q, k, v = inputs(sizes, dtype, whole)
        random = some_mask(sizes)
        for mask, causal in ((None, False), (random, False), (None, True), (random, True)):
            out, weights, scores, scaled = attend(q, k, v, mask, causal, 0.125)
            assert np.array_equal(scores, q @ k.swapaxes(1, 2)), sizes  # forbidden pairs too
            assert np.array_equal(scaled, scores * dtype(0.125)), sizes
            plain, plain_weights = kernels.attention(q, k, v, mask, causal, 0.125, return_weights=True)
            assert_same_bits(out, plain, sizes)
            assert_same_bits(weights, plain_weights, sizes)
            assert_same_bits(kernels.attention(q, k, v, mask, causal, 0.125), plain, sizes)


@both_dtypes
def test_a_score_far_above_selects_its_value(backend, dtype):
    """Exactly, for a key at every position: a tail left out cannot hide."""
    for source in (1, 2, 5, 15, 16, 17, 33, 64, 67, 130):
        k = np.eye(source, dtype=dtype)[None]
        q = k * dtype(2000)
        v = surrounded(normal((1, source, 7), dtype))
        out, weights, _, _ = attend(q, k, v, scale=1.0)
        assert np.array_equal(out, v), source
        assert np.array_equal(weights, k), source


@both_dtypes
def test_equal_scores_average_exactly(backend, dtype):
    for source in (1, 2, 4, 16, 32, 64, 128, 512):
        q, k, v = inputs((2, 5, source, 3, 9), dtype, whole)
        q[...] = 0
        mean = v.sum(1, keepdims=True) / source
        assert np.array_equal(kernels.attention(q, k, v), np.tile(mean, (1, 5, 1))), source


@both_dtypes
def test_softmax_of_the_article(backend, dtype):
    """Without subtracting the maximum: the same weights while exp stays in range, NaN where it does not."""
    q, k, v = inputs((2, 5, 7, 16, 3), dtype)
    mask = some_mask((2, 5, 7))
    nothing = ~mask.any(axis=-1)
    for masked in (None, mask):
        for scale in (0.25, 1e6):
            out, weights = Guarded((2, 5, 3), dtype), Guarded((2, 5, 7), dtype)
            backends.active().attention(
                q, k, v, None if masked is None else mask.view(np.uint8), False, scale, out.array, None, None,
                weights.array, True)
            if scale < 1:
                expected, bound, _, _ = exact_attention(q, k, v, masked, scale)
                assert_within(out.check(), expected, 4 * bound)
            elif masked is None:
                assert np.isnan(weights.check()).any(axis=-1).all()  # inf / inf, or 0 / 0
            if masked is not None:
                assert not out.check()[nothing].any() and not weights.check()[nothing].any()


@both_dtypes
def test_scale(backend, dtype):
    q, k, v = inputs((2, 5, 7, 16, 3), dtype)
    assert_same_bits(kernels.attention(q, k, v), kernels.attention(q, k, v, scale=0.25))
    assert_same_bits(kernels.attention(q * 4, k, v, scale=0.25), kernels.attention(q, k, v, scale=1))
    _, weights = kernels.attention(q, k, v, scale=0, return_weights=True)
    assert np.abs(weights * 7 - 1).max() <= 2 * epsilon(dtype)


@both_dtypes
@pytest.mark.parametrize("target", [1, 3, 9])
@pytest.mark.parametrize("causal", [False, True])
def test_a_scale_that_rounds_to_zero(backend, dtype, target, causal):
    """1e-60 is 0 in float32: all scores are alike, whatever fills the last vector of a row."""
    q, k, v = inputs((2, target, 21, 5, 3), dtype)
    for tiny in (1e-60, 1e-320):
        assert_same_bits(kernels.attention(q, k, v, causal=causal, scale=tiny),
                         kernels.attention(q, k, v, causal=causal, scale=0))


@both_dtypes
def test_causal_is_a_mask_that_aligns_the_ends(backend, dtype):
    for target, source in ((1, 1), (1, 9), (9, 1), (5, 17), (17, 5), (33, 33), (4, 130)):
        q, k, v = inputs((2, target, source, 16, 17), dtype)
        mask = causal_mask(target, source)
        assert mask[-1].all() and mask[0, 0] == (target <= source)
        causal, mine = (kernels.attention(q, k, v, **how, return_weights=True)
                        for how in ({"causal": True}, {"mask": mask}))
        assert_same_bits(causal[0], mine[0], (target, source))
        assert_same_bits(causal[1], mine[1], (target, source))


@both_dtypes
@pytest.mark.parametrize("axes", [(5, 7), (1, 7), (5, 1), (7,), (), (2, 1, 1, 7), (1, 3, 5, 7), (2, 3, 5, 7)])
def test_masks_broadcast(backend, dtype, axes):
    q, k, v = (normal((2, 3, n, 4), dtype, n) for n in (5, 7, 7))
    mask = np.random.default_rng(1).random(axes) < 0.6
    full = np.broadcast_to(mask, (2, 3, 5, 7)).copy()
    assert_same_bits(kernels.attention(q, k, v, mask), kernels.attention(q, k, v, full))
    assert_same_bits(kernels.attention(q, k, v, mask.tolist()), kernels.attention(q, k, v, full))


@both_dtypes
def test_nothing_to_attend_gives_zeros(backend, dtype):
    for sizes in SIZES:
        q, k, v = inputs(sizes, dtype)
        for poison in (1, np.nan, np.inf):
            out, weights, _, _ = attend(q, k * dtype(poison), v * dtype(poison), np.zeros(sizes[:3], bool))
            assert_same_bits(out, np.zeros_like(out), sizes)
            assert_same_bits(weights, np.zeros_like(weights), sizes)
    q, k, v = inputs((2, 9, 4, 3, 3), dtype)
    out = kernels.attention(q, k, v, causal=True)
    assert not out[:, :5].any() and out[:, 5:].all()
    assert not kernels.attention(q * dtype(np.nan), k, v, causal=True)[:, :5].any()


@both_dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_masked_keys_and_values_have_no_influence(backend, dtype, poison):
    for i, sizes in enumerate(SIZES):
        q, k, v = inputs(sizes, dtype, seed=i)
        hidden = np.random.default_rng(i).random((sizes[0], sizes[2])) < 0.4
        mask = np.broadcast_to(~hidden[:, None, :], sizes[:3])
        clean = kernels.attention(q, k, v, mask, return_weights=True)
        for spoiled in ("k", "v", "both"):
            bad_k, bad_v = k.copy(), v.copy()
            if spoiled != "v":
                bad_k[hidden] = poison
            if spoiled != "k":
                bad_v[hidden] = poison
            got = kernels.attention(q, bad_k, bad_v, mask, return_weights=True)
            assert_same_bits(got[0], clean[0], (sizes, spoiled))
            assert_same_bits(got[1], clean[1], (sizes, spoiled))


@both_dtypes
def test_later_keys_and_values_have_no_influence(backend, dtype):
    for target, source in ((5, 5), (17, 17), (9, 40), (40, 70)):
        q, k, v = inputs((2, target, source, 16, 17), dtype)
        clean = kernels.attention(q, k, v, causal=True)
        for position in range(source):
            bad_k, bad_v = k.copy(), v.copy()
            bad_k[:, position], bad_v[:, position] = np.nan, np.nan
            got = kernels.attention(q, bad_k, bad_v, causal=True)
            before = np.arange(target) + source - target < position
            assert_same_bits(got[:, before], clean[:, before], (target, source, position))
            assert np.isnan(got[:, ~before]).all()


@both_dtypes
def test_nan_stays_where_it_may_go(backend, dtype):
    q, k, v = inputs((3, 13, 21, 16, 17), dtype)
    clean = kernels.attention(q, k, v)
    bad = q.copy()
    bad[1, 4, 3] = np.nan
    got = kernels.attention(bad, k, v)
    assert np.isnan(got[1, 4]).all()
    got[1, 4] = clean[1, 4]
    assert_same_bits(got, clean)
    bad = v.copy()
    bad[1, 4, 3] = np.nan
    got = kernels.attention(q, k, bad)
    assert np.isnan(got[1, :, 3]).all()
    got[1, :, 3] = clean[1, :, 3]
    assert_same_bits(got, clean)


@both_dtypes
def test_infinities_as_in_numpy(backend, dtype):
    q = np.array([[[1.0], [-1.0], [0.0]]], dtype)
    k = np.array([[[-np.inf], [0.0], [1.0]]], dtype)
    v = np.array([[[5.0], [1.0], [2.0]]], dtype)
    _, weights = kernels.attention(q, k, v, return_weights=True)
    assert weights[0, 0, 0] == 0 and abs(weights[0, 0].sum() - 1) < 1e-6  # exp(-inf)
    assert np.isnan(weights[0, 1:]).all()  # inf - inf, and 0 * inf in the product
    only = np.array([[[True, False, False]]])
    assert np.isnan(kernels.attention(q, k, v, only)).all()  # every key that it may attend is -inf away
    # A weight that underflows to 0 is allowed, so that 0 * inf is NaN; a forbidden one is not.
    v[0, 0] = np.inf
    k[0, 0] = -2000
    assert np.isnan(kernels.attention(q[:, :1], k, v)).all()
    allowed = np.array([[[False, True, True]]])
    assert np.isfinite(kernels.attention(q[:, :1], k, v, allowed)).all()


@both_dtypes
def test_sizes_of_zero(backend, dtype):
    for batch, target, source, d_key, d_value in (
            (0, 3, 4, 5, 6), (2, 0, 4, 5, 6), (2, 3, 0, 5, 6), (2, 3, 4, 5, 0), (2, 0, 0, 0, 0)):
        q, k, v = inputs((batch, target, source, d_key, d_value), dtype)
        for causal in (False, True):
            out, weights = kernels.attention(q, k, v, causal=causal, return_weights=True)
            assert np.array_equal(out, np.zeros((batch, target, d_value))) or source
            assert out.shape == (batch, target, d_value) and weights.shape == (batch, target, source)
    for target in (1, 13, 25, 26, 27, 49, 97):  # the last block of queries is a small one
        q, k, v = inputs((2, target, 0, 64, 8), dtype)
        for _ in range(40):
            assert np.array_equal(kernels.attention(q, k, v), np.zeros((2, target, 8)))
    q, k, v = inputs((2, 3, 4, 0, 6), dtype, whole)
    assert np.array_equal(kernels.attention(q, k, v), np.tile(v.mean(1, keepdims=True), (1, 3, 1)))


@both_dtypes
def test_any_leading_axes(backend, dtype):
    q, k, v = (normal((2, 3, n, 4), dtype, n) for n in (5, 7, 7))
    full = kernels.attention(q, k, v)
    assert full.shape == (2, 3, 5, 4)
    flat = kernels.attention(*(array.reshape(6, -1, 4) for array in (q, k, v)))
    assert_same_bits(flat.reshape(full.shape), full)
    out, weights = kernels.attention(q[1, 2], k[1, 2], v[1, 2], return_weights=True)
    assert out.shape == (5, 4) and weights.shape == (5, 7)
    assert_within(out, precise(full[1, 2]), 1e-5)


@both_dtypes
def test_a_query_has_the_same_bits_in_every_batch(backend, dtype):
    skip_unless_bits_are_promised(backend)
    q, k, v = inputs((3, 37, 70, 33, 65), dtype)
    full = kernels.attention(q, k, v)
    for target in range(1, 37):
        assert_same_bits(kernels.attention(q[:, :target], k, v), full[:, :target], target)
        assert_same_bits(kernels.attention(q[:, target:], k, v), full[:, target:], target)
    for b in range(3):
        assert_same_bits(kernels.attention(q[b], k[b], v[b]), full[b], b)


@both_dtypes
def test_padding_and_later_keys_do_not_change_bits(backend, dtype):
    """Keys that may not be attended can be there or not: as padding, or as the future."""
    skip_unless_bits_are_promised(backend)
    q, k, v = inputs((2, 300, 300, 33, 20), dtype)
    causal = kernels.attention(q, k, v, causal=True)
    for length in (1, 2, 15, 16, 17, 63, 64, 65, 130, 255, 256, 257, 300):
        alone = kernels.attention(q[:, length - 1:length], k[:, :length], v[:, :length])
        assert_same_bits(alone, causal[:, length - 1:length], length)
        padded = kernels.attention(q[:, length - 1:length], k, v, np.arange(300) < length)
        assert_same_bits(padded, alone, length)
        prefix = kernels.attention(q[:, :length], k[:, :length], v[:, :length], causal=True)
        assert_same_bits(prefix, causal[:, :length], length)


@both_dtypes
def test_hidden_keys_weigh_nothing_beside_nan(backend, dtype):
    q, k, v = np.array([[np.inf]], dtype), np.array([[0], [1], [5]], dtype), np.ones((3, 1), dtype)
    _, weights = kernels.attention(q, k, v, [[True, True, False]], return_weights=True)
    assert np.isnan(weights[0, :2]).all() and weights[0, 2] == 0
