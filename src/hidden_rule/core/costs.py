"""What a stage of the pipeline cost, a row of COSTS."""

import re
import resource
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from hidden_rule.core.tables import COSTS, write_table


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
class Cost:
    """A row of COSTS; peak memory is this process's own unless it is given."""

    condition: str
    seed: int
    stage: str  # train | evaluate
    wall_s: float  # loading included
    n_tokens_trained: int = 0
    n_tokens_generated: int = 0
    peak_bytes: int = field(default_factory=peak_resident_bytes)
    device: str = "cpu"  # or the GPU's product name


def write_costs(path, *costs: Cost) -> None:
    """Write the table COSTS, a row each."""
    write_table(pl.DataFrame([asdict(cost) for cost in costs], schema=COSTS), path, COSTS)
