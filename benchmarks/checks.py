"""What a result must be before it is timed."""

import numpy as np


def check_product(out, x, weight):
    """Every element within k eps |x||w| of the float64 product."""
    some = slice(None) if x.shape[0] * weight.size < 1e9 else slice(None, None, 97)  # NumPy's float64 is slow
    bound = 2 * weight.shape[0] * np.finfo(np.float32).eps * (np.abs(x[some]) @ np.abs(weight))
    assert (np.abs(out[some] - x[some].astype(float) @ weight.astype(float)) <= bound).all()
