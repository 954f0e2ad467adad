"""The comparison of numbers of threads, apart from models.py: fresh interpreters import that without pytest."""

from cases import assert_same_bits
from models import threads


def assert_threads_change_nothing(results, numbers=range(2, 9)):
    """results(), a list of arrays, has the bits that it has on one thread on each of these numbers of threads."""
    with threads(1):
        expected = results()
    for n in numbers:
        with threads(n):
            got = results()
        for i, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same_bits(one, other, f"{n} threads and one, result {i}")
