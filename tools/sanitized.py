"""The tests on a build that looks for mistakes: `python tools/sanitized.py [address | debug] [pytest's arguments]`.

address: AddressSanitizer and UndefinedBehaviorSanitizer (gcc). Memory outside a block, or given back already, and
what C leaves undefined end the process with a report. Packed weights come from malloc then, whose blocks are watched
(csrc/pages.h).
debug: Cython checks indices, None, overflow of integers and division by zero. In a kernel, which cannot raise, the
exception is "ignored", and pytest makes that a failure.

Both are built beside the installed package, under build/address or build/debug, and again after a change in csrc/.
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TESTS = os.path.join(ROOT, "tests")
BUILDS = {"address": {"RTFAST_SANITIZE": "address,undefined"}, "debug": {"RTFAST_DEBUG": "1"}}


def build(name):
    """Build the package, this repository's as it is now; the folder to import it from."""
    folder = os.path.join(ROOT, "build", name)
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", folder, "--build-lib", f"{folder}/lib"]
    wanted = {**os.environ, **BUILDS[name]}
    done = subprocess.run(command, cwd=ROOT, env=wanted, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return f"{folder}/lib"


def library(name):
    """Where gcc keeps a library of its own."""
    done = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return os.path.realpath(done.stdout.strip())


def environment(name, package):
    """What the tests need around them to run on a build."""
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    found = {**os.environ, "PYTHONPATH": paths, "RTFAST_BUILD": name}
    if name == "address":
        # libstdc++ as well: its exceptions must be there when AddressSanitizer looks for them.
        found["LD_PRELOAD"] = " ".join([library("libasan.so"), library("libubsan.so"), library("libstdc++.so.6")])
        # Python keeps memory to its end; the tests ask for more memory than there is, and want MemoryError.
        found["ASAN_OPTIONS"] = "detect_leaks=0:allocator_may_return_null=1:abort_on_error=1"
        found["UBSAN_OPTIONS"] = "print_stacktrace=1:abort_on_error=1"
        found["PYTHONMALLOC"] = "malloc"
    return found


def main(arguments):
    name = arguments[0] if arguments else ""
    if name not in BUILDS:
        raise SystemExit(__doc__)
    package = build(name)
    given = [os.path.abspath(one) if os.path.exists(one.partition("::")[0]) else one for one in arguments[1:]]
    if not any(os.path.isabs(one) for one in given):
        given.append(TESTS)
    # Not in the root, whose rtfast/ would come before the build.
    settings = ["-c", os.path.join(ROOT, "pyproject.toml"), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *settings, *given]
    return subprocess.run(command, cwd=TESTS, env=environment(name, package), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
