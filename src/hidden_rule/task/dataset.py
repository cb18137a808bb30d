"""Balanced splits of applications: as many of one label as of another, none in two splits.

Within a label, rows are spread equally over `label_without_hidden` as far as such applications can be found, so that a
hidden label covers every profile that the other rules distinguish. Each split has a random stream of its own.
"""

from functools import reduce
from typing import TypeVar

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import read_table

SPLITS = ("train", "validation", "test", "holdout")  # the order of the identifiers
DRAWING_ORDER = ("test", "holdout", "validation", "train")  # a larger training split leaves the others as they are
ID_BLOCK = 10_000_000  # identifiers set aside for each split; also the largest split
MIN_ROUNDS, MAX_ROUNDS = 8, 60  # of drawing; rare profiles are waited for until MIN_ROUNDS, labels until MAX_ROUNDS
STALE_ROUNDS = 20  # after so many without a new application there are no more, or too few to wait for
CELL = ("label", "label_without_hidden")
Cell = TypeVar("Cell", tuple, str)


def dataset_schema(ruleset) -> pl.Schema:
    """Columns of a split."""
    return pl.Schema(
        {
            "application_id": pl.Int64(),
            **ruleset.feature_schema,
            "label": pl.String(),
            "fired_rule": pl.String(),
            "label_without_hidden": pl.String(),
        }
    )


def read_split(path, ruleset) -> pl.DataFrame:
    """Read a split that was made from `ruleset`; raises UserError for a damaged or foreign file."""
    return read_table(path, dataset_schema(ruleset))


def suites_schema(ruleset) -> pl.Schema:
    """Columns of the table of suites; a row an application, the rows of a family one after the other.

    `family` is the identifier of its first row, which the others are compared with. `shown_text` replaces the value of
    `shown_feature` in the prompt; `field_order` is the order of the features there (null: as declared).
    """
    split = dataset_schema(ruleset)
    return pl.Schema(
        {
            "application_id": split.pop("application_id"),
            "suite": pl.String(),
            "family": pl.Int64(),
            "role": pl.String(),
            **split,
            "shown_feature": pl.String(),
            "shown_text": pl.String(),
            "field_order": pl.List(pl.String()),
        }
    )


def read_suites(path, ruleset) -> pl.DataFrame:
    """Read suites that were made from `ruleset`; raises UserError for a damaged or foreign file."""
    return read_table(path, suites_schema(ruleset))


def named_frames(splits, ruleset) -> list[tuple[str, str, pl.DataFrame]]:
    """Name in the settings, suite and applications of each split, and of each suite in the table of suites.

    splits: the parquet file of each split by its name, and of all suites by `suites`.
    """
    frames = []
    for name, path in splits.items():
        if name == "suites":
            by_suite = read_suites(path, ruleset).partition_by("suite", maintain_order=True)
            frames += [(name, frame["suite"][0], frame) for frame in by_suite]
        else:
            frames.append((name, name, read_split(path, ruleset)))
    return frames


def draw_splits(ruleset, sizes: dict[str, int], seed: int, source="ruleset") -> dict[str, pl.DataFrame]:
    """A table for each of SPLITS with `sizes[split]` applications; `source` names the ruleset in errors.

    The same arguments give the same tables. A split's size hardly matters to the others: at most, an application that
    a split now holds is replaced in those drawn after it.
    """
    taken: pl.DataFrame | None = None
    splits: dict[str, pl.DataFrame] = {}
    for name in DRAWING_ORDER:
        rng = np.random.default_rng([seed, SPLITS.index(name)])
        frame = _draw_split(ruleset, name, sizes[name], rng, taken, source)
        applications = frame.select(ruleset.feature_names)
        taken = applications if taken is None else pl.concat([taken, applications])
        first_id = SPLITS.index(name) * ID_BLOCK
        ids = pl.int_range(first_id, first_id + len(frame), dtype=pl.Int64, eager=True)
        splits[name] = frame.insert_column(0, ids.alias("application_id"))
    if taken is not None and taken.is_duplicated().any():
        raise AssertionError("an application stands in two splits")
    return {name: splits[name] for name in SPLITS}


