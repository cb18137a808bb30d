"""What a file of cases holds that its owner may not know: repeats, contradictions, columns that give labels away."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.task.cases.columns import Column
from hidden_rule.task.cases.files import ROW, CaseFile
from hidden_rule.task.cases.labels import Labels

CASE = "\x00case"  # a number that equal cases share
SAMPLE = 20_000  # cases that are looked at for what one column tells
GIVES_AWAY = 0.05  # of the errors of always giving the most frequent label: what a column alone may leave
RARE = 20  # cases of a label, below which little can be said about it


@dataclass(frozen=True)
class Repeats:
    """Equal cases: texts count as equal whatever their blanks and case."""

    n_cases: int
    n_distinct: int
    n_contradicted: int  # cases of which an equal one has another label
    best_accuracy: float  # of answering each case with the most frequent label of its equals: nobody can do better


def case_numbers(columns: list[Column]) -> pl.Expr:
    """A number for each case that equal cases share (a hash of 64 bits of all values)."""
    parts = []
    for i, column in enumerate(columns):
        values = column.values
        if column.kind in ("text", "choice"):
            values = values.str.to_lowercase().str.replace_all(r"\s+", " ")
        parts.append(values.alias(str(i)))
    return pl.struct(parts).hash(seed=0).alias(CASE) if parts else pl.col(ROW).cast(pl.UInt64).alias(CASE)


def repeats(cases: pl.DataFrame) -> Repeats:
    """Of a table with CASE and `label`."""
    counted = cases.group_by(CASE, "label").len().group_by(CASE).agg(n=pl.col("len").sum(), most=pl.col("len").max())
    torn = counted.filter(pl.col("n") > pl.col("most"))
    return Repeats(len(cases), len(counted), int(torn["n"].sum()), float(counted["most"].sum() / max(1, len(cases))))


def label_lines(labels: Labels, n_rows: int) -> list[str]:
    """How many cases have each label, and what that means."""
    shares = ", ".join(f"{label} {n:,} ({n / n_rows:.1%})" for label, n in labels.counts.items())
    lines = [f"labels ({labels.column}): {shares}"]
    most = next(iter(labels.counts))
    lines.append(f"always answering {most} is right for {labels.counts[most] / n_rows:.1%}")
    rare = [f"{label} ({n})" for label, n in labels.counts.items() if n < RARE]
    if rare:
        lines.append(f"few cases of {', '.join(rare)}: what is measured on them will be uncertain")
    return lines


def repeat_lines(found: Repeats) -> list[str]:
    lines = []
    if n := found.n_cases - found.n_distinct:
        lines.append(f"{n:,} of {found.n_cases:,} cases repeat another one")
    if found.n_contradicted:
        lines.append(
            f"{found.n_contradicted:,} cases have an equal one with another label: "
            f"nobody can be right for more than {found.best_accuracy:.1%}"
        )
    return lines


def tell_tales(file: CaseFile, columns: list[Column], labels: Labels, seed: int = 0) -> list[tuple[str, float]]:
    """Columns that alone give the label of nearly every case, with the share of cases: does it follow the decision?

    Each column is judged on half of a sample by the other half: a value has the label that it most often has there, a
    number that of its nearest one there (which any number of thresholds can be read from).
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(file.n_rows, min(SAMPLE, file.n_rows), replace=False)) + 1
    names = [pl.lit(None).alias("_")] if not columns else [c.values.alias(f"c{i}") for i, c in enumerate(columns)]
    frame = (
        file.cells.filter(pl.col(ROW).is_in(chosen.tolist()))
        .select(labels.values.alias("label"), *names)
        .collect(engine="streaming")
    )
    order = rng.permutation(len(frame))
    known, judged = frame[order[::2]], frame[order[1::2]]
    if len(judged) < 10:
        return []
    most = known["label"].mode().sort()[0]
    error = float((judged["label"] != most).mean())
    found = []
    for i, column in enumerate(columns):
        given = known.select(x=f"c{i}", label="label"), judged.select(x=f"c{i}", label="label")
        right = _nearest(*given) if column.kind == "number" else _looked_up(*given, most)
        if 1 - right <= GIVES_AWAY * error:
            found.append((column.name, right))
    return found


def _looked_up(known: pl.DataFrame, judged: pl.DataFrame, otherwise: str) -> float:
    """The share right by the most frequent label of the same value."""
    counted = known.group_by("x", "label").len().sort(["len", "label"], descending=[True, False])
    best = counted.unique("x", keep="first", maintain_order=True).select("x", answer="label")
    answered = judged.join(best, on="x", how="left", nulls_equal=True)
    right = answered.filter(pl.col("answer").fill_null(otherwise) == pl.col("label"))
    return right.height / max(1, answered.height)


def _nearest(known: pl.DataFrame, judged: pl.DataFrame) -> float:
    """The share right by the label of the nearest number; those that are missing by that of the missing ones."""
    numbers, asked = known.drop_nulls("x").sort("x", "label"), judged.drop_nulls("x")
    right = 0.0
    if len(numbers) and len(asked):
        places, values = numbers["x"].to_numpy().astype(float), asked["x"].to_numpy().astype(float)
        after = np.clip(np.searchsorted(places, values), 1, max(1, len(places) - 1))
        before = np.maximum(after - 1, 0)
        after = np.minimum(after, len(places) - 1)
        nearest = np.where(values - places[before] <= places[after] - values, before, after)
        right += float((numbers["label"].to_numpy()[nearest] == asked["label"].to_numpy()).sum())
    if len(empty := known.filter(pl.col("x").is_null())["label"]):
        right += float((judged.filter(pl.col("x").is_null())["label"] == empty.mode().sort()[0]).sum())
    return right / len(judged)


def column_lines(columns: list[Column], left_out: dict[str, str]) -> list[str]:
    """What each column holds, and why some stay out of the prompt."""
    lines = [f"{column.name}: {column.words}" for column in columns if column.name not in left_out]
    lines += [f"{name}: left out ({why})" for name, why in left_out.items()]
    return lines + [note for column in columns if column.name not in left_out for note in column.notes]
