"""How each run answered each application, read from prediction tables into small integer codes."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import REBUILD, predictions_schema, scan_table
from hidden_rule.experiment.runs import Run, Setting

CELL = ["label", "predicted", "fired_rule", "label_without_hidden"]  # all that a metric depends on
TRUTH = ["label", "fired_rule", "label_without_hidden"]  # of an application, whatever is answered


@dataclass(frozen=True)
class Outcomes:
    """One setting, answered by several conditions and seeds.

    cells: a row for each distinct combination of the CELL columns that occurs.
    ids: (N,) the applications' identifiers, ascending.
    codes: for each condition {seed: (N,) row numbers of `cells`}, applications in the order of `ids`.
    """

    setting: Setting
    cells: pl.DataFrame
    ids: np.ndarray
    codes: dict[str, dict[int, np.ndarray]]


def scan_predictions(path, labels) -> pl.LazyFrame:
    """A prediction table, unread; a table that is damaged or of another schema is a UserError."""
    return scan_table(path, predictions_schema(list(labels)))


def load_outcomes(
    predictions: Mapping[Run, object], labels, settings: Collection[Setting] | None = None
) -> Iterator[Outcomes]:
    """Yield the Outcomes of each setting, or of those in `settings`, in the order of their names.

    predictions: the path of each run's prediction table. An application that occurs twice, or tables that do not hold
    the same applications with the same truth, are a UserError: the runs could not be compared.
    """
    scans = {run: scan_table(path, predictions_schema(list(labels))) for run, path in predictions.items()}
    kinds = ["suite", "decoding", *CELL]
    parts = {run: scan.select(kinds).unique().collect() for run, scan in scans.items()}
    everything = pl.concat(parts.values()).unique().sort(kinds, nulls_last=True)
    for setting, cells in everything.group_by(["suite", "decoding"], maintain_order=True):
        setting = Setting(*setting)
        if settings is not None and setting not in settings:
            continue
        cells = cells.select(CELL).with_columns(code=pl.int_range(pl.len(), dtype=pl.UInt32))
        truth = cells.select(pl.struct(TRUTH).rank("dense")).to_series().to_numpy()
        codes: dict[str, dict[int, np.ndarray]] = {}
        tables: list[_Table] = []
        for run, path in predictions.items():
            if parts[run].filter(**setting.columns).is_empty():
                continue
            ids, of_run = _codes(scans[run], cells, setting)
            if (repeated := ids[1:][ids[1:] == ids[:-1]]).size:
                raise UserError(path, ", ".join(setting), f"application_id {repeated[0]} occurs twice", REBUILD)
            tables.append(_Table(path, ids, truth[of_run]))
            _check_same(tables[-1], tables[0], ", ".join(setting))
            codes.setdefault(run.condition, {})[run.seed] = of_run
        yield Outcomes(setting, cells.select(CELL), tables[0].ids, codes)


@dataclass(frozen=True)
class _Table:
    """What one prediction table says of the applications of a setting."""

    path: object
    ids: np.ndarray  # (N,) ascending
    truth: np.ndarray  # (N,) rank of the TRUTH columns' values


def _codes(scan: pl.LazyFrame, cells: pl.DataFrame, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Application ids in ascending order, and the code of each one's cell."""
    frame = (
        scan.filter(**setting.columns)
        .select("application_id", *CELL)
        .join(cells.lazy(), on=CELL, nulls_equal=True, how="inner")
        .select("application_id", "code")
        .sort("application_id")
        .collect()
    )
    return frame["application_id"].to_numpy(), frame["code"].to_numpy()


def _check_same(table: _Table, reference: _Table, where: str) -> None:
    """Raise a UserError unless `table` has the same applications as `reference`, and the same truth about them."""
    if not np.array_equal(table.ids, reference.ids):
        differing = np.setxor1d(table.ids, reference.ids)
        fault = f"{len(differing)} cases differ from those in {reference.path} (one is {differing[0]})"
        raise UserError(table.path, where, fault, REBUILD)
    if (other := np.flatnonzero(table.truth != reference.truth)).size:
        fault = f"application_id {table.ids[other[0]]} has another truth than in {reference.path}"
        raise UserError(table.path, where, fault, REBUILD)


def count_patterns(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of S columns of N integers, sorted: patterns (P, S) and how often each occurs (P,)."""
    names = [f"seed_{s}" for s in range(len(columns))]
    grouped = pl.DataFrame(dict(zip(names, columns, strict=True))).group_by(names).len().sort(names)
    return grouped.select(names).to_numpy().astype(np.int64), grouped["len"].to_numpy().astype(np.int64)
