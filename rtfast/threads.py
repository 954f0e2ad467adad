"""How many threads a run may use: RTFAST_NUM_THREADS, else the CPUs that this process may run on."""

from __future__ import annotations

import operator
import os

from . import backends

#: Where control groups are mounted, and where Linux says in which of them this process is.
_CGROUPS, _MEMBERSHIP = "/sys/fs/cgroup", "/proc/self/cgroup"


def available_cpus() -> int:
    """CPUs that this process may run on: its affinity (Python 3.13: or PYTHON_CPU_COUNT), a container's quota."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _container_quota()
    return cpus if quota is None else max(1, min(cpus, quota))


def _container_quota() -> int | None:
    """CPUs, rounded up, that the lowest CPU quota over this process is worth, or None without one."""
    quotas = []
    for folder in _cgroup_folders():
        quotas.append(_whole_cpus(*_words(folder, "cpu.max")))  # cgroup v2: both in one file
        quotas.append(_whole_cpus(*_words(folder, "cpu.cfs_quota_us"), *_words(folder, "cpu.cfs_period_us")))
    return min((quota for quota in quotas if quota is not None), default=None)


def _cgroup_folders() -> list[str]:
    """Folders of this process's groups, v2 and v1, and of the groups around them, whose quotas hold too.

    A container sees its own group as the root, and in cgroup v1 at times a path that only the host has.
    """
    folders = [_CGROUPS, os.path.join(_CGROUPS, "cpu")]
    for _, controllers, path in _memberships():
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = folders[1 if controllers else 0]
        for name in path.strip().strip("/").split("/"):
            if name in ("", ".."):  # a group outside of what is mounted here
                break
            folder = os.path.join(folder, name)
            folders.append(folder)
    return folders


def _memberships() -> list[list[str]]:
    """The three parts of each line "number:controllers:path"; none where there is no such file."""
    try:
        with open(_MEMBERSHIP, encoding="utf-8", errors="surrogateescape") as file:
            return [parts for parts in (line.split(":", 2) for line in file) if len(parts) == 3]
    except OSError:
        return []


def _words(folder: str, name: str) -> list[str]:
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            return file.read().split()
    except OSError:
        return []


def _whole_cpus(quota: str = "max", period: str = "0", *rest: str) -> int | None:
    """Microseconds of CPU time in each period, as CPUs rounded up; None for "max" and -1: no limit."""
    try:
        quota, period = int(quota), int(period)
    except ValueError:
        return None
    return -(-quota // period) if quota > 0 and period > 0 else None


def set_num_threads(n: int) -> None:
    """Use up to n threads for a run, the caller's included. Holds for every model.

    Raises TypeError for what is no integer, ValueError unless 1 <= n <= 128.
    """
    try:
        number = None if isinstance(n, bool) else operator.index(n)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"n must be an integer, got {n!r}")
    n = number
    if not 1 <= n <= 128:
        raise ValueError(f"n must be from 1 to 128, got {n}")
    backends.on_load(lambda module: module.set_num_threads(n))


def get_num_threads() -> int:
    """Threads that a run may use, the caller's included."""
    return backends.active().get_num_threads()


def _initial() -> int:
    asked = os.environ.get("RTFAST_NUM_THREADS", "").strip()
    if not asked:
        return min(128, available_cpus())
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 4 and 1 <= int(asked) <= 128):
        raise ValueError(f"RTFAST_NUM_THREADS must be a whole number from 1 to 128, got {asked!r}")
    return int(asked)


set_num_threads(_initial())
