"""setup.py as on Windows: which compiler it takes, with which flags. Source archives: same bytes, nothing missing."""

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

setuptools = pytest.importorskip("setuptools", minversion="77")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="stands in for Windows")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def script(monkeypatch):
    """The names of setup.py, run as on x86-64 Windows, and what it gave to setup()."""
    given = {}
    for command in ("build_ext", "sdist"):
        importlib.import_module(f"setuptools.command.{command}")  # before, like the next line: as of this system
    sysconfig.get_config_vars()
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("RTFAST_PURE", raising=False)
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        windows.setattr(sysconfig, "get_platform", lambda: "win-amd64")
        windows.setattr(setuptools, "setup", given.update)
        names = {}
        exec(compile((ROOT / "setup.py").read_text(encoding="utf-8"), "setup.py", "exec"), names)
    return {**names, **given}


class Compiler:
    """Of setuptools for Windows, as far as setup.py sees it."""

    compiler_type = "msvc"

    def __init__(self, cl, error=None):
        self.cl, self.error, self.cc = cl, error, None

    def initialize(self):
        if self.error:
            raise self.error
        self.cc = str(self.cl)


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_three_builds_with_flags_of_clang_cl(script):
    flags = {extension.name: extension.extra_compile_args for extension in script["ext_modules"]}
    assert list(flags) == ["rtfast._avx512", "rtfast._avx2", "rtfast._baseline"]
    assert "/clang:-march=x86-64-v3" in flags["rtfast._avx2"]
    for args in flags.values():
        assert {"/clang:-ffp-contract=off", "--target=x86_64-pc-windows-msvc", "/Brepro"} <= set(args)
        assert all(arg.startswith(("/", "--target=", "-D", "-W")) for arg in args)
    assert all(extension.libraries == ["Synchronization"] for extension in script["ext_modules"])


def test_clang_cl_of_the_path_of_llvm_and_of_visual_studio(script, tmp_path, monkeypatch):
    use = script["use_clang_cl"]
    compiler = Compiler(program(tmp_path / "VC" / "Tools" / "MSVC" / "14.4" / "bin" / "HostX64" / "x64" / "cl.exe"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("PROGRAMFILES", str(tmp_path / "Program Files"))
    assert not use(compiler) and compiler.cc == str(compiler.cl)
    folders = [tmp_path / "VC" / "Tools" / "Llvm" / "x64" / "bin", tmp_path / "Program Files" / "LLVM" / "bin",
               tmp_path / "nothing"]
    for folder in folders:
        there = program(folder / "clang-cl")
        assert use(compiler) and compiler.cc == str(there)


def test_without_visual_studio(script):
    error = setuptools.errors.PlatformError("Microsoft Visual C++ 14.0 or greater is required")
    assert not script["use_clang_cl"](Compiler("cl.exe", error))


def test_a_source_archive_of_another_day_has_the_same_bytes(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    command = script["SourceArchive"](setuptools.Distribution({"name": "package"}))
    files = [program(tmp_path / "package" / name) for name in ("b.py", "a.py", "folder/c.py")]
    archives = []
    for day in range(2):
        for file in files:
            os.utime(file, (86400 * day, 86400 * day))
            file.chmod(0o755 if day else 0o744)
        archives.append(Path(command.make_archive(f"archive{day}", "gztar", base_dir="package")).read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "archive0.tar.gz") as archive:
        names = ["package", "package/a.py", "package/b.py", "package/folder", "package/folder/c.py"]
        assert archive.getnames() == names
        assert {member.mtime for member in archive} == {1700000000}


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="no clone, or no git")
def test_a_source_archive_has_every_file(tmp_path):
    """What README and CONTRIBUTING.md tell to run, and the tests of it, are there too."""
    git = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path], cwd=ROOT,
                   env={**os.environ, "RTFAST_PURE": "1"}, capture_output=True, check=True)
    listed = (tmp_path / "rtfast.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").splitlines()
    assert {path for path in git.stdout.splitlines() if not path.startswith((".ci/", ".git"))} <= set(listed)
    assert not [path for path in listed if path.endswith((".so", ".pyc"))]
