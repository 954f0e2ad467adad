"""The reference's complementary error function against the C library's."""

import math

import numpy as np

from rtfast.reference.erfc import erfc


def test_at_most_five_ulp_off():
    x = np.concatenate([np.linspace(-7, 26.5, 40001), np.random.default_rng(0).standard_normal(20000)])
    expected = np.array([math.erfc(value) for value in x])
    assert (np.abs(erfc(x) - expected) / np.spacing(expected)).max() <= 5 + 3  # glibc's own: 3


def test_special_values():
    x = np.array([0, -0.0, np.inf, -np.inf, 1e300, -1e300, 28, 5e-324])
    assert np.array_equal(erfc(x), [1, 1, 0, 2, 0, 2, 0, 1])
    assert np.isnan(erfc(np.nan))
    assert erfc(np.zeros((2, 0, 3))).shape == (2, 0, 3)
