"""Fuzzing of every loader: `python fuzz/run.py [harness ...] --seconds N | --executions N`.

With atheris (coverage of rtfast's own lines) where it is installed, else with the mutators alone. One process at a
time. What is found is kept under --findings, an input and a text each, and fuzzing goes on; a crash ends its process,
and the next one begins with another seed. Exit status 1 where anything was found.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

#: Bytes of the longest input that the mutators may make.
LONGEST = 8192
#: Megabytes of memory in all, above which a process is stopped.
PROCESS = 2048
#: Bytes of address space, libraries and all.
ADDRESSES = 6 * 2**30


class Worker:
    """One harness in this process."""

    def __init__(self, name, folder, findings):
        from checks import Checks
        from harnesses import HARNESSES

        self.name, self.findings = name, findings / name
        self.state = folder / "state.json"
        (folder / "files").mkdir()
        self.harness = HARNESSES[name](folder / "files")
        self.checks = Checks(self.harness, folder / "files")
        self.faults, self._said, self._begun = {}, time.monotonic(), time.monotonic()

    def one(self, data):
        """Run one input and keep count."""
        fault = self.checks.run(data)
        if fault is not None:
            self._keep(fault, data)
        if self.checks.executions % 256 == 0 and time.monotonic() > self._said + 0.5:
            self.say()

    def _keep(self, fault, data):
        key = fault.splitlines()[0]
        times, smallest = self.faults.get(key, (0, None))
        if smallest is None or len(data) < smallest:
            smallest = len(data)
            self.findings.mkdir(parents=True, exist_ok=True)
            stem = self.findings / hashlib.sha256(key.encode()).hexdigest()[:12]
            stem.with_suffix(".input").write_bytes(data)
            stem.with_suffix(".txt").write_text(fault + "\n", encoding="utf-8", errors="replace")
        self.faults[key] = times + 1, smallest

    def say(self):
        """Write the counts where the parent reads them."""
        self._said, checks = time.monotonic(), self.checks
        text = json.dumps({"executions": checks.executions, "accepted": checks.accepted, "slowest": checks.slowest,
                           "slowest_bytes": len(checks.slowest_input), "memory": checks.memory,
                           "seconds": self._said - self._begun, "faults": {k: n for k, (n, _) in self.faults.items()}})
        self.state.with_suffix(".new").write_text(text)
        os.replace(self.state.with_suffix(".new"), self.state)

    def plain(self, seconds, executions, seed):
        """Without atheris: a pool of seeds, and what they became."""
        draws = random.Random(seed)
        pool, end = list(self.harness.seeds()), time.monotonic() + seconds
        originals = len(pool)
        while self.checks.executions < executions and time.monotonic() < end:
            data = self.harness.mutate(draws.choice(pool), draws)[:LONGEST]
            accepted = self.checks.accepted
            self.one(data)
            if self.checks.accepted > accepted or draws.randrange(20) == 0:  # a walk away from the seeds
                pool.append(data)
                if len(pool) > originals + 256:
                    del pool[draws.randrange(originals, len(pool))]
        self.say()

    def atheris(self, atheris, seconds, executions, seed, corpus):
        """With atheris: libFuzzer chooses, the harness' mutator and its own change."""
        def mutate(data, longest, number):
            draws = random.Random(number)
            if draws.randrange(8) == 0:
                return atheris.Mutate(data, longest)
            if draws.randrange(4) == 0:  # what libFuzzer keeps is mostly refused
                data = draws.choice(seeds)
            return self.harness.mutate(data, draws)[:longest]

        corpus.mkdir()
        seeds = self.harness.seeds()
        for i, data in enumerate(seeds):
            (corpus / f"{i:04}").write_bytes(data)
        arguments = [sys.argv[0], str(corpus), f"-max_len={LONGEST}", f"-seed={seed + 1}", "-timeout=60",
                     "-verbosity=0", f"-rss_limit_mb={PROCESS}", "-detect_leaks=0",
                     f"-artifact_prefix={self.state.parent}/crash-", f"-max_total_time={int(seconds)}",
                     f"-runs={min(executions, 2**31 - 1)}", "-len_control=0"]
        atheris.Setup(arguments, self.one, custom_mutator=mutate)
        atheris.Fuzz()


