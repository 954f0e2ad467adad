"""exp, erf and tanh, lane by lane: one definition for every vector width.

The coefficients come from tools/elementary_coefficients.py. NaN goes through, overflow gives
infinity, underflow goes through the denormals to zero, as in NumPy.

Each works on n vectors (a constant), which take a step all together before any takes the next: one after another they
would have most of a core's instructions wait for each other (docs/kernels.md).
"""

cdef enum:
    MOST_AT_ONCE = 4                 # vectors


cdef inline void first_terms(int n, const vec* x, double highest, double coefficient, vec* p) noexcept nogil:
    """Horner's rule: p = x times the highest coefficient, plus the next one."""
    cdef int i
    for i in range(n):
        p[i] = fma(constant(highest, p), x[i], constant(coefficient, p))


cdef inline void next_term(int n, const vec* x, double coefficient, vec* p) noexcept nogil:
    """p = p x + the next coefficient."""
    cdef int i
    for i in range(n):
        p[i] = fma(p[i], x[i], constant(coefficient, p))


cdef inline void exp_polynomial(int n, const vec* r, vec* p) noexcept nogil:
    """q of exp(r) = 1 + r + r^2 q(r) on [-ln 2 / 2, ln 2 / 2]."""
    if vec is vf:
        first_terms(n, r, 0.00139261761199355789, 0.0083631730745137109, p)
        next_term(n, r, 0.041666554662050534, p)
        next_term(n, r, 0.166665770255979882, p)
        next_term(n, r, 0.5, p)
    else:
        first_terms(n, r, 2.09146793765839351e-9, 2.51052063739570111e-8, p)
        next_term(n, r, 2.75572736613486362e-7, p)
        next_term(n, r, 2.75572554257464343e-6, p)
        next_term(n, r, 0.0000248015873255333638, p)
        next_term(n, r, 0.00019841269874800492, p)
        next_term(n, r, 0.00138888888888837524, p)
        next_term(n, r, 0.00833333333332614088, p)
        next_term(n, r, 0.0416666666666666698, p)
        next_term(n, r, 0.16666666666666671, p)
        next_term(n, r, 0.5, p)


cdef inline void reduce_argument(int n, const vec* x, vec* m, vec* r) noexcept nogil:
    """x = m ln 2 + r for a whole m and |r| <= ln 2 / 2."""
    cdef vec magic, minus_ln2_high, minus_ln2_low, log2_e = constant(1.44269504088896340736, x)
    cdef int i
    if vec is vf:
        magic = constant(12582912.0, x)  # 1.5 * 2^23: adding it rounds to a whole number
        minus_ln2_high, minus_ln2_low = constant(-0.693145751953125, x), constant(-1.42860682030941723e-6, x)
    else:
        magic = constant(6755399441055744.0, x)  # 1.5 * 2^52
        minus_ln2_high, minus_ln2_low = constant(-0.6931471803691238, x), constant(-1.90821492927058770e-10, x)
    for i in range(n):
        m[i] = fma(x[i], log2_e, magic)
    for i in range(n):
        m[i] = m[i] - magic
    for i in range(n):
        r[i] = fma(m[i], minus_ln2_high, x[i])
    for i in range(n):
        r[i] = fma(m[i], minus_ln2_low, r[i])


cdef inline void exp_of_small(int n, vec* x, bint may_underflow) noexcept nogil:
    """x = e^x for x <= 0, or little above, at most 1 ULP or so off: x = m ln 2 + r, and e^x = 2^m e^r."""
    cdef vec one = constant(1.0, x), zero = constant(0.0, x), low
    cdef vec m[MOST_AT_ONCE]
    cdef vec r[MOST_AT_ONCE]
    cdef vec p[MOST_AT_ONCE]
    cdef int i
    if vec is vf:
        low = constant(-104.0, x)
    else:
        low = constant(-746.0, x)
    reduce_argument(n, x, m, r)
    exp_polynomial(n, r, p)
    for i in range(n):
        p[i] = fma(r[i] * r[i], p[i], r[i])
    for i in range(n):
        p[i] = p[i] + one
    if may_underflow:  # which is slow in hardware: not where the result is 0
        for i in range(n):
            p[i] = if_less(x[i], low, zero, p[i])
    for i in range(n):
        x[i] = scaled(p[i], m[i])


cdef inline void bound_exponent(int n, vec* x) noexcept nogil:
    """x, or where it is larger a number of which e^x is infinite already."""
    cdef vec high
    cdef int i
    if vec is vf:
        high = constant(89.0, x)
    else:
        high = constant(710.0, x)
    for i in range(n):
        x[i] = smaller(high, x[i])


cdef inline void exp_(int n, vec* x) noexcept nogil:
    """x = e^x."""
    bound_exponent(n, x)
    exp_of_small(n, x, True)


