"""Confusion matrices: how often each decision was answered where each decision was correct."""

from collections.abc import Mapping

import polars as pl

from hidden_rule.experiment.runs import Run

INVALID = "(invalid)"  # stands for replies that are no valid decision


def confusion_table(predictions: Mapping[Run, pl.LazyFrame], labels: list[str]) -> pl.DataFrame:
    """Counts over all seeds, and shares of each row of a matrix.

    Columns: `condition`, `suite`, `decoding`, `label`, `predicted` (INVALID where a reply is none), `n`, `share`; a row
    for each pair of label and answer, those that did not occur included.
    """
    frames = [
        answers.group_by("suite", "decoding", "label", pl.col("predicted").fill_null(INVALID))
        .agg(n=pl.len().cast(pl.Int64))
        .with_columns(condition=pl.lit(run.condition))
        .collect()
        for run, answers in predictions.items()
    ]
    keys = ["condition", "suite", "decoding", "label", "predicted"]
    counts = pl.concat(frames).group_by(keys).agg(pl.col("n").sum())
    grid = counts.select(keys[:3]).unique().join(pl.DataFrame({"label": labels}), how="cross")
    grid = grid.join(pl.DataFrame({"predicted": [*labels, INVALID]}), how="cross")
    full = grid.join(counts, on=keys, how="left").with_columns(pl.col("n").fill_null(0))
    return full.with_columns(share=pl.col("n") / pl.col("n").sum().over(keys[:4])).sort(keys)
