"""The types: mypy --strict is clean, stubs say what the compiled modules have, a user's program knows what it gets."""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import typed_program

import rtfast
from rtfast import backends

ROOT = Path(__file__).parents[1]
PACKAGE = Path(rtfast.__file__).parent

needs_mypy = pytest.mark.skipif(util.find_spec("mypy") is None, reason="mypy is not installed")
#: NumPy's own types change from version to version; what uses them is clean with those of 2.4 on.
needs_new_numpy = pytest.mark.skipif(tuple(map(int, np.__version__.split(".")[:2])) < (2, 4),
                                     reason="the types of this NumPy are not those that rtfast is checked with")

#: What Cython puts into every module.
CYTHONS = r"rtfast\._\w+\.(__reduce_cython__|__setstate_cython__|__test__)"


def mypy(*arguments, folder=ROOT, module="mypy", **environment):
    """What mypy says, "" where it found nothing."""
    run = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], cwd=folder, text=True,
                         capture_output=True, env={**os.environ, **environment})
    return "" if run.returncode == 0 else run.stdout + run.stderr


@needs_mypy
@needs_new_numpy
def test_the_package_and_a_users_program():
    found = mypy("rtfast", "tests/typed_program.py", "tests/typed_backends.py")
    assert not found, found


@needs_mypy
def test_a_mistake_in_a_users_program_is_noticed(tmp_path):
    program = tmp_path / "mistaken.py"
    program.write_text("import rtfast\n\nwords: int = rtfast.load().translate('Hello world')\n"
                       "rtfast.load().generate([4], num_beam=2, max_new_tokens='3')\n")
    found = mypy("--config-file", ROOT / "pyproject.toml", program)
    assert "expression has type \"str\", variable has type \"int\"" in found and "mistaken.py:4" in found


def test_a_users_program_runs():
    typed_program.main()


@needs_mypy
@needs_new_numpy
def test_the_stub_says_what_the_compiled_modules_have(tmp_path):
    modules = [backends.BACKENDS[name][0] for name in backends.available() if name != "python"]
    if not modules:
        pytest.skip("no compiled module runs here")
    allowed = tmp_path / "allowed"
    allowed.write_text(CYTHONS + "\n")
    found = mypy(*modules, "--allowlist", allowed, "--mypy-config-file", ROOT / "pyproject.toml", folder=tmp_path,
                 module="mypy.stubtest", MYPYPATH=str(stubs_written_out(tmp_path / "stubs")),
                 **({} if "site-packages" in PACKAGE.parts else {"PYTHONPATH": str(PACKAGE.parent)}))
    assert not found, found


def stubs_written_out(folder):
    """A folder with the package in it whose compiled modules' stubs have the text of the one that they import all of:
    stubtest passes over what a stub imports."""
    package = folder / "rtfast"
    package.mkdir(parents=True)
    shared = "from rtfast._core import *"
    for path in PACKAGE.iterdir():
        if path.suffix == ".pyi" and shared in path.read_text():
            (package / path.name).write_text((PACKAGE / "_core.pyi").read_text())
        elif path.suffix != ".so":
            (package / path.name).symlink_to(path)
    return folder


def test_what_type_checkers_read_is_installed():
    assert (PACKAGE / "py.typed").exists()
    assert {f"{name}.pyi" for name in ("_core", "_avx512", "_avx2", "_neon", "_baseline")} <= set(os.listdir(PACKAGE))
