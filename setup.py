"""Builds csrc/core.pyx once per instruction set: rtfast._avx512, ._avx2, ._baseline (x86-64), ._neon (arm64).

Each build is optional: where it does not compile, rtfast installs without it, in the end as
pure Python. RTFAST_PURE=1 leaves all of them out.
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
SOURCES = ["csrc/core.pyx"]
PARTS = sorted(os.path.join("csrc", name) for name in os.listdir("csrc") if name.endswith((".pxi", ".h")))
PARTS.append(os.path.join("rtfast", "include", "rtfast.h"))


class BuildPerInstructionSet(build_ext):
    """Translates the one source to C under each module's name."""

    def finalize_options(self):
        super().finalize_options()
        from Cython.Build import cythonize

        for extension in self.extensions:
            (translated,) = cythonize(
                [extension], build_dir=os.path.join(self.build_temp, extension.name), quiet=True)
            extension.sources = translated.sources


def extensions():
    if os.environ.get("RTFAST_PURE") == "1" or sys.implementation.name != "cpython":
        return []
    return [
        Extension(
            f"rtfast.{name}", list(SOURCES), include_dirs=["csrc", "rtfast/include"], depends=PARTS,
            extra_compile_args=FLAGS + flags, extra_link_args=["-pthread"], optional=True)
        for name, flags in BUILDS.items()
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildPerInstructionSet})
