"""Prints the polynomial coefficients of csrc/elementary.pxi and their largest error.

Each polynomial interpolates its function at Chebyshev nodes in 60 digits, which comes within
a small factor of the best polynomial of that degree. Needs mpmath; nothing at run time uses it.
"""

from mpmath import chop, cos, erf, erfc, exp, log, lu_solve, matrix, mp, mpf, pi, sqrt

mp.dps = 60


def fit(f, low, high, degree):
    """Coefficients, lowest power first, of the polynomial through f at Chebyshev nodes."""
    n = degree + 1
    nodes = [(low + high) / 2 + (high - low) / 2 * cos(pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    powers = matrix(n, n)
    for i, x in enumerate(nodes):
        for j in range(n):
            powers[i, j] = x**j
    return list(lu_solve(powers, matrix([f(x) for x in nodes])))


def value(coefficients, x):
    total = mpf(0)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def report(name, f, low, high, degree, relative_to):
    coefficients = fit(f, mpf(low), mpf(high), degree)
    worst = max(abs((value(coefficients, x) - f(x)) * relative_to(x))
                for x in (mpf(low) + (mpf(high) - low) * i / 500 for i in range(1, 500)))
    print(f"# {name}, degree {degree} on [{low}, {high}], error of the whole {float(worst):.2g}")
    for c in reversed(coefficients):
        print(f"    {mp.nstr(chop(c), 18)}")


HALF_LN2 = log(mpf(2)) / 2
SMALL = mpf(10)**-25

# exp(r) = 1 + r + r^2 q(r) on [-ln 2 / 2, ln 2 / 2]
for degree in (4, 10):
    report("exp: q", lambda r: (exp(r) - 1 - r) / r**2 if abs(r) > SMALL else mpf(1) / 2,
           -HALF_LN2, HALF_LN2, degree, lambda r: r**2 / exp(r))
# erf(x) = x + x p(x^2) on [0, 1]
for degree in (6, 13):
    report("erf: p", lambda s: erf(sqrt(s)) / sqrt(s) - 1 if s > SMALL else 2 / sqrt(pi) - 1,
           0, 1, degree, lambda s: sqrt(s) / erf(sqrt(s)))
# 1 - erf(t) = exp(-g(t)) on [1, where erf rounds to 1]
for high, degree in ((4, 9), (6, 26)):
    report("erfc: g", lambda t: -log(erfc(t)), 1, high, degree, lambda t: erfc(t) / erf(t))
