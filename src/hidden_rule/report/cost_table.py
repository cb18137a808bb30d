"""The report's table of costs, and what it says beneath it."""

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.tables import gibibytes, order_of, table
from hidden_rule.report.text.phrases import duration, money, operations
from hidden_rule.report.text.training_cost import busy_sentences, price_of
from hidden_rule.statistics.training_costs import idle_or_wall

SUMS = ("seconds", "wall_s", "cpu_s", "gpu_s", "n_steps", "n_tokens_trained", "n_tokens_generated", "flops")
ESTIMATED = (
    "On an idle machine: what a new run takes with as many CPU threads as each job had (CPU time by wall time), an "
    "estimate from the median rates of optimizer steps and of evaluated batches; wall time is what this run took. CPU "
    "time: user and system, of all its threads. All three hold a training's share of what was computed once for all "
    "trainings. Operations: an estimate from the positions computed. Busy: runs in which other work slowed the machine "
    "down."
)
MEASURED = "Wall time of each process, model loading included."


def cost_table(results: Results) -> dict:
    """What each condition cost over all its seeds; peak memory is the largest of them.

    Columns without a number in any row are left out.
    """
    costs = results.costs.with_columns(idle_or_wall())
    sums = costs.group_by("condition", "stage").agg(
        *(pl.col(name).sum() for name in SUMS),
        pl.len(),
        pl.median("step_s"),
        pl.max("peak_bytes"),
        pl.col("idle_s").null_count().alias("unknown"),
        pl.col("is_disturbed").sum().alias("busy"),
        pl.col("device").unique().sort().str.join(", "),
    )
    price = results.config.get("price_per_hour")
    rows = [
        cells(row, price)
        for name in order_of(results)
        for row in sums.filter(condition=name).sort("stage", descending=True).iter_rows(named=True)
    ]
    columns = [name for name in rows[0] if any(row[name] for row in rows)] if rows else ["condition"]
    shown = [[row[name] or "–" for name in columns] for row in rows]
    caption = "Cost of each stage, summed over runs; training without that of the conditions it starts from"
    return table(caption, columns, shown)


def cells(row: dict, price_per_hour: float | None) -> dict[str, str]:
    """The cells of one condition and stage by their columns; empty where there is no number."""
    known = not row["unknown"]
    price = price_of(row["seconds"], price_per_hour)
    return {
        "condition": row["condition"],
        "stage": row["stage"],
        "runs": str(row["len"]),
        "on an idle machine": duration(row["seconds"]) if known else "",
        "price": "" if price is None else money(price),
        "wall time": duration(row["wall_s"]),
        "steps": f"{row['n_steps']:,} × {row['step_s']:.2g} s" if row["n_steps"] else "",
        "CPU time": duration(row["cpu_s"]) if known else "",
        "GPU time": duration(row["gpu_s"]) if row["gpu_s"] else "",
        "training tokens": f"{row['n_tokens_trained'] or 0:,}",
        "tokens generated": f"{row['n_tokens_generated'] or 0:,}",
        "operations": operations(row["flops"]) if row["flops"] else "",
        "peak memory": gibibytes(row["peak_bytes"]) if row["peak_bytes"] else "",
        "device": row["device"],
        "busy": f"{row['busy']} of {row['len']}" if row["busy"] else "",
    }


def cost_notes(results: Results) -> list[str]:
    """What the numbers of the table are."""
    price = results.config.get("price_per_hour")
    notes = [MEASURED if results.costs["idle_s"].null_count() else ESTIMATED, *busy_sentences(results.costs)]
    if price is not None:
        notes.append(f"Price: at {money(price)} an hour, for a machine that runs one job at a time.")
    return [*notes, "Training costs in sentences, tiles and scorecard include the starting conditions."]
