"""Builds csrc/core.pyx once per instruction set: rtfast._avx512, ._avx2, ._baseline (x86-64), ._neon (arm64).

Each build is optional: where it does not compile, rtfast installs without it, in the end as
pure Python. RTFAST_PURE=1 leaves all of them out.

Two builds look for mistakes, and tools/sanitized.py runs the tests on them: RTFAST_SANITIZE=address,undefined
watches memory and arithmetic in C, RTFAST_DEBUG=1 has Cython check indices, integers and divisions.
"""

import os
import platform
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILDS = {
    "x86_64": {
        "_avx512": ["-march=x86-64-v4"],
        "_avx2": ["-march=x86-64-v3"],
        "_baseline": ["-march=x86-64-v2"],
    },
    "aarch64": {"_neon": []},
}.get({"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine()), {"_baseline": []})

FLAGS = [
    "-O3",
    "-g0",  # a wheel without debugging symbols: a tenth of the size
    "-ffp-contract=off",  # fused multiply-adds where the source says so and nowhere else
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-DCYTHON_INLINE=inline __attribute__((always_inline))",  # a tile's row count is a constant
    "-Wno-unused-function",
]
LINK_FLAGS = ["-pthread"]
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


def extensions():
    if os.environ.get("RTFAST_PURE") == "1" or sys.implementation.name != "cpython":
        return []
    return [
        Extension(
            f"rtfast.{name}", list(SOURCES), include_dirs=["csrc", "rtfast/include"], depends=PARTS,
            extra_compile_args=FLAGS + flags, extra_link_args=LINK_FLAGS, optional=True)
        for name, flags in BUILDS.items()
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildPerInstructionSet})