cdef inline void erf_small(int n, const vec* s, vec* p) noexcept nogil:
    """p of erf(x) = x + x p(x^2) on [-1, 1]."""
    if vec is vf:
        first_terms(n, s, 0.0000787587506268548834, -0.000801686428716586953, p)
        next_term(n, s, 0.00518908742343397399, p)
        next_term(n, s, -0.0268542120106264124, p)
        next_term(n, s, 0.112835947151602177, p)
        next_term(n, s, -0.37612626666720331, p)
        next_term(n, s, 0.128379165848350946, p)
    else:
        first_terms(n, s, -4.23094582429533782e-12, 8.70904512905310669e-11, p)
        next_term(n, s, -1.21645600572834501e-9, p)
        next_term(n, s, 1.4792401209404813e-8, p)
        next_term(n, s, -1.63646421581676153e-7, p)
        next_term(n, s, 1.64620454414684189e-6, p)
        next_term(n, s, -0.0000149256475675193321, p)
        next_term(n, s, 0.000120553329028887354, p)
        next_term(n, s, -0.00085483270219348296, p)
        next_term(n, s, 0.00522397762542329831, p)
        next_term(n, s, -0.0268661706451298408, p)
        next_term(n, s, 0.112837916709551202, p)
        next_term(n, s, -0.376126389031837524, p)
        next_term(n, s, 0.128379167095512574, p)


cdef inline void erfc_exponent(int n, const vec* t, vec* p) noexcept nogil:
    """g of 1 - erf(t) = exp(g(t)) from t = 1 to where erf(t) rounds to 1."""
    if vec is vf:
        first_terms(n, t, -7.58268196972527397e-8, 3.32168459073172186e-6, p)
        next_term(n, t, -0.0000622983532516145074, p)
        next_term(n, t, 0.00068583668301150381, p)
        next_term(n, t, -0.00506494692021648482, p)
        next_term(n, t, 0.0270995232939903736, p)
        next_term(n, t, -0.11105501737188004, p)
        next_term(n, t, -0.630953029816572212, p)
        next_term(n, t, -1.13067514418181664, p)
        next_term(n, t, 0.000416329217709749599, p)
    else:
        first_terms(n, t, -1.02847374187010365e-20, 9.07010577024061965e-19, p)
        next_term(n, t, -3.73862437367175435e-17, p)
        next_term(n, t, 9.49718371559411536e-16, p)
        next_term(n, t, -1.6417721037604996e-14, p)
        next_term(n, t, 1.98648131322975627e-13, p)
        next_term(n, t, -1.59871222964265989e-12, p)
        next_term(n, t, 5.77094499443810973e-12, p)
        next_term(n, t, 5.38132197337549632e-11, p)
        next_term(n, t, -1.21604344792436207e-9, p)
        next_term(n, t, 1.30261541126210898e-8, p)
        next_term(n, t, -9.99093185457354611e-8, p)
        next_term(n, t, 6.00708788814551574e-7, p)
        next_term(n, t, -2.9245231926280034e-6, p)
        next_term(n, t, 0.0000116333783589111574, p)
        next_term(n, t, -0.0000374701736792220143, p)
        next_term(n, t, 0.0000941786356240584139, p)
        next_term(n, t, -0.000164629954134677317, p)
        next_term(n, t, 0.000102690949309973978, p)
        next_term(n, t, 0.000454000523284802574, p)
        next_term(n, t, -0.00157841103597903063, p)
        next_term(n, t, 0.000127191154278695669, p)
        next_term(n, t, 0.0191732532465768451, p)
        next_term(n, t, -0.102791099328616711, p)
        next_term(n, t, -0.636614353021852443, p)
        next_term(n, t, -1.12838017068103401, p)
        next_term(n, t, 8.82300576687635e-8, p)


cdef inline void erf_(int n, vec* x) noexcept nogil:
    """x = erf(x), the error function, at most a few ULP off."""
    cdef vec end, one = constant(1.0, x)
    cdef vec t[MOST_AT_ONCE]
    cdef vec small[MOST_AT_ONCE]
    cdef vec y[MOST_AT_ONCE]
    cdef vec p[MOST_AT_ONCE]
    cdef int i
    if vec is vf:
        end = constant(4.0, x)
    else:
        end = constant(6.0, x)
    for i in range(n):
        t[i] = with_sign_of(x[i], one)
    for i in range(n):
        small[i] = smaller(one, t[i])
    for i in range(n):
        y[i] = small[i] * small[i]
    erf_small(n, y, p)
    for i in range(n):
        small[i] = fma(small[i], p[i], small[i])
    for i in range(n):
        y[i] = smaller(end, t[i])
    erfc_exponent(n, y, p)
    exp_of_small(n, p, False)
    for i in range(n):
        p[i] = if_less(t[i], one, small[i], one - p[i])
    for i in range(n):
        x[i] = with_sign_of(p[i], x[i])


cdef inline void tanh_(int n, vec* x) noexcept nogil:
    """x = the hyperbolic tangent: -w / (2 + w) for w = e^y - 1, y = -2|x| = m ln 2 + r, with the sign of x.

    w = 2^m (e^r - 1) + (2^m - 1) loses nothing near 0, where e^y - 1 would.
    """
    cdef vec one = constant(1.0, x), two = constant(2.0, x), lowest = constant(-50.0, x)
    cdef vec y[MOST_AT_ONCE]
    cdef vec m[MOST_AT_ONCE]
    cdef vec r[MOST_AT_ONCE]
    cdef vec w[MOST_AT_ONCE]
    cdef int i
    for i in range(n):
        y[i] = -two * with_sign_of(x[i], one)
    for i in range(n):
        y[i] = larger(lowest, y[i])  # the result is 1 long before; in this order a NaN stays
    reduce_argument(n, y, m, r)
    exp_polynomial(n, r, w)
    for i in range(n):
        w[i] = fma(r[i] * r[i], w[i], r[i])
    for i in range(n):
        w[i] = scaled(w[i], m[i]) + (scaled(one, m[i]) - one)
    for i in range(n):
        x[i] = with_sign_of(-w[i] / (two + w[i]), x[i])
