"""`import rtfast` against `import numpy`, each in a fresh process."""

import os
import statistics
import subprocess
import sys

# As after an installation: bytecode is compiled once and kept.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def import_time(name):
    code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_import_time(record):
    import_time("rtfast")
    pairs = [(import_time("rtfast"), import_time("numpy")) for _ in range(15)]
    record("import", "rtfast", seconds=statistics.median(ours for ours, _ in pairs),
           of_numpy=statistics.median(ours / numpys for ours, numpys in pairs))
