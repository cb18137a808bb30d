"""What a training or evaluation cost, a row of COSTS.

Wall seconds depend on what else the machine does meanwhile. So the row also estimates the seconds on an idle machine:
work that repeats (optimizer steps; batches of a validation or evaluation) counts with its kind's median seconds a
position, those in which its thread waited for a core left out (Linux), and of the rest (loading, checkpoints, files)
counts what the CPU took, where that is less than the wall seconds. Up to half of the steps may be disturbed without an
effect; if more are, the estimate is too high, since caches are shared and threads wait for each other. A training that
was resumed counts the steps up to its last checkpoint and those after it, once each, and one loading; steps that were
lost are in no number.

A run counts as disturbed if its repeated work took `EXCESS` more than its median says, or if its threads had no core
for `WAITING` of the time in which they had work. Without such counters (macOS) they are taken to lack a core where they
and other programs together want more cores than there are. Below `LEAST_S` seconds nothing is said.
"""

import re
import resource
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from hidden_rule.core.laps import STEP, Laps
from hidden_rule.core.tables import COSTS, read_table, write_table
from hidden_rule.core.usage import Snapshot, Usage, load_average, n_cores

EXCESS, WAITING, LEAST_S = 0.25, 0.15, 2.0
OLDER = pl.Schema(list(COSTS.items())[: COSTS.names().index("idle_s")])  # columns of tables before there were estimates


def peak_resident_bytes() -> int:
    """The most memory of this process that was resident at a time.

    On Linux from /proc: `ru_maxrss` would count the parent's memory at the fork as well.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB but on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass(frozen=True)
class Spent:
    """What a job took, over all processes that it was resumed in."""

    usage: Usage
    laps: Laps = field(default_factory=Laps)
    again: Usage = field(default_factory=Usage)  # loadings but the last: in `usage`, but in no new run
    load_start: float | None = None
    threads: int = 1  # that compute, of one process
    cpu_beside_s: float = 0.0  # of the job's other processes

    @classmethod
    def since(cls, begun: Snapshot, laps: Laps | None = None, threads: int = 1) -> "Spent":
        """What this process took since a moment."""
        return cls(begun.usage(), laps or Laps(), load_start=begun.load, threads=threads)

    @property
    def idle_s(self) -> float:
        """Seconds of a new run on an idle machine, an estimate: see the module's docstring."""
        rest = self.usage.wall_s - self.again.wall_s - self.laps.seconds
        rest_cpu = self.usage.cpu_s - self.again.cpu_s - self.laps.cpu_s
        return self.laps.undisturbed_s + max(0.0, min(rest, rest_cpu))

    @property
    def waited_share(self) -> float | None:
        """Of the time in which the threads had work, the share without a core; None where the system does not tell."""
        ran, waited = self.usage.ran_s, self.usage.waited_s
        return None if waited is None or ran + waited <= 0 else waited / (ran + waited)

    @property
    def crowded_share(self) -> float:
        """Of the computing threads, the share for which other programs leave no core, a mean; a bound from above."""
        others_s = max(0.0, self.usage.machine_cpu_s - self.usage.cpu_s - self.cpu_beside_s)
        others = others_s / max(self.usage.wall_s, 1e-9)
        return min(1.0, max(0.0, others + self.threads - n_cores()) / self.threads)

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs took so much of the machine that wall seconds are not comparable."""
        excess = self.laps.seconds - self.laps.undisturbed_s
        waited = self.crowded_share if self.waited_share is None else self.waited_share
        return (excess > LEAST_S and excess > EXCESS * self.laps.undisturbed_s) or (
            waited > WAITING and waited * self.usage.wall_s > LEAST_S
        )


@dataclass(frozen=True)
class Cost:
    """A row of COSTS without what `Spent` says; peak memory is this process's own unless it is given."""

    condition: str
    seed: int
    stage: str  # train | evaluate
    n_tokens_trained: int = 0
    n_tokens_generated: int = 0
    peak_bytes: int = field(default_factory=peak_resident_bytes)
    device: str = "cpu"  # or the GPU's product name
    n_gpus: int = 0
    n_positions: int | None = None
    flops: float | None = None

    def row(self, spent: Spent) -> dict:
        """The row of COSTS."""
        values, wall_s, n_steps = asdict(self), spent.usage.wall_s, spent.laps.count(STEP)
        n_gpus = values.pop("n_gpus")
        return values | {
            "wall_s": wall_s,
            "idle_s": spent.idle_s,
            "n_steps": n_steps or None,
            "step_s": spent.laps.typical_s(STEP),
            "cpu_s": spent.usage.cpu_s + spent.cpu_beside_s,
            "gpu_s": wall_s * n_gpus,
            "load_start": spent.load_start,
            "load_end": load_average(),
            "cores": n_cores(),
            "waited_share": spent.waited_share,
            "is_disturbed": spent.is_disturbed,
        }


def write_costs(path, *rows: dict) -> None:
    """Write the table COSTS, of `Cost.row`s."""
    write_table(pl.DataFrame(list(rows), schema=COSTS), path, COSTS)


def read_costs(path) -> pl.DataFrame:
    """The table COSTS of a file; in one written before there were estimates they are null."""
    frame = read_table(path)
    if frame.schema == OLDER:
        return with_nulls(frame)
    return read_table(path, COSTS)


def with_nulls(frame: pl.DataFrame) -> pl.DataFrame:
    """A table with the columns of COSTS; those that it lacks are null."""
    missing = {name: dtype for name, dtype in COSTS.items() if name not in frame.columns}
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in missing.items()).select(COSTS.names())
