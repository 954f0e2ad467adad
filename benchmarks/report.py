"""What the benchmarks found: the machine, the table, what must be reached, and the comparison with an earlier run."""

import datetime
import json
import math
import os
import platform
from dataclasses import dataclass

import peers
import timing

import rtfast
from rtfast import backends, info


def machine(roofline):
    """The CPU, the backend, the peers' versions, and the core's rooflines in 10^9 a second."""
    found = {"date": datetime.datetime.now().isoformat(timespec="minutes"), "cpu": info.facts()["cpu"]["model"],
             "cpus": os.cpu_count(), "python": platform.python_version(), "rtfast": rtfast.__version__,
             "backend": rtfast.backend(), "peers": peers.versions()}
    for name, loop in roofline.items():
        found[name] = max(timing.rate(loop) for _ in range(9)) / 1e9
    module = backends.active()
    if hasattr(module, "read_loop"):
        cached = peers.normal((4 << 20,))
        best = min(timing.seconds(lambda: module.read_loop(cached)) for _ in range(9))
        found["bandwidth_16_MB"] = cached.nbytes / best / 1e9
    return found


# What must be reached ----------------------------------------------------------------------------

@dataclass
class Target:
    """`statistic` of `column` over the rows of `group` that `where` chooses is to be at least `least`."""

    group: str
    text: str
    statistic: str
    least: float
    column: str = "ratio"
    where: object = lambda row: True
    most: bool = False  # `least` is the most instead


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


STATISTICS = {"geometric mean": geometric_mean, "lowest": min, "highest": max}

TARGETS = [
    Target("linear", "M >= 8", "geometric mean", 1.25, where=lambda row: row["m"] >= 8),
    Target("linear", "every cell", "lowest", 0.95),
    Target("linear", "of FMA peak, M >= 64", "lowest", 0.90, "of_peak", lambda row: row["m"] >= 64),
    Target("linear", "of DRAM bandwidth, M = 1, out of cache", "lowest", 0.90, "of_bandwidth",
           lambda row: row["m"] == 1 and row["bytes"] > 50e6),
    Target("packed product, avx512", "of FMA peak, M >= 16", "lowest", 0.80, "of_peak", lambda row: row["m"] >= 16),
    Target("packed product, avx2", "of FMA peak, M >= 16", "lowest", 0.80, "of_peak", lambda row: row["m"] >= 16),
    Target("matmul", "", "geometric mean", 1.1),
    Target("matmul", "every cell", "lowest", 0.95),
    Target("softmax", "", "geometric mean", 1.5),
    Target("layer norm", "", "geometric mean", 1.5),
    Target("add and layer norm", "", "geometric mean", 1.5),
    Target("attention", "", "geometric mean", 1.3),
    Target("attention", "every cell", "lowest", 0.95),
    Target("linear with activation", "", "geometric mean", 1.2),
    Target("base encoder", "against ONNX Runtime", "lowest", 1.15, "ratio_onnx"),
    Target("base encoder", "against torch", "lowest", 2.0, "ratio_torch"),
    Target("base encoder", "against torch, length 128", "lowest", 1.8, "ratio_torch",
           lambda row: row["length"] == 128 and row["batch"] == 1),
    Target("the article's model", "against NumPy", "lowest", 40, where=lambda row: row["peer"] == "NumPy"),
    Target("the article's model", "against torch", "lowest", 20, where=lambda row: row["peer"] == "torch"),
    Target("overhead", "ns an op", "highest", 60, "nanoseconds_per_op", most=True),
    Target("scaling", "2 threads against 1", "lowest", 1.85),
    Target("GIL", "speed of a counting thread beside a run", "lowest", 0.90, "of_alone"),
    Target("import", "time of import numpy", "highest", 1.3, "of_numpy", most=True),
    Target("tracing on", "untraced against traced", "lowest", 0.5),
    Target("tracing off", "against programs without traces", "lowest", 0.97),
    *(Target("translation", what, "lowest", least, where=lambda row, what=what, threads=threads: (
        row["what"], row["threads"]) == (what, threads))
      for what, threads, least in (
          ("batch 1, greedy", 1, 1.35), ("batch 1, greedy", 2, 1.5),
          ("batch 1, beam 4", 1, 2), ("batch 1, beam 4", 2, 2),
          ("batch 32, greedy", 1, 1.8), ("batch 32, greedy", 2, 1.8), ("batch 32, beam 4", 1, 1.3),
          ("batch 32, beam 4", 2, 1.3), ("batch 256, lengths 5 to 100, greedy", 1, 1.3),
          ("batch 256, lengths 5 to 100, greedy", 2, 1.3), ("seconds to load, to the first token", 1, 1),
          ("peak memory in MB, batch 1", 1, 1))),
    *(Target("translation", f"{what}, against transformers", "lowest", least, "ratio_transformers",
             lambda row, what=what: row["what"] == what)
      for what, least in (("batch 1, greedy", 3), ("batch 1, beam 4", 4), ("batch 32, greedy", 3))),
]