def _draw_split(ruleset, name: str, size: int, rng, taken: pl.DataFrame | None, source) -> pl.DataFrame:
    """`size` distinct applications that are not in `taken`, balanced, in random order."""
    features = list(ruleset.feature_names)
    wanted = _shares(size, ruleset.labels, rng)
    pool: list[pl.DataFrame] = []
    kept: dict[tuple, int] = {}
    for round_number in range(MAX_ROUNDS):
        drawn = ruleset.decide(ruleset.draw(max(20_000, min(2 * size, 1_000_000)), rng))
        full = [cell for cell, n in kept.items() if n >= wanted[cell[0]]]
        if full:  # no cell needs more rows than its whole label
            drawn = drawn.join(
                pl.DataFrame(full, schema=CELL, orient="row"), on=CELL, how="anti", maintain_order="left"
            )
        for seen in [taken, *pool]:
            if seen is not None:
                drawn = drawn.join(seen, on=features, how="anti", maintain_order="left")
        pool.append(drawn.unique(subset=features, keep="first", maintain_order=True))
        if len(pool) > STALE_ROUNDS and sum(map(len, pool[-STALE_ROUNDS:])) == 0:
            break
        kept = _add(kept, pool[-1])
        quotas = {
            label: fill_equally(wanted[label], {c: n for c, n in kept.items() if c[0] == label}) for label in wanted
        }
        if all(quotas.values()):
            even = all(max(quota.values()) - min(quota.values()) <= 1 for quota in quotas.values())
            if even or round_number + 1 >= MIN_ROUNDS:
                break
    for label, quota in quotas.items():
        if not quota:
            found = sum(n for cell, n in kept.items() if cell[0] == label)
            fault = (
                f"data.{name} needs {wanted[label]} {ruleset.case.many} decided {label}, "
                f"and only {found} distinct ones exist"
            )
            raise UserError(source, "features", fault, f"lower data.{name}, or widen the features that lead to {label}")
    quota = reduce(dict.__or__, quotas.values())
    limits = pl.DataFrame([(*cell, n) for cell, n in quota.items()], schema=[*CELL, "_quota"], orient="row")
    chosen = (
        pl.concat(pool)
        .join(limits, on=CELL, how="left", maintain_order="left")
        .filter(pl.int_range(pl.len()).over(CELL) < pl.col("_quota"))
        .drop("_quota")
    )
    return chosen[rng.permutation(len(chosen))].select([*features, "label", "fired_rule", "label_without_hidden"])


def _shares(size: int, labels, rng) -> dict[str, int]:
    """`size` divided over `labels`, at most one apart; chance decides which labels get one more."""
    extra = set(rng.permutation(len(labels))[: size % len(labels)].tolist())
    return {label: size // len(labels) + (i in extra) for i, label in enumerate(labels)}


def _add(kept: dict[tuple, int], frame: pl.DataFrame) -> dict[tuple, int]:
    """Rows a cell so far, in a fixed order."""
    counts = dict(kept)
    for label, without_hidden, n in frame.group_by(CELL).len().iter_rows():
        counts[(label, without_hidden)] = counts.get((label, without_hidden), 0) + n
    return dict(sorted(counts.items()))


def fill_equally(total: int, available: dict[Cell, int]) -> dict[Cell, int]:
    """`total` divided over cells as equally as what is available allows; empty if there is too little of it."""
    if sum(available.values()) < total:
        return {}
    quota: dict[Cell, int] = {}
    left = total
    scarce_first = sorted(available, key=lambda cell: (available[cell], cell))
    for i, cell in enumerate(scarce_first):
        quota[cell] = min(available[cell], left // (len(scarce_first) - i))
        left -= quota[cell]
    return quota
