"""The default number of threads: the process's affinity, Python's own count, a container's CPU quota."""

import os
import sys

import pytest
from subprocesses import printed

from rtfast import threads


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(cpus, groups, **files): a process that may use so many CPUs, and what Linux says of its groups."""
    monkeypatch.setattr(threads, "_CGROUPS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(threads, "_MEMBERSHIP", str(tmp_path / "membership"))

    def make(cpus, groups="", files=()):
        monkeypatch.setattr(os, "process_cpu_count", lambda: cpus, raising=False)
        (tmp_path / "membership").write_text(groups)
        for name, text in dict(files).items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


@pytest.mark.parametrize(("limit", "cpus"), [
    ("max 100000", 16), ("200000 100000", 2), ("250000 100000", 3), ("1000 100000", 1), ("150000 50000", 3),
    ("9900000 100000", 16), ("", 16), ("nonsense", 16), ("0 100000", 16), ("100000 0", 16), ("1 2 3", 1)])
def test_quota_of_cgroup_v2(machine, limit, cpus):
    machine(16, files={"cpu.max": limit + "\n"})
    assert threads.available_cpus() == cpus


@pytest.mark.parametrize(("quota", "period", "cpus"), [
    ("-1", "100000", 16), ("400000", "100000", 4), ("410000", "100000", 5), ("20000", "100000", 1),
    ("400000", None, 16), (None, "100000", 16), ("x", "100000", 16)])
def test_quota_of_cgroup_v1(machine, quota, period, cpus):
    given = {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period}
    machine(16, files={name: text + "\n" for name, text in given.items() if text is not None})
    assert threads.available_cpus() == cpus


def test_the_lowest_quota_around_the_process_counts(machine):
    """systemd's CPUQuota: on the process's own group or on one around it, not at the root."""
    groups = "0::/machine.slice/job.service\n"
    machine(16, groups, {"machine.slice/cpu.max": "600000 100000", "machine.slice/job.service/cpu.max": "max 100000"})
    assert threads.available_cpus() == 6
    machine(16, groups, {"machine.slice/job.service/cpu.max": "300000 100000"})
    assert threads.available_cpus() == 3
    machine(16, "0::/elsewhere\n")
    assert threads.available_cpus() == 16


def test_groups_of_cgroup_v1(machine):
    files = {f"cpu/{name}/cpu.cfs_{what}_us": value for name, quota in (("a", "-1"), ("a/b:c", "500000"), ("d", "1"))
             for what, value in (("quota", quota), ("period", "100000"))}
    machine(16, "5:memory:/d\n4:cpu,cpuacct:/a/b:c\n0::/\n", files)
    assert threads.available_cpus() == 5


@pytest.mark.parametrize("groups", ["0::/../outside\n", "no colons\n", "1:2\n", "4:cpu:/docker/not-seen-here\n"])
def test_groups_that_are_not_there(machine, groups):
    machine(7, groups, {"../outside/cpu.max": "100000 100000"})
    assert threads.available_cpus() == 7


def test_without_linux(machine, monkeypatch):
    """No control groups, no affinity, and a system that cannot count."""
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, cpus in ((5, 5), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert threads.available_cpus() == cpus


def test_a_count_that_python_does_not_know(machine):
    machine(None)
    assert threads.available_cpus() == 1


def test_at_most_128_by_default(machine, monkeypatch):
    machine(500)
    monkeypatch.delenv("RTFAST_NUM_THREADS", raising=False)
    assert threads._initial() == 128


def default_threads(start="", **environment):
    (n,) = map(int, printed(f"import os; {start}import rtfast; print(rtfast.get_num_threads())",
                            RTFAST_NUM_THREADS="", **environment))
    return n


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity():
    cpu = min(os.sched_getaffinity(0))
    assert default_threads(f"os.sched_setaffinity(0, {{{cpu}}}); ") == 1


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python 3.13 brought it")
def test_python_cpu_count():
    quota = threads._container_quota() or 128
    assert default_threads(PYTHON_CPU_COUNT="3") == min(3, quota)
