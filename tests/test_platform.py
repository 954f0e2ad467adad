"""csrc/platform.h and pages.h by themselves: for this system, and for Windows where its compiler is at hand.

Debian: apt install gcc-mingw-w64-x86-64 wine64 wine.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from subprocesses import unwatched

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"


def compiled(compiler, to, *more):
    source = HERE / "data" / "platform_program.c"
    subprocess.run([compiler, "-O2", "-Wall", "-I", CSRC, source, "-o", to, *more], check=True)
    return to


def output(*command, **environment):
    done = subprocess.run(command, env=unwatched(**environment), capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


@pytest.mark.skipif(os.name == "nt" or not shutil.which("cc"), reason="no C compiler of POSIX's name")
def test_threads_time_and_memory(tmp_path):
    assert output(compiled("cc", tmp_path / "program", "-pthread")) == "ok"


MINGW = "x86_64-w64-mingw32-gcc"


@pytest.mark.skipif(not shutil.which(MINGW), reason=f"{MINGW} is not installed")
def test_threads_time_and_memory_of_windows(tmp_path):
    program = compiled(MINGW, tmp_path / "program.exe", "-lsynchronization")
    if shutil.which("wine"):
        assert output("wine", program, WINEPREFIX=str(tmp_path / "wine"), WINEDEBUG="-all") == "ok"
