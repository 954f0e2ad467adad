"""Every backend exports what the reference, the specification, exports."""

import inspect
import os

import numpy as np
import pytest

from rtfast import backends
from rtfast.reference import kernels as reference


def test_expected_backends_are_here():
    """An instruction set that a CI job set out to test and that ran no case is a failure, not a skip."""
    expected = [name for name in os.environ.get("RTFAST_EXPECT_BACKENDS", "").split(",") if name.strip()]
    missing = [name for name in expected if name.strip() not in backends.available()]
    assert not missing, f"RTFAST_EXPECT_BACKENDS asks for {missing}, this machine runs {backends.available()}"


def test_the_reference_lists_all_its_functions():
    public = {name for name, value in vars(reference).items()
              if not name.startswith("_") and getattr(value, "__module__", None) == reference.__name__}
    assert public == set(reference.__all__)


@pytest.mark.parametrize("name", reference.__all__)
def test_names_and_parameters(backend, name):
    there = getattr(backends.active(), name)
    assert callable(there)
    try:
        parameters = inspect.signature(there).parameters
    except (TypeError, ValueError):
        assert backend != "python"
        return  # a compiled function without a signature
    if name != "PackedWeight":
        expected = inspect.signature(getattr(reference, name)).parameters
        assert [(p.name, p.default) for p in parameters.values()] == \
               [(p.name, p.default) for p in expected.values()]


def test_packed_weight_members(backend):
    packed = backends.active().pack(np.ones((2, 3)))
    assert type(packed) is backends.active().PackedWeight and type(packed).__name__ == "PackedWeight"
    assert packed.shape == (2, 3) and packed.dtype == np.float64 and packed.unpack().shape == (2, 3)
    assert packed.nbytes >= 6 * 8


def test_number_of_threads(backend):
    module = backends.active()
    before = module.get_num_threads()
    try:
        for n in (1, 2, 3):
            module.set_num_threads(n)
            assert module.get_num_threads() == n
    finally:
        module.set_num_threads(before)
