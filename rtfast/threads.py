"""How many threads a run may use: RTFAST_NUM_THREADS, else the CPUs that this process may run on."""

import operator
import os

from . import backends


def available_cpus():
    """CPUs that this process may run on: its affinity, and a container's quota."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _container_quota()
    return cpus if quota is None else max(1, min(cpus, quota))


def _container_quota():
    """Whole CPUs that the container's CPU quota (cgroup v2, v1) is worth, or None without one."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                quota = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return None
    try:
        quota, period = int(quota), int(period)
    except ValueError:  # "max": no limit
        return None
    return -(-quota // period) if quota > 0 and period > 0 else None


def set_num_threads(n):
    """Use up to n threads for a run, the caller's included. Holds for every model.

    Raises TypeError for what is no integer, ValueError unless 1 <= n <= 128.
    """
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"n must be an integer, got {n!r}") from None
    if not 1 <= n <= 128:
        raise ValueError(f"n must be from 1 to 128, got {n}")
    backends.on_load(lambda module: module.set_num_threads(n))


def get_num_threads():
    """Threads that a run may use, the caller's included."""
    return backends.active().get_num_threads()


def _initial():
    asked = os.environ.get("RTFAST_NUM_THREADS", "").strip()
    if not asked:
        return min(128, available_cpus())
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 4 and 1 <= int(asked) <= 128):
        raise ValueError(f"RTFAST_NUM_THREADS must be a whole number from 1 to 128, got {asked!r}")
    return int(asked)


set_num_threads(_initial())
