"""How busy this machine is, as far as the system tells: Linux tells most, macOS its load average and CPU times."""

import os
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class ThreadTime:
    """Seconds that a thread was on a core, and that it was ready to run and had none."""

    ran_s: float
    waited_s: float


def thread_times() -> dict[int, ThreadTime] | None:
    """Of each thread of this process, by its number, since it began; None where the system does not tell."""
    times = {}
    try:
        for task in TASKS.iterdir():
            ran, waited, _ = (task / "schedstat").read_text().split()
            times[int(task.name)] = ThreadTime(int(ran) / 1e9, int(waited) / 1e9)
    except FileNotFoundError:  # no Linux, a kernel without the counters, or a thread that ended meanwhile
        return times or None
    except (OSError, ValueError):
        return None
    return times


def cpu_seconds() -> float:
    """User and system seconds of this process, and of its children that have ended."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def machine_cpu_seconds() -> float:
    """Seconds that all programs were on this machine's cores, since it was started."""
    times = psutil.cpu_times()
    return times.user + times.system + getattr(times, "nice", 0.0)


def load_average() -> float | None:
    """Threads that ran or were ready to run, a mean over about a minute; None where the system has no such number."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def n_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Usage:
    """What a stretch of a process took, in seconds; stretches add up."""

    wall_s: float = 0.0
    cpu_s: float = 0.0  # of the process and its children, user and system
    machine_cpu_s: float = 0.0  # of all programs
    ran_s: float | None = 0.0  # its threads on a core; None: the system does not tell
    waited_s: float | None = 0.0  # its threads ready to run, without a core

    def __add__(self, other: Self) -> "Usage":
        return Usage(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            self.machine_cpu_s + other.machine_cpu_s,
            None if self.ran_s is None or other.ran_s is None else self.ran_s + other.ran_s,
            None if self.waited_s is None or other.waited_s is None else self.waited_s + other.waited_s,
        )


@dataclass(frozen=True)
class Snapshot:
    """The clocks of this process and machine at one moment."""

    at: float = field(default_factory=time.perf_counter)
    cpu_s: float = field(default_factory=cpu_seconds)
    machine_cpu_s: float = field(default_factory=machine_cpu_seconds)
    threads: dict[int, ThreadTime] | None = field(default_factory=thread_times)
    load: float | None = field(default_factory=load_average)

    def usage(self) -> Usage:
        """What this process took from then to now; of its threads those count that still live."""
        now = Snapshot()
        ran = waited = None
        if now.threads is not None and self.threads is not None:
            before = {number: self.threads.get(number, ThreadTime(0.0, 0.0)) for number in now.threads}
            ran = sum(time.ran_s - before[number].ran_s for number, time in now.threads.items())
            waited = sum(time.waited_s - before[number].waited_s for number, time in now.threads.items())
        return Usage(now.at - self.at, now.cpu_s - self.cpu_s, now.machine_cpu_s - self.machine_cpu_s, ran, waited)
