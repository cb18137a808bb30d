"""Curves over the steps of trainings: validation accuracy averaged over seeds, and all recorded metrics, thinned."""

from collections.abc import Mapping

import polars as pl
from scipy import stats

from hidden_rule.core.tables import HISTORY
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.intervals import CONFIDENCE

MAX_POINTS = 100  # of a curve: longer ones are averaged over windows of steps
CURVES = pl.Schema(
    {
        "condition": pl.String,
        "step": pl.Int64,
        "value": pl.Float64,  # mean validation accuracy over seeds
        "low": pl.Float64,  # its 95% interval (Student's t over seeds), clipped to 0 and 1; null with one seed
        "high": pl.Float64,
        "wall_s": pl.Float64,  # mean training time over seeds, that of its starts included
        "n_seeds": pl.Int64,
    }
)


def learning_curves(histories: Mapping[Run, pl.DataFrame], seconds_before: Mapping[str, float]) -> pl.DataFrame:
    """Mean validation accuracy of each condition over its seeds: table CURVES, a row a condition and step.

    histories: table HISTORY of each run; seconds_before: by condition, the training time of what it starts from. Steps
    are those of the seed that was trained longest; a seed that stopped early keeps its last value.
    """
    by_condition: dict[str, list[pl.DataFrame]] = {}
    for run, history in histories.items():
        frame = history.filter(metric="validation_accuracy").select("step", "wall_s", "value").sort("step")
        if frame.height:
            by_condition.setdefault(run.condition, []).append(frame)
    rows = []
    for name, frames in by_condition.items():
        grid = max(frames, key=lambda frame: frame["step"][-1]).select("step")
        at_steps = pl.concat(grid.join_asof(frame, on="step") for frame in frames).drop_nulls("value")
        for (step,), here in at_steps.group_by("step", maintain_order=True):
            low, high = mean_interval(here["value"])
            value, wall_s = here.select(pl.mean("value", "wall_s")).row(0)
            rows.append((name, step, value, low, high, wall_s + seconds_before.get(name, 0.0), here.height))
    return pl.DataFrame(rows, schema=CURVES, orient="row").sort("condition", "step")


def mean_interval(shares: pl.Series) -> tuple[float | None, float | None]:
    """Student's 95% interval of a mean of shares, clipped to 0 and 1; of a single share there is none."""
    values = shares.to_numpy()
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return None, None
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * float(values.std(ddof=1)) / n**0.5
    return max(0.0, mean - half), min(1.0, mean + half)


def training_curves(histories: Mapping[Run, pl.DataFrame]) -> pl.DataFrame:
    """All metrics of all histories, each curve of more than MAX_POINTS steps averaged over windows of steps.

    Columns: `condition`, `seed`, `method`, `metric`, `label`, `window` (steps averaged in a point), `step` (the last
    one of them), `value`.
    """
    schema = HISTORY | {"condition": pl.String, "seed": pl.Int64, "method": pl.String}
    frames = [pl.DataFrame(schema=schema)] + [
        history.with_columns(
            condition=pl.lit(run.condition), seed=pl.lit(run.seed, dtype=pl.Int64), method=pl.lit(run.method)
        )
        for run, history in histories.items()
    ]
    keys = ["condition", "seed", "method", "metric", "label"]
    window = ((pl.col("step").n_unique().over(keys) + MAX_POINTS - 1) // MAX_POINTS).cast(pl.Int64)
    rank = pl.col("step").rank("dense").over(keys).cast(pl.Int64) - 1
    thinned = (
        pl.concat(frames)
        .group_by(*keys, window=window, bin=rank // window)
        .agg(pl.col("step").max(), pl.col("value").mean())
    )
    return thinned.drop("bin").sort(*keys, "step")
