"""A condition's own training data: fewer rows (`train_rows`), or labels that are partly wrong (`label_noise`).

Both are nested. Each row of the training split has three random numbers, drawn once from `data.seed`: one places it
among the rows that are kept, one among those whose label is replaced, one says by which label. So N rows are among
any larger number of them, and of the same rows those with a wrong label at 5% are among those at 10%, with the same
wrong label. Both orders are balanced over labels and, within a label, over `label_without_hidden`, as the split is.
"""

import numpy as np
import polars as pl

STREAM = 20  # of random numbers for `data.seed`; splits and suites have lower ones
CELL = ("label", "label_without_hidden")


def vary(
    train: pl.DataFrame, labels, *, rows: int | None, noise: float, seed: int, balanced: bool = True
) -> pl.DataFrame:
    """`rows` of the training split (None: all), in its order, the label of a share `noise` of them replaced.

    balanced: both are balanced as the split is; else, of a file of past decisions, both are drawn as labels come.

    A label is replaced by one of the other `labels`, all equally likely; the share is rounded to whole rows. All other
    columns, `fired_rule` among them, stay true.
    """
    draws = np.random.default_rng([seed, STREAM]).random((len(train), 3))
    frame = train.with_columns(
        pl.Series(name, draws[:, i]) for i, name in enumerate(["_keep", "_flip", "_other"])
    ).with_columns(_place=pl.int_range(pl.len()))
    order = balanced_order if balanced else pl.DataFrame.sort
    kept = order(frame, "_keep").head(len(train) if rows is None else rows).sort("_place")
    flipped = order(kept, "_flip").head(round(noise * len(kept)))["_place"]
    names = list(labels)
    own = pl.col("label").replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    other = (pl.col("_other") * (len(names) - 1)).floor().cast(pl.Int64)
    wrong = (other + (other >= own)).replace_strict(range(len(names)), names, return_dtype=pl.String)
    replaced = kept.with_columns(
        label=pl.when(pl.col("_place").is_in(flipped.implode())).then(wrong).otherwise("label")
    )
    return replaced.select(train.columns)


def balanced_order(frame: pl.DataFrame, draw: str) -> pl.DataFrame:
    """Rows by the random numbers of column `draw`, but so that every head is balanced.

    As long as no label runs out, any two labels' rows in a head differ by one at most, and so do those of a label over
    `label_without_hidden`.
    """
    return (
        frame.sort(draw)
        .with_columns(_in_cell=pl.int_range(pl.len()).over(CELL))
        .sort("_in_cell", draw)
        .with_columns(_in_label=pl.int_range(pl.len()).over("label"))
        .sort("_in_label", draw)
        .drop("_in_cell", "_in_label")
    )


def steps_a_pass(settings: dict, n_rows: int) -> int:
    """Optimizer steps of one pass over `n_rows` rows."""
    return max(1, -(-rows_a_pass(settings, n_rows) // settings["batch_size"]))


def rows_a_pass(settings: dict, n_rows: int) -> int:
    """Rows that one pass over `n_rows` rows trains on.

    The last batch may be smaller; methods that draw groups (TRL's sampler for GRPO) leave out the rows that fill no
    micro-batch, others in each pass.
    """
    return n_rows - n_rows % settings["micro_batch_size"] if "group_size" in settings else n_rows


def passes(settings: dict, n_rows: int) -> int:
    """The whole number of passes, one at least, whose steps come nearest to the setting `steps`."""
    return max(1, round(settings["steps"] / steps_a_pass(settings, n_rows)))
