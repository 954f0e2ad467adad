"""exp, erf, tanh and the activations, lane by lane: one definition for every vector width.

The coefficients come from tools/elementary_coefficients.py. NaN goes through, overflow gives
infinity, underflow goes through the denormals to zero, as in NumPy.
"""


cdef inline vec exp_polynomial(vec r, const vec* like) noexcept nogil:
    """q of exp(r) = 1 + r + r^2 q(r) on [-ln 2 / 2, ln 2 / 2]."""
    cdef vec p
    if vec is vf:
        p = constant(0.00139261761199355789, like)
        p = fma(p, r, constant(0.0083631730745137109, like))
        p = fma(p, r, constant(0.041666554662050534, like))
        p = fma(p, r, constant(0.166665770255979882, like))
        p = fma(p, r, constant(0.5, like))
    else:
        p = constant(2.09146793765839351e-9, like)
        p = fma(p, r, constant(2.51052063739570111e-8, like))
        p = fma(p, r, constant(2.75572736613486362e-7, like))
        p = fma(p, r, constant(2.75572554257464343e-6, like))
        p = fma(p, r, constant(0.0000248015873255333638, like))
        p = fma(p, r, constant(0.00019841269874800492, like))
        p = fma(p, r, constant(0.00138888888888837524, like))
        p = fma(p, r, constant(0.00833333333332614088, like))
        p = fma(p, r, constant(0.0416666666666666698, like))
        p = fma(p, r, constant(0.16666666666666671, like))
        p = fma(p, r, constant(0.5, like))
    return p


cdef inline vec exp_of_small(vec x, const vec* like) noexcept nogil:
    """e^x for x <= 0, or little above, at most 1 ULP or so off: x = n ln 2 + r, and e^x = 2^n e^r."""
    cdef vec n, r, low, magic, log2_e, minus_ln2_high, minus_ln2_low
    if vec is vf:
        low = constant(-104.0, like)
        magic = constant(12582912.0, like)  # 1.5 * 2^23: adding it rounds to a whole number
        minus_ln2_high, minus_ln2_low = constant(-0.693145751953125, like), constant(-1.42860682030941723e-6, like)
    else:
        low = constant(-746.0, like)
        magic = constant(6755399441055744.0, like)  # 1.5 * 2^52
        minus_ln2_high = constant(-0.6931471803691238, like)
        minus_ln2_low = constant(-1.90821492927058770e-10, like)
    log2_e = constant(1.44269504088896340736, like)
    n = fma(x, log2_e, magic) - magic
    r = fma(n, minus_ln2_low, fma(n, minus_ln2_high, x))
    r = fma(r * r, exp_polynomial(r, like), r) + constant(1.0, like)
    r = if_less(x, low, constant(0.0, like), r)  # an underflow is slow in hardware: none where the result is 0
    return scaled(r, n)


cdef inline vec exp_(vec x, const vec* like) noexcept nogil:
    """e^x."""
    if vec is vf:
        return exp_of_small(smaller(constant(89.0, like), x), like)
    else:
        return exp_of_small(smaller(constant(710.0, like), x), like)


cdef inline vec erf_small(vec s, const vec* like) noexcept nogil:
    """p of erf(x) = x + x p(x^2) on [-1, 1]."""
    cdef vec p
    if vec is vf:
        p = constant(0.0000787587506268548834, like)
        p = fma(p, s, constant(-0.000801686428716586953, like))
        p = fma(p, s, constant(0.00518908742343397399, like))
        p = fma(p, s, constant(-0.0268542120106264124, like))
        p = fma(p, s, constant(0.112835947151602177, like))
        p = fma(p, s, constant(-0.37612626666720331, like))
        p = fma(p, s, constant(0.128379165848350946, like))
    else:
        p = constant(-4.23094582429533782e-12, like)
        p = fma(p, s, constant(8.70904512905310669e-11, like))
        p = fma(p, s, constant(-1.21645600572834501e-9, like))
        p = fma(p, s, constant(1.4792401209404813e-8, like))
        p = fma(p, s, constant(-1.63646421581676153e-7, like))
        p = fma(p, s, constant(1.64620454414684189e-6, like))
        p = fma(p, s, constant(-0.0000149256475675193321, like))
        p = fma(p, s, constant(0.000120553329028887354, like))
        p = fma(p, s, constant(-0.00085483270219348296, like))
        p = fma(p, s, constant(0.00522397762542329831, like))
        p = fma(p, s, constant(-0.0268661706451298408, like))
        p = fma(p, s, constant(0.112837916709551202, like))
        p = fma(p, s, constant(-0.376126389031837524, like))
        p = fma(p, s, constant(0.128379167095512574, like))
    return p


