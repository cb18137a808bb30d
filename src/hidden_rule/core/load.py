"""How busy the machine is: what this process got of the cores that it may use, and what other processes took.

Linux counts both for every process (proc(5); Documentation/scheduler/sched-stats.rst): `read_counters` twice, and
`load_between` the two. Elsewhere nothing of this is known, and `read_counters` is None. A reading costs some 0.1 ms.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
NICE, IDLE = 1, (3, 4)  # columns of /proc/stat: user nice system idle iowait irq softirq steal guest guest_nice
N_COLUMNS = 8  # a guest's time is contained in user's


@dataclass(frozen=True)
class Counters:
    """Seconds so far, by the kernel's counters."""

    at_s: float  # `time.monotonic()`
    ran_s: float  # this process's threads, on a core
    waited_s: float  # its threads, ready to run: for a core, or for the end of a limit on CPU time
    busy_s: float  # of the cores that this process may use, whoever took them; what a hypervisor took included
    nice_s: float  # of these, processes of a lower priority than the usual one (a positive nice value)


@dataclass(frozen=True)
class Load:
    """What went on between two readings."""

    wall_s: float
    own_cores: float  # cores that this process used on average
    waiting: float  # share of its threads' ready time (running or waiting) that they waited, 0 to 1
    other_cores: float  # cores that other processes of at least its priority took on average


def thread_waits(proc: Path = PROC) -> float | None:
    """Seconds that the threads of this process waited for a core so far; None where that is not counted."""
    ran, waited = 0, 0
    try:
        for thread in (proc / "self/task").iterdir():
            try:
                counts = (thread / "schedstat").read_text().split()
            except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed, or nothing is counted
                continue
            ran, waited = ran + int(counts[0]), waited + int(counts[1])
    except (OSError, ValueError, IndexError):
        return None
    return waited / 1e9 if ran else None


def core_use(cores: set[int], proc: Path = PROC) -> tuple[float, float] | None:
    """Seconds that these cores were busy so far, and those with processes of lower priority; None if unknown."""
    busy, nice = 0, 0
    try:
        for line in (proc / "stat").read_text().splitlines():
            name, *columns = line.split()
            if name.removeprefix("cpu").isdecimal() and int(name.removeprefix("cpu")) in cores:
                ticks = [int(column) for column in columns[:N_COLUMNS]]
                busy += sum(ticks) - sum(ticks[i] for i in IDLE)
                nice += ticks[NICE]
    except (OSError, ValueError, IndexError):
        return None
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return busy / ticks_per_s, nice / ticks_per_s


def throttled(proc: Path = PROC, cgroups: Path = CGROUPS) -> float:
    """Seconds that control groups' limits on CPU time held this process's groups back so far, summed over cores."""
    seconds = 0.0
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return 0.0
    for _, controllers, group in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / controllers if controllers else cgroups
        here = top / group.lstrip("/")
        for folder in {here, *here.parents} if here.is_relative_to(top) else ():
            if folder.is_relative_to(top):
                seconds += throttled_in(folder)
    return seconds


def throttled_in(folder: Path) -> float:
    """Seconds that one control group was held back; 0 where it has no limit."""
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}  # of version 2 and version 1
    try:
        pairs = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return sum(int(pairs[name]) * unit for name, unit in units.items() if name in pairs)
    except (OSError, ValueError):
        return 0.0


def read_counters() -> Counters | None:
    """The counters as they stand; None where the system does not keep them."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    waited, used = thread_waits(), core_use(os.sched_getaffinity(0))
    if waited is None or used is None:
        return None
    return Counters(time.monotonic(), time.process_time(), waited + throttled(), *used)


def load_between(before: Counters, after: Counters, own_nice: int = 0) -> Load:
    """The load between two readings, `after` at least some 0.1 s later: the cores' use is counted in ticks of 10 ms.

    `own_nice`: this process's nice value. Processes of lower priority hardly take cores from one of the usual
    priority, and do not count; a process of a lower priority itself has to share with all.
    """
    wall = after.at_s - before.at_s
    own = after.ran_s - before.ran_s
    waited = max(0.0, after.waited_s - before.waited_s)  # threads that ended took their counts along
    others = after.busy_s - before.busy_s - own
    if own_nice <= 0:
        others -= after.nice_s - before.nice_s
    return Load(wall, own / wall, waited / (own + waited) if own + waited > 0 else 0.0, max(0.0, others) / wall)
