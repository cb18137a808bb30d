"""What each condition and seed made of each application, read from prediction tables into small integer codes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import seal_holds
from hidden_rule.core.tables import REBUILD, predictions_schema, read_table

CELL = ["label", "predicted", "fired_rule", "label_without_hidden"]  # all that any metric looks at
TRUTH = ["label", "fired_rule", "label_without_hidden"]  # the same for an application whoever answers


@dataclass(frozen=True)
class Outcomes:
    """One suite under one decoding, answered by several conditions and seeds.

    cells: a row for each distinct combination of the CELL columns that occurs.
    ids: (N,) the applications' identifiers, ascending.
    codes: for each condition {seed: (N,) row numbers of `cells`}, applications in the order of `ids`.
    """

    suite: str
    decoding: str
    cells: pl.DataFrame
    ids: np.ndarray
    codes: dict[str, dict[int, np.ndarray]]


def scan_predictions(path, labels) -> pl.LazyFrame:
    """A prediction table, unread; a table that is damaged or of another schema is a UserError."""
    schema = predictions_schema(list(labels))
    try:
        as_declared = seal_holds(path) and pl.scan_parquet(path).collect_schema() == schema
    except (pl.exceptions.PolarsError, OSError):
        as_declared = False
    if not as_declared:
        read_table(path, schema)  # raises, and says what is wrong
    return pl.scan_parquet(path)


def load_outcomes(paths, jobs, labels) -> Iterator[Outcomes]:
    """Yield the Outcomes of each suite and decoding, in the order of their names.

    paths: prediction tables; jobs: their [condition, seed] in the same order. An application that occurs twice, or
    tables that do not hold the same applications with the same truth, are a UserError: nothing would be comparable.
    """
    scans = [scan_predictions(path, labels) for path in paths]
    kinds = ["suite", "decoding", *CELL]
    parts = [scan.select(kinds).unique().collect() for scan in scans]
    everything = pl.concat(parts).unique().sort(kinds, nulls_last=True)
    for (suite, decoding), cells in everything.group_by(["suite", "decoding"], maintain_order=True):
        cells = cells.select(CELL).with_columns(code=pl.int_range(pl.len(), dtype=pl.UInt32))
        truth = cells.select(pl.struct(TRUTH).rank("dense")).to_series().to_numpy()
        codes: dict[str, dict[int, np.ndarray]] = {}
        reference = None
        for path, (condition, seed), scan, part in zip(paths, jobs, scans, parts, strict=True):
            if part.filter(suite=suite, decoding=decoding).is_empty():
                continue
            ids, of_seed = _codes(scan, cells, suite, decoding)
            if (repeated := ids[1:][ids[1:] == ids[:-1]]).size:
                raise UserError(path, f"{suite}, {decoding}", f"application {repeated[0]} occurs twice", REBUILD)
            reference = reference or (path, ids, truth[of_seed])
            _check_same(path, reference, ids, truth[of_seed], f"{suite}, {decoding}")
            codes.setdefault(condition, {})[seed] = of_seed
        yield Outcomes(suite, decoding, cells.select(CELL), reference[1], codes)


def _codes(scan: pl.LazyFrame, cells: pl.DataFrame, suite: str, decoding: str) -> tuple[np.ndarray, np.ndarray]:
    """Application ids in ascending order, and the code of each one's cell."""
    frame = (
        scan.filter(suite=suite, decoding=decoding)
        .select("application_id", *CELL)
        .join(cells.lazy(), on=CELL, nulls_equal=True, how="inner")
        .select("application_id", "code")
        .sort("application_id")
        .collect()
    )
    return frame["application_id"].to_numpy(), frame["code"].to_numpy()


def _check_same(path, reference, ids, truth, where) -> None:
    """Raise a UserError unless this table has the applications, and their truth, of the first one."""
    first, first_ids, first_truth = reference
    if not np.array_equal(ids, first_ids):
        differing = np.setxor1d(ids, first_ids)
        raise UserError(
            path, where, f"{len(differing)} applications differ from those in {first} (one is {differing[0]})", REBUILD
        )
    if (other := np.flatnonzero(truth != first_truth)).size:
        raise UserError(path, where, f"application {ids[other[0]]} has another truth than in {first}", REBUILD)


def count_patterns(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of S columns of N integers, sorted: patterns (P, S) and how often each occurs (P,)."""
    names = [f"seed_{s}" for s in range(len(columns))]
    grouped = pl.DataFrame(dict(zip(names, columns, strict=True))).group_by(names).len().sort(names)
    return grouped.select(names).to_numpy().astype(np.int64), grouped["len"].to_numpy().astype(np.int64)
