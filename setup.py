"""Builds csrc/core.pyx once per instruction set: rtfast._avx512, ._avx2, ._baseline (x86-64), ._neon (arm64).

Each build is optional: where it does not compile, rtfast installs without it, in the end as
pure Python. RTFAST_PURE=1 leaves all of them out.

Two builds look for mistakes, and tools/sanitized.py runs the tests on them: RTFAST_SANITIZE=address,undefined
watches memory and arithmetic in C, RTFAST_DEBUG=1 has Cython check indices, integers and divisions.
"""

import gzip
import os
import platform
import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import PlatformError

WINDOWS = sys.platform == "win32"
#: What is compiled for: this machine; on Windows Python's own, which another may emulate.
MACHINE = sysconfig.get_platform().removeprefix("win-") if WINDOWS else platform.machine().lower()
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(MACHINE, MACHINE)
BUILDS = {
    "x86_64": {
        # Without gcc's induction variables, which take the registers that a tile of a product needs: 2 % faster here,
        # 10 % slower on AVX2.
        "_avx512": ["-march=x86-64-v4", "-fno-ivopts"],
        "_avx2": ["-march=x86-64-v3"],
        "_baseline": ["-march=x86-64-v2"],
    },
    "aarch64": {"_neon": []},
}.get(MACHINE, {"_baseline": []})

FLAGS = [
    "-ffp-contract=off",  # fused multiply-adds where the source says so and nowhere else
    "-fno-math-errno",
]
if WINDOWS:
    # clang-cl's options are those of cl, whose /O2 is its -O3; after /clang: come clang's own.
    BUILDS = {name: [f"/clang:{flag}" for flag in flags] for name, flags in BUILDS.items()}
    FLAGS = [f"/clang:{flag}" for flag in FLAGS]
    FLAGS += [f"--target={MACHINE}-pc-windows-msvc", "/Brepro"]  # no time of the build in the file
    LINK_FLAGS = ["/Brepro"]
    LIBRARIES = ["Synchronization"]  # WaitOnAddress
else:
    FLAGS += [
        "-O3",
        "-g0",  # a wheel without debugging symbols: a tenth of the size
        "-fvisibility=hidden",
    ]
    LINK_FLAGS = ["-pthread"]
    LIBRARIES = []
FLAGS += [
    "-DCYTHON_INLINE=inline __attribute__((always_inline))",  # a tile's row count is a constant
    "-Wno-unused-function",
    "-Wno-ignored-optimization-argument",  # clang has no -fno-ivopts
]
DIRECTIVES = {}  # of Cython, in place of those in core.pyx
if sanitizers := os.environ.get("RTFAST_SANITIZE"):
    FLAGS += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-O1", "-g"]
    LINK_FLAGS += [f"-fsanitize={sanitizers}"]
if os.environ.get("RTFAST_DEBUG") == "1":
    FLAGS += ["-O1", "-g"]
    DIRECTIVES = {"boundscheck": True, "overflowcheck": True, "initializedcheck": True, "nonecheck": True,
                  "cdivision": False}
SOURCES = ["csrc/core.pyx"]
PARTS = sorted(os.path.join("csrc", name) for name in os.listdir("csrc") if name.endswith((".pxi", ".h")))
PARTS.append(os.path.join("rtfast", "include", "rtfast.h"))


def leave_enums_unchecked():
    """Cython 3.1 fails on overflowcheck in the value of an enum, which is in no function."""
    from Cython.Compiler.Nodes import CEnumDefItemNode

    analyse = CEnumDefItemNode.analyse_enum_declarations

    def unchecked(self, env, *rest):
        before, env.directives = env.directives, {**env.directives, "overflowcheck": False}
        try:
            return analyse(self, env, *rest)
        finally:
            env.directives = before

    CEnumDefItemNode.analyse_enum_declarations = unchecked


def use_clang_cl(compiler):
    """Have clang-cl compile in place of Microsoft's cl, which has no vector extension; False where it is missing."""
    try:
        compiler.initialize()
    except PlatformError:  # no Visual Studio: neither headers nor a linker
        return False
    folders = [Path(os.environ.get("PROGRAMFILES", ""), "LLVM", "bin")]
    if len(above := Path(compiler.cc).parents) > 5:  # cl is VC/Tools/MSVC/its version/bin/host/target/cl.exe
        folders.append(above[5] / "Llvm" / "x64" / "bin")
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    found = shutil.which("clang-cl", path=path)
    if found is None:
        return False
    compiler.cc = found
    return True


class BuildPerInstructionSet(build_ext):
    """Translates the one source to C under each module's name."""

    def finalize_options(self):
        super().finalize_options()
        from Cython.Build import cythonize

        if DIRECTIVES:
            leave_enums_unchecked()
        for extension in self.extensions:
            (translated,) = cythonize(
                [extension], build_dir=os.path.join(self.build_temp, extension.name), quiet=True,
                compiler_directives=DIRECTIVES)
            extension.sources = translated.sources

    def build_extensions(self):
        if WINDOWS and not (self.compiler.compiler_type == "msvc" and use_clang_cl(self.compiler)):
            self.warn("no kernels are compiled: that takes clang-cl, which Visual Studio has as an optional component")
            self.extensions = []
        super().build_extensions()


class SourceArchive(sdist):
    """Has the same bytes whenever it is built, where SOURCE_DATE_EPOCH gives one time for all files, as in wheels."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **owners):
        if "SOURCE_DATE_EPOCH" not in os.environ or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, **owners)
        time = int(os.environ["SOURCE_DATE_EPOCH"])

        def plain(member):
            member.mtime, member.uid, member.gid, member.uname, member.gname = time, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        path = f"{base_name}.tar.gz"
        with (open(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=time) as packed,
              tarfile.open(fileobj=packed, mode="w") as archive):
            archive.add(base_dir, filter=plain)  # in the order of names
        return path


def extensions():
    if os.environ.get("RTFAST_PURE") == "1" or sys.implementation.name != "cpython":
        return []
    return [
        Extension(
            f"rtfast.{name}", list(SOURCES), include_dirs=["csrc", "rtfast/include"], depends=PARTS,
            libraries=LIBRARIES, extra_compile_args=FLAGS + flags, extra_link_args=LINK_FLAGS, optional=True)
        for name, flags in BUILDS.items()
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildPerInstructionSet, "sdist": SourceArchive})