cdef inline vec erfc_exponent(vec t, const vec* like) noexcept nogil:
    """g of 1 - erf(t) = exp(-g(t)) from t = 1 to where erf(t) rounds to 1."""
    cdef vec p
    if vec is vf:
        p = constant(7.58268196972527397e-8, like)
        p = fma(p, t, constant(-3.32168459073172186e-6, like))
        p = fma(p, t, constant(0.0000622983532516145074, like))
        p = fma(p, t, constant(-0.00068583668301150381, like))
        p = fma(p, t, constant(0.00506494692021648482, like))
        p = fma(p, t, constant(-0.0270995232939903736, like))
        p = fma(p, t, constant(0.11105501737188004, like))
        p = fma(p, t, constant(0.630953029816572212, like))
        p = fma(p, t, constant(1.13067514418181664, like))
        p = fma(p, t, constant(-0.000416329217709749599, like))
    else:
        p = constant(1.02847374187010365e-20, like)
        p = fma(p, t, constant(-9.07010577024061965e-19, like))
        p = fma(p, t, constant(3.73862437367175435e-17, like))
        p = fma(p, t, constant(-9.49718371559411536e-16, like))
        p = fma(p, t, constant(1.6417721037604996e-14, like))
        p = fma(p, t, constant(-1.98648131322975627e-13, like))
        p = fma(p, t, constant(1.59871222964265989e-12, like))
        p = fma(p, t, constant(-5.77094499443810973e-12, like))
        p = fma(p, t, constant(-5.38132197337549632e-11, like))
        p = fma(p, t, constant(1.21604344792436207e-9, like))
        p = fma(p, t, constant(-1.30261541126210898e-8, like))
        p = fma(p, t, constant(9.99093185457354611e-8, like))
        p = fma(p, t, constant(-6.00708788814551574e-7, like))
        p = fma(p, t, constant(2.9245231926280034e-6, like))
        p = fma(p, t, constant(-0.0000116333783589111574, like))
        p = fma(p, t, constant(0.0000374701736792220143, like))
        p = fma(p, t, constant(-0.0000941786356240584139, like))
        p = fma(p, t, constant(0.000164629954134677317, like))
        p = fma(p, t, constant(-0.000102690949309973978, like))
        p = fma(p, t, constant(-0.000454000523284802574, like))
        p = fma(p, t, constant(0.00157841103597903063, like))
        p = fma(p, t, constant(-0.000127191154278695669, like))
        p = fma(p, t, constant(-0.0191732532465768451, like))
        p = fma(p, t, constant(0.102791099328616711, like))
        p = fma(p, t, constant(0.636614353021852443, like))
        p = fma(p, t, constant(1.12838017068103401, like))
        p = fma(p, t, constant(-8.82300576687635e-8, like))
    return p


cdef inline vec erf_(vec x, const vec* like) noexcept nogil:
    """The error function, at most a few ULP off."""
    cdef vec t = with_sign_of(x, constant(1.0, like)), end, one = constant(1.0, like), small, large
    if vec is vf:
        end = constant(4.0, like)
    else:
        end = constant(6.0, like)
    small = smaller(one, t)
    small = fma(small, erf_small(small * small, like), small)
    large = smaller(end, t)
    large = one - exp_(-erfc_exponent(large, like), like)
    return with_sign_of(if_less(t, one, small, large), x)


cdef inline vec tanh_(vec x, const vec* like) noexcept nogil:
    """The hyperbolic tangent: -m / (2 + m) for m = e^y - 1, y = -2|x| = n ln 2 + r, with the sign of x.

    m = 2^n (e^r - 1) + (2^n - 1) loses nothing near 0, where e^y - 1 would.
    """
    cdef vec one = constant(1.0, like), y = constant(-2.0, like) * with_sign_of(x, one), n, r, m, magic
    y = larger(constant(-50.0, like), y)  # the result is 1 long before; in this order a NaN stays
    if vec is vf:
        magic = constant(12582912.0, like)
        n = fma(y, constant(1.44269504088896340736, like), magic) - magic
        r = fma(n, constant(-1.42860682030941723e-6, like), fma(n, constant(-0.693145751953125, like), y))
    else:
        magic = constant(6755399441055744.0, like)
        n = fma(y, constant(1.44269504088896340736, like), magic) - magic
        r = fma(n, constant(-1.90821492927058770e-10, like), fma(n, constant(-0.6931471803691238, like), y))
    m = fma(r * r, exp_polynomial(r, like), r)
    m = scaled(m, n) + (scaled(one, n) - one)
    return with_sign_of(-m / (constant(2.0, like) + m), x)


cdef inline vec sigmoid(vec x, const vec* like) noexcept nogil:
    """1 / (1 + e^-x)."""
    cdef vec one = constant(1.0, like)
    return one / (one + exp_(-x, like))


cdef enum:
    IDENTITY = 0
    RELU = 1
    GELU = 2
    GELU_TANH = 3
    SILU = 4
    EXP = 5
    ERF = 6
    TANH = 7


cdef inline vec activated(vec x, int activation, const vec* like) noexcept nogil:
    """The activation of one vector; the codes are those of rtfast/activations.py."""
    cdef vec zero = constant(0.0, like), inner
    if activation == RELU:
        return larger(zero, x)  # in this order a NaN stays
    if activation == GELU:  # x Phi(x)
        inner = erf_(x * constant(0.70710678118654752440, like), like)
        return x * fma(inner, constant(0.5, like), constant(0.5, like))
    if activation == GELU_TANH:  # (1 + tanh u) / 2 = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
        inner = fma(x * x * x, constant(0.0713548162726002527220, like), x * constant(1.59576912160573071176, like))
        return x * sigmoid(inner, like)
    if activation == SILU:
        return x * sigmoid(x, like)
    if activation == EXP:
        return exp_(x, like)
    if activation == ERF:
        return erf_(x, like)
    if activation == TANH:
        return tanh_(x, like)
    return x


cdef void activate_row(const vec* x, Py_ssize_t n, int activation, vec* out) noexcept nogil:
    """out[i] = activation(x[i]); out may be x."""
    cdef Py_ssize_t i = 0, width = lanes(x)
    while i + width <= n:
        store(out, i, activated(load(x, i), activation, x))
        i += width
    if i < n:
        store_some(out, i, n - i, activated(load_some(x, i, n - i, constant(0.0, x)), activation, x))
