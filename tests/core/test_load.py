"""The machine's load from the kernel's counters: planted files, planted readings, and this process itself."""

import os
import time

import pytest

from hidden_rule.core import load
from hidden_rule.core.load import Counters, Load, load_between, read_counters

STAT = """cpu  600 40 70 1000 20 3 4 5 9 9
cpu0 100 10 20 500 10 1 2 3 9 9
cpu1 500 30 50 500 10 2 2 2 9 9
cpu10 7 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""


def planted_proc(folder, schedstats=("2000000000 500000000 7", "1000000000 250000000 7"), stat=STAT, cgroup=None):
    for i, text in enumerate(schedstats):
        thread = folder / "self/task" / str(i)
        thread.mkdir(parents=True)
        if text is not None:
            (thread / "schedstat").write_text(text + "\n")
    (folder / "stat").write_text(stat)
    if cgroup is not None:
        (folder / "self/cgroup").write_text(cgroup)
    return folder


@pytest.mark.parametrize(
    ("schedstats", "waited"),
    [
        (["2000000000 500000000 7", "1000000000 250000000 7"], 0.75),
        (["2000000000 500000000 7", None], 0.5),  # the second ended while it was read
        (["0 0 0", "0 0 0"], None),  # the kernel counts nothing
        (["no number 1"], None),
        ([], None),  # no such folder: no /proc
    ],
)
def test_waits_are_summed_over_threads(tmp_path, schedstats, waited):
    assert load.thread_waits(planted_proc(tmp_path, schedstats)) == waited


@pytest.mark.parametrize(
    ("cores", "stat", "seconds"),
    [
        # ticks are 1/100 s; all columns but idle and iowait, and what guests took is contained in user's
        ({0}, STAT, (1.36, 0.10)),
        ({0, 1}, STAT, (1.36 + 5.86, 0.40)),
        ({10}, STAT, (0.07, 0.0)),
        ({7}, STAT, (0.0, 0.0)),
        ({0}, "cpu0 1 2 3\n", None),  # too short to be Linux's
    ],
)
def test_the_use_of_the_cores_that_the_process_may_use(tmp_path, monkeypatch, cores, stat, seconds):
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    found = load.core_use(cores, planted_proc(tmp_path, stat=stat))
    assert found is None if seconds is None else found == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("cgroup", "folders", "seconds"),
    [
        ("0::/a/b\n", {"": "usage_usec 5\n", "a": "throttled_usec 2000000\n", "a/b": "throttled_usec 500000\n"}, 2.5),
        ("0::/a/b\n", {"": "throttled_usec 1000000\n"}, 1.0),  # a container sees its own group as the root
        ("5:memory:/a\n3:cpu,cpuacct:/a\n", {"cpu,cpuacct/a": "throttled_time 3000000000\n"}, 3.0),
        ("5:memory:/a\n", {"memory/a": "throttled_time 3000000000\n"}, 0.0),
        ("0::/../other\n", {"": "throttled_usec 1000000\n"}, 1.0),  # outside of what the container sees
        ("0::/\n", {"": "throttled_usec many\n"}, 0.0),
        (None, {"": "throttled_usec 1000000\n"}, 0.0),
    ],
)
def test_limits_on_cpu_time_count_as_waiting(tmp_path, cgroup, folders, seconds):
    groups = tmp_path / "cgroup"
    for folder, text in folders.items():
        (groups / folder).mkdir(parents=True, exist_ok=True)
        (groups / folder / "cpu.stat").write_text(text)
    proc = planted_proc(tmp_path / "proc", cgroup=cgroup)
    assert load.throttled(proc, groups) == pytest.approx(seconds)


BEFORE = Counters(at_s=100, ran_s=10, waited_s=1, busy_s=1000, nice_s=500)


@pytest.mark.parametrize(
    ("after", "own_nice", "expected"),
    [
        (Counters(102, 14, 1, 1004, 500), 0, Load(2, 2.0, 0.0, 0.0)),  # alone on two cores
        (Counters(102, 12, 3, 1004, 500), 0, Load(2, 1.0, 0.5, 1.0)),  # another one has half
        (Counters(102, 13.6, 1.4, 1004, 500.4), 0, Load(2, 1.8, 0.1, 0.0)),  # lower priority does not count
        (Counters(102, 12, 3, 1004, 504), 19, Load(2, 1.0, 0.5, 1.0)),  # but for one that is low itself
        (Counters(102, 14, 0.5, 1004, 500), 0, Load(2, 2.0, 0.0, 0.0)),  # a thread ended and took its waits along
        (Counters(102, 10, 1, 1000, 500), 0, Load(2, 0.0, 0.0, 0.0)),
        (Counters(102, 14.02, 1, 1004, 500), 0, Load(2, 2.01, 0.0, 0.0)),  # ticks are coarse
    ],
)
def test_load_between_two_readings(after, own_nice, expected):
    found = load_between(BEFORE, after, own_nice)
    assert vars(found) == pytest.approx(vars(expected))


@pytest.mark.skipif(read_counters() is None, reason="the system does not count it")
def test_this_process_is_counted():
    before = read_counters()
    while time.process_time() < before.ran_s + 0.1:
        pass
    found = load_between(before, read_counters())
    assert found.own_cores * found.wall_s == pytest.approx(0.1, abs=0.05)
    assert 0 <= found.waiting < 1  # it may have waited long: this is a test on any machine


def test_a_system_without_such_counters_says_nothing(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    assert read_counters() is None
    monkeypatch.undo()
    assert load.thread_waits(tmp_path / "none") is None and load.core_use({0}, tmp_path / "none") is None