def work(options):
    """The process of one harness."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))  # what asks for more gets a MemoryError
    folder, findings = pathlib.Path(options.folder), pathlib.Path(options.findings)
    atheris = None
    if not options.plain:
        try:
            import atheris
        except ImportError:
            print("atheris is not installed: the mutators alone", file=sys.stderr)
    if atheris is None:
        Worker(options.harness[0], folder, findings).plain(options.seconds, options.executions, options.seed)
        return
    with atheris.instrument_imports(include=["rtfast"]):
        worker = Worker(options.harness[0], folder, findings)
    worker.atheris(atheris, options.seconds, options.executions, options.seed, folder / "corpus")


def fuzz(name, options):
    """Run a harness in processes of its own, one after the other where they crash: what they said, added up."""
    total = {"executions": 0, "accepted": 0, "slowest": 0.0, "slowest_bytes": 0, "memory": 0.0, "seconds": 0.0,
             "faults": {}}
    end, seed = time.monotonic() + options.seconds, options.seed
    while total["executions"] < options.executions and time.monotonic() < end:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="rtfast-fuzz-", dir=memory_folder()))
        try:
            command = [sys.executable, __file__, name, "--folder", str(folder), "--seed", str(seed),
                       "--seconds", str(max(1, round(end - time.monotonic()))), "--findings", str(options.findings),
                       "--executions", str(options.executions - total["executions"])] + ["--plain"] * options.plain
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if (folder / "state.json").exists():
                _add(total, json.loads((folder / "state.json").read_text()))
            if done.returncode != 0:
                _keep_crash(name, folder, done, options, total)
        finally:
            shutil.rmtree(folder)
        seed += 1
        if done.returncode == 0 or len(total["faults"]) > 50:
            break
    return total


def memory_folder():
    """A file system in memory where there is one: millions of files are written."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _add(total, said):
    if said["slowest"] > total["slowest"]:
        total["slowest_bytes"] = said["slowest_bytes"]
    for name in ("executions", "accepted", "seconds"):
        total[name] += said[name]
    for name in ("slowest", "memory"):
        total[name] = max(total[name], said[name])
    for key, times in said["faults"].items():
        total["faults"][key] = total["faults"].get(key, 0) + times


def _keep_crash(name, folder, done, options, total):
    """Keep the input that ended a process, and what the process said last."""
    key = f"crash: exit status {done.returncode}"
    total["faults"][key] = total["faults"].get(key, 0) + 1
    kept = pathlib.Path(options.findings) / name
    kept.mkdir(parents=True, exist_ok=True)
    stem = f"crash-{len(list(kept.glob('crash-*.txt')))}"
    (kept / f"{stem}.txt").write_text(key + "\n" + done.stdout[-2000:] + done.stderr[-6000:])
    shutil.copytree(folder / "files", kept / stem, dirs_exist_ok=True)  # its files as the last input left them
    for artifact in folder.glob("crash-*"):
        shutil.copy(artifact, kept / f"{stem}.input")


def main():
    if "--folder" in sys.argv:
        names = ()  # this process imports rtfast under atheris
    else:
        from harnesses import HARNESSES as names

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("harness", nargs="*", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--seconds", type=float, default=1e6, help="for each harness")
    parser.add_argument("--executions", type=int, default=2**62, help="for each harness")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="without atheris, even where it is installed")
    parser.add_argument("--findings", default=str(HERE / "findings"), help="folder for what is found")
    parser.add_argument("--json", help="file to add the counts to, one line for each harness")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        return work(options)
    unknown = sorted(set(options.harness) - set(names))
    if unknown:
        parser.error(f"no harness {', '.join(unknown)}; there are {', '.join(names)}")
    if options.seconds == 1e6 and options.executions == 2**62:
        options.seconds = 10.0
    print(f"{'harness':24}{'executions':>12}{'accepted':>10}{'a second':>10}{'slowest, ms':>13}{'memory':>8}  findings")
    found = 0
    for name in options.harness or names:
        said = fuzz(name, options)
        found += len(said["faults"])
        print(f"{name:24}{said['executions']:12,}{said['accepted'] / max(1, said['executions']):10.1%}"
              f"{said['executions'] / max(said['seconds'], 1e-9):10,.0f}{1000 * said['slowest']:13.1f}"
              f"{said['memory']:8.2f}  {len(said['faults'])}", flush=True)
        for key, times in sorted(said["faults"].items()):
            print(f"    {times} x {key}", flush=True)
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps({"harness": name, **said}) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
