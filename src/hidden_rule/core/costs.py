"""What a stage of the pipeline cost, a row of COSTS."""

import resource
import sys
import time

import polars as pl

from hidden_rule.core.tables import COSTS


def peak_resident_bytes() -> int:
    """The most memory of this process that was resident at a time."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB but on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cost_frame(
    *, condition, seed, stage, began, device="cpu", peak_bytes=None, n_tokens_trained=0, n_tokens_generated=0
) -> pl.DataFrame:
    """One row; `began`: the `time.perf_counter()` of its start; `peak_bytes`: if not of this process's own memory."""
    row = {
        "condition": condition,
        "seed": seed,
        "stage": stage,
        "wall_s": time.perf_counter() - began,
        "n_tokens_trained": n_tokens_trained,
        "n_tokens_generated": n_tokens_generated,
        "peak_bytes": peak_resident_bytes() if peak_bytes is None else peak_bytes,
        "device": device,
    }
    return pl.DataFrame([row], schema=COSTS)
