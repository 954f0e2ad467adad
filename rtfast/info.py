"""What runs here, and why: the build of the kernels, the CPU, the threads, Python, NumPy, what is missing."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import textwrap
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

import numpy as np

import rtfast
from rtfast import backends, threads

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  rtfast info
  rtfast info --json | python -m json.tool
  RTFAST_BACKEND=baseline RTFAST_NUM_THREADS=1 rtfast info"""

#: What is not needed to run, and what it is for: what pyproject.toml's extras name, and torch.
OPTIONAL = {
    "tokenizers": "text of checkpoints with tokenizer.json",
    "sentencepiece": "text of checkpoints with .spm or .model files",
    "huggingface-hub": "checkpoints by their names on the hub",
    "rich": "the progress bar of rtfast translate",
    "matplotlib": "plots of traces, and the benchmarks'",
    "pytest": "tests and benchmarks",
    "hypothesis": "tests",
    "safetensors": "tests",
    "selenium": "tests: a browser on the page of rtfast explain",
    "nbclient": "tests: the guide's notebook",
    "ipykernel": "tests: the guide's notebook",
    "mypy": "tests: the types",
    "Cython": "tests: the examples in Cython and C",
    "setuptools": "tests: the examples in Cython and C",
    "atheris": "fuzzing, guided",
    "mkdocs": "the documentation site",
    "mkdocs-material": "the documentation site",
    "pytest-benchmark": "benchmarks",
    "threadpoolctl": "benchmarks: NumPy's threads, and which BLAS runs",
    "onnx": "benchmarks: the encoder as a graph for onnxruntime",
    "onnxruntime": "benchmarks: compared with where it is installed",
    "torch": "benchmarks: compared with where it is installed",
}
#: Those for users, of the extras text, hub, progress and plot.
EXTRAS = ("tokenizers", "sentencepiece", "huggingface-hub", "rich", "matplotlib")

#: CPU features that matter beside those that a backend needs.
_MORE_FEATURES = ("AVX512VNNI", "AVX512BF16", "ASIMDDP")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same facts as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Print the facts."""
    found = facts()
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(lines(found)))


def facts() -> dict[str, Any]:
    """All that there is to say, as plain values."""
    return {
        "rtfast": {"version": rtfast.__version__, "folder": os.path.dirname(os.path.abspath(__file__))},
        "backend": {"in_use": rtfast.backend(), "chosen_by": _chosen_by("RTFAST_BACKEND", "the fastest here"),
                    "unavailable": {name: why_not(name) for name in backends.BACKENDS if why_not(name)}},
        "advice": backends.NO_COMPILED_BUILD if backends.available() == ["python"] else None,
        "cpu": {"model": cpu_model(), "machine": platform.machine(), "count": os.cpu_count(),
                "features": cpu_features()},
        "threads": {"count": rtfast.get_num_threads(), "available_cpus": threads.available_cpus(),
                    "chosen_by": _chosen_by("RTFAST_NUM_THREADS", "the CPUs that this process may use")},
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation(),
                   "platform": platform.platform(), "executable": sys.executable},
        "numpy": {"version": np.__version__, "blas": blas()},
        "optional": {name: version(name) for name in OPTIONAL},
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The facts as lines of text."""
    backend, cpu, python, numpy = found["backend"], found["cpu"], found["python"], found["numpy"]
    rows = [("rtfast", f"{found['rtfast']['version']} in {found['rtfast']['folder']}"),
            ("backend", f"{backend['in_use']} ({backend['chosen_by']})")]
    for name in backends.BACKENDS:
        if name != backend["in_use"]:
            rows.append(("", f"  {name:8}  {backend['unavailable'].get(name, 'available too')}"))
    rows += [("CPU", f"{cpu['model']} ({cpu['machine']}, {cpu['count']} CPUs)")]
    rows += [("", " ".join(cpu["features"]) or "none of the features that a build asks for")]
    rows += [("threads", f"{found['threads']['count']} ({found['threads']['chosen_by']})"),
             ("Python", f"{python['version']} ({python['implementation']}, {python['platform']})"),
             ("NumPy", f"{numpy['version']} with {numpy['blas']}"),
             ("optional", "not needed to run; what the extras bring:")]
    rows += [_package(name, found["optional"][name]) for name in EXTRAS]
    rows.append(("", "for tests, benchmarks and documentation:"))
    rows += [_package(name, version_found) for name, version_found in found["optional"].items() if name not in EXTRAS]
    text = [f"{name:10}{value}".rstrip() for name, value in rows]
    if found["advice"]:
        text += ["", *textwrap.wrap(f"The python backend is slow: {found['advice']}", 80)]
    return text


def _package(name: str, version_found: str | None) -> tuple[str, str]:
    return "", f"  {name:16}  {version_found or 'missing (' + OPTIONAL[name] + ')'}"


def _chosen_by(variable: str, otherwise: str) -> str:
    value = os.environ.get(variable, "").strip()
    return f"{variable}={value}" if value else otherwise


def why_not(name: str) -> str | None:
    """Why backend `name` cannot run here, or None if it can."""
    lacking = backends.missing_features(name)
    if lacking:
        return f"this CPU lacks {', '.join(lacking)}"
    if util.find_spec(backends.BACKENDS[name][0]) is None:
        return "not part of this installation"
    try:
        backends.load(name)
    except (ImportError, RuntimeError) as error:
        return str(error)
    return None


def cpu_features() -> list[str]:
    """Those features of this CPU that a backend asks for or that could serve one."""
    wanted = [feature for _, features in backends.BACKENDS.values() for feature in features]
    found = backends.cpu_features()
    return [feature for feature in dict.fromkeys((*wanted, *_MORE_FEATURES)) if found.get(feature, False)]


def cpu_model() -> str:
    """The CPU's name as its maker has it, or the kind of machine."""
    if sys.platform == "darwin":
        try:
            return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], check=True, text=True,
                                  capture_output=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip().lower() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def blas() -> str:
    """The BLAS that NumPy multiplies with: as it runs where threadpoolctl can tell, else as it was built."""
    if util.find_spec("threadpoolctl") is not None:
        import threadpoolctl

        for pool in threadpoolctl.threadpool_info():
            if pool["user_api"] != "blas":
                continue
            kernels, threads = pool.get("architecture", "unknown"), pool["num_threads"]
            return f"{pool['internal_api']} {pool['version']} ({kernels} kernels, threads: {threads})"
    try:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{built['name']} {built['version']}"
    except (KeyError, TypeError):  # NumPy < 1.26 can only print it
        return "a BLAS that NumPy does not name"
