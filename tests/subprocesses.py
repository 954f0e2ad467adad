"""Fresh interpreters, for what happens at import."""

import os
import subprocess
import sys

#: Whether the tests run under AddressSanitizer (tools/sanitized.py), which has a malloc of its own.
WATCHED = os.environ.get("RTFAST_BUILD") == "address"

TESTS = os.path.dirname(os.path.abspath(__file__))


def python(code, *arguments, **environment):
    """Run `code` in a fresh interpreter that finds the installed rtfast and the tests; the finished process.

    Not in the repository's root, whose rtfast/ would come before an installed one.
    """
    paths = os.pathsep.join([path for path in sys.path if path] + [TESTS])
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    return subprocess.run([sys.executable, *arguments, "-c", code], env=environment, cwd=TESTS,
                          capture_output=True, text=True, timeout=120, check=False)


def unwatched(**more):
    """The environment of a program that is none of ours: without the libraries of AddressSanitizer, which end it."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"} | more


def printed(code, *arguments, **environment):
    """The words that `code` printed; every warning but that of the pure-Python fallback is an error."""
    quiet = ("-W", "error", "-W", "ignore:rtfast runs on its pure-Python fallback:RuntimeWarning")
    done = python(code, *quiet, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
