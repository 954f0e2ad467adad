"""`import rtfast` against `import numpy`, each in a fresh process."""

import os
import subprocess
import sys

# As after an installation: bytecode is compiled once and kept.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def import_time(name):
    code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_import_time(benchmark):
    import_time("rtfast")
    pairs = [(import_time("rtfast"), import_time("numpy")) for _ in range(15)]
    ratios = sorted(ours / numpys for ours, numpys in pairs)
    benchmark.group = "import"
    benchmark.extra_info.update(ratio=ratios[7], ratio_low=ratios[3], ratio_high=ratios[11])
    benchmark.pedantic(lambda: import_time("rtfast"), rounds=1)
    print(f"\nimport rtfast / import numpy: {ratios[7]:.2f} ({ratios[3]:.2f} - {ratios[11]:.2f}), to be <= 1.3")
