"""Every kernel test runs on every backend that this machine has."""

import warnings

import pytest

with warnings.catch_warnings():  # the tests of an installation without a compiled backend are welcome too
    warnings.filterwarnings("ignore", "rtfast runs on its pure-Python fallback", RuntimeWarning)
    from rtfast import backends


@pytest.fixture(params=backends.available())
def backend(request):
    """The name of each backend in turn, in use while the test runs."""
    with backends.using(request.param):
        yield request.param


@pytest.fixture
def prints(call):
    """As a module's `call` of the command, for what must go well and say nothing on stderr: stdout."""
    def run(*arguments):
        status, out, err = call(*arguments)
        assert (status, err) == (0, "")
        return out

    return run
