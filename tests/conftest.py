"""Every kernel test runs on every backend that this machine has; and the command, called in this process."""

import warnings

import pytest

with warnings.catch_warnings():  # the tests of an installation without a compiled backend are welcome too
    warnings.filterwarnings("ignore", "rtfast runs on its pure-Python fallback", RuntimeWarning)
    from rtfast import backends, cli


@pytest.fixture(params=backends.available())
def backend(request):
    """The name of each backend in turn, in use while the test runs."""
    with backends.using(request.param):
        yield request.param


@pytest.fixture
def call(capsys, monkeypatch):
    """Call cli.main(arguments) in this process: (status, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def prints(call):
    """As `call`, of this file or of the test's own, for what must go well and say nothing on stderr: stdout."""
    def run(*arguments):
        status, out, err = call(*arguments)
        assert (status, err) == (0, "")
        return out

    return run


@pytest.fixture
def refuses(call):
    """As `call`, for what must be refused in one line: that line, without the command's name."""
    def run(name, *arguments):
        status, _, err = call(name, *arguments)
        assert status == 2
        assert err.endswith("\n") and err.count("\n") == 1 and len(err) < 700
        assert err.startswith(f"rtfast {name}: ")
        assert "Traceback" not in err and "usage" not in err
        return err.removeprefix(f"rtfast {name}: ").rstrip()

    return run
