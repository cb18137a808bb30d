"""What a stretch of this process took: wall and CPU seconds, and how long its threads waited for a core."""

import os
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hidden_rule.core.load import thread_waits

THREAD = Path("/proc/thread-self/schedstat")


def cpu_seconds() -> float:
    """User and system seconds of this process, and of its children that have ended."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def waited_seconds() -> float:
    """Seconds that the calling thread was ready to run and had no core; 0 where the system does not tell."""
    try:
        return int(THREAD.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


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
    ran_s: float = 0.0  # of the process alone
    waited_s: float | None = 0.0  # its threads ready to run, without a core; None: the system does not tell

    def __add__(self, other: "Usage") -> "Usage":
        unknown = self.waited_s is None or other.waited_s is None
        return Usage(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            self.machine_cpu_s + other.machine_cpu_s,
            self.ran_s + other.ran_s,
            None if unknown else (self.waited_s or 0.0) + (other.waited_s or 0.0),
        )


@dataclass(frozen=True)
class Snapshot:
    """The clocks of this process and machine at one moment."""

    at: float = field(default_factory=time.perf_counter)
    cpu_s: float = field(default_factory=cpu_seconds)
    machine_cpu_s: float = field(default_factory=machine_cpu_seconds)
    ran_s: float = field(default_factory=time.process_time)
    waited_s: float | None = field(default_factory=thread_waits)
    load: float | None = field(default_factory=load_average)

    def usage(self) -> Usage:
        """What this process took from then to now; what threads waited that have ended since is not known."""
        now = Snapshot()
        waited = None if now.waited_s is None or self.waited_s is None else max(0.0, now.waited_s - self.waited_s)
        took = (now.at - self.at, now.cpu_s - self.cpu_s, now.machine_cpu_s - self.machine_cpu_s)
        return Usage(*took, now.ran_s - self.ran_s, waited)