def judged(rows):
    """(target, threads, what was seen or None) of each target that the rows have something about."""
    for target in TARGETS:
        for threads in sorted({row["threads"] for row in rows if row["group"] == target.group}):
            values = [row[target.column] for row in rows if row["group"] == target.group
                      and row["threads"] == threads and target.column in row and target.where(row)]
            if values:
                yield target, threads, STATISTICS[target.statistic](values)


# In words ----------------------------------------------------------------------------------------

def lines(found, earlier=None):
    """The whole report, line by line."""
    yield from heading(found["machine"])
    before = {key(row): row for row in earlier["rows"]} if earlier else {}
    if earlier:
        yield f"before: the ratio in the run of {earlier['machine']['date']} on {earlier['machine']['cpu']}"
    group = None
    for row in sorted(found["rows"], key=lambda row: (row["group"], row["threads"])):
        if (row["group"], row["threads"]) != group:
            group = row["group"], row["threads"]
            yield f"\n{row['group']}, {threads_text(row['threads'])}"
        yield line(row, before.get(key(row)))
    yield "\nto be reached"
    for target, threads, seen in judged(found["rows"]):
        reached = seen <= target.least if target.most else seen >= target.least
        sign = "<=" if target.most else ">="
        name = ", ".join(filter(None, (target.group, target.text)))
        yield (f"  {'reached' if reached else 'MISSED':8}{name:62}{threads_text(threads):>10}"
               f"  {target.statistic} {seen:.2f}, must be {sign} {target.least:g}")


def heading(facts):
    yield (f"{facts['cpu']}, {facts['cpus']} CPUs, {facts['date']}, Python {facts['python']}, "
           f"rtfast {facts['rtfast']} on {facts['backend']}")
    yield "; ".join(f"{name} {version}" for name, version in facts["peers"].items())
    if "peak" in facts:
        yield (f"one core: FMA peak {facts['peak']:.0f} GFLOP/s, reads {facts['bandwidth']:.1f} GB/s from DRAM, "
               f"{facts['bandwidth_16_MB']:.1f} GB/s from 16 MB")
    yield ("ratio: the best peer's time over ours (medians; lower quartiles on several threads), and its quartiles; "
           "of peak, of DRAM: our share of what as many threads did in the same round")


def line(row, before=None):
    unit, factor = (row["unit"], 1) if "unit" in row else ("us", 1e6)
    text = f"  {row['what']:44}{row['seconds'] * factor:12.1f} {unit}"
    if "ratio" in row:
        text += (f"{row['peer']:>16}{row['peer_seconds'] * factor:12.1f} {unit}{row['ratio']:8.2f}x "
                 f"({row['ratio_low']:.2f} - {row['ratio_high']:.2f})")
    for column, name in (("of_peak", "of peak"), ("of_bandwidth", "of DRAM"), ("of_alone", "of its speed alone"),
                         ("of_numpy", "of import numpy"), ("nanoseconds_per_op", "ns an op")):
        if column in row:
            text += f"  {row[column]:.2f} {name}"
    if before and "ratio" in before:
        text += f"  before {before['ratio']:.2f}x"
    return text


def key(row):
    """What makes two rows of two runs the same."""
    return row["group"], row["what"], row["threads"]


def threads_text(n):
    return f"{n} thread{'s' * (n > 1)}"


# On disk -----------------------------------------------------------------------------------------

def write(found, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


def read(path):
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, dict) or not {"machine", "rows"} <= found.keys():
        raise ValueError(f"{path} must be a file written by --save: it has no machine and rows")
    return found
