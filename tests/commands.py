"""The `rtfast` command in a process of its own."""

import os
import subprocess
import sys

from subprocesses import TESTS

import rtfast


def environment(**more):
    """Of a process that finds this rtfast, on this backend by name: then the fallback does not warn."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(rtfast.__file__)))
    paths = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": paths, "RTFAST_BACKEND": rtfast.backend(), **more}


def command(*arguments, text="", **more):
    """The finished process of `python -m rtfast ARGUMENTS`."""
    return subprocess.run([sys.executable, "-m", "rtfast", *arguments], input=text, env=environment(**more),
                          cwd=TESTS, capture_output=True, encoding="utf-8", timeout=120, check=False)
