"""Seconds of work that repeats: what it took, and what it would have taken without disturbed stretches."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from hidden_rule.core.usage import Usage, cpu_seconds, waited_seconds

STEP = "step"  # the kind of laps that are optimizer steps
KEPT = "kept"  # of those that compute what frozen layers make of a training's rows


@dataclass(frozen=True)
class Lap:
    """One piece of work."""

    kind: str  # laps of one kind take alike long a unit
    seconds: float
    cpu_s: float
    units: float = 1.0  # of work: positions, calls; above 0
    waited_s: float = 0.0  # that its thread was ready to run and had no core
    elsewhere: bool = False  # done by another job, for this one and others

    @property
    def ran_s(self) -> float:
        """Seconds without those that its thread waited for a core."""
        return max(0.0, self.seconds - self.waited_s)

    @property
    def rate(self) -> float:
        """The same a unit."""
        return self.ran_s / self.units

    def part(self, share: float) -> "Lap":
        """A share of it, above 0, which another job makes use of."""
        numbers = {name: share * getattr(self, name) for name in ("seconds", "cpu_s", "units", "waited_s")}
        return replace(self, elsewhere=True, **numbers)


class Laps:
    """The laps of a job so far."""

    def __init__(self, laps: list[dict] | None = None):
        self.laps = [Lap(**lap) for lap in laps or []]
        self.mark()

    def as_json(self) -> list[dict]:
        """The laps as JSON values, which `Laps` takes."""
        return [asdict(lap) for lap in self.laps]

    def mark(self) -> None:
        """Let the next lap that `end` closes begin now."""
        self._began = time.perf_counter(), cpu_seconds(), waited_seconds()

    def end(self, kind: str, units: float = 1.0) -> None:
        """Close a lap that began with the last `mark` or `end`."""
        before = self._began
        self.mark()
        if units > 0:
            seconds, cpu_s, waited_s = (now - then for now, then in zip(self._began, before, strict=True))
            self.laps.append(Lap(kind, seconds, cpu_s, units, waited_s))

    @contextlib.contextmanager
    def within(self, kind: str, units) -> Iterator[None]:
        """A lap of its own; `units()`: a count before and after, whose difference is the lap's units."""
        before = units()
        self.mark()
        yield
        self.end(kind, units() - before)

    @property
    def seconds(self) -> float:
        return sum(lap.seconds for lap in self.laps)

    @property
    def cpu_s(self) -> float:
        return sum(lap.cpu_s for lap in self.laps)

    def rates(self) -> dict[str, float]:
        """Median seconds a unit, by kind, without those of waiting for a core."""
        kinds: dict[str, list[float]] = {}
        for lap in self.laps:
            kinds.setdefault(lap.kind, []).append(lap.rate)
        return {kind: statistics.median(rates) for kind, rates in kinds.items()}

    def typical_s(self, kind: str) -> float | None:
        """Median seconds of a lap of a kind, without those of waiting for a core; None without one."""
        seconds = [lap.ran_s for lap in self.laps if lap.kind == kind]
        return statistics.median(seconds) if seconds else None

    @property
    def undisturbed_s(self) -> float:
        """Seconds of all laps at their kind's median rate: up to half of the laps may have been disturbed."""
        rates = self.rates()
        return sum(rates[lap.kind] * lap.units for lap in self.laps)

    @property
    def elsewhere(self) -> Usage:
        """What laps that another job did took of it: this job's own clocks know nothing of them."""
        laps = [lap for lap in self.laps if lap.elsewhere]
        seconds, cpu_s, waited_s = (
            sum(getattr(lap, name) for lap in laps) for name in ("seconds", "cpu_s", "waited_s")
        )
        return Usage(seconds, cpu_s, cpu_s, cpu_s, waited_s)

    def count(self, kind: str) -> int:
        return sum(lap.kind == kind for lap in self.laps)
