"""The labels of a file of cases: counted, and refused where one may be a slip, with its row and a remedy."""

import re
import unicodedata
from dataclasses import dataclass

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean, quoted
from hidden_rule.task.cases.columns import MISSING_WORDS
from hidden_rule.task.cases.files import ROW, CaseFile

MAX_LABELS = 50
MAX_LABEL = 200  # characters
YES, NO = ("true", "yes", "y", "t", "1", "on"), ("false", "no", "n", "f", "0", "off")
NO_LABELS = {*MISSING_WORDS} - {"unknown"}  # words of a cell that has no label


@dataclass(frozen=True)
class Label:
    """A label as the file spells it, how many cases have it, and the first of them."""

    spelling: str
    n: int
    row: int


@dataclass(frozen=True)
class Labels:
    """The labels of a column, the most frequent first."""

    column: str
    counts: dict[str, int]  # by label, blanks around it left out
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> pl.Expr:
        """The label of each case."""
        return pl.col(self.column).str.strip_chars()


def read_labels(file: CaseFile, column: str, known=()) -> Labels:
    """The labels in a column; known: all that there may be, spelt as meant (none given: any).

    Raises UserError for an empty label, one that stands for nothing (NaN, null), one that is not known, two that are
    nearly equal (`approve`, `Approve `; 1, 1.0), for a single label, and for more than MAX_LABELS.
    """
    counted = file.cells.group_by(pl.col(column).alias("label")).agg(n=pl.len(), row=pl.col(ROW).min())
    table = counted.sort("row").head(100_000).collect(engine="streaming")
    if (empty := table.filter(pl.col("label").is_null())).height:
        fault = "is empty" + (f", as in {n - 1:,} other rows" if (n := empty["n"][0]) > 1 else "")
        raise UserError(file.path, file.where(empty["row"][0], column), fault, "write the label, or delete the row")
    labels = [Label(*row) for row in table.iter_rows()]
    if len({label.spelling.strip() for label in labels}) > MAX_LABELS:
        _refuse_many(file, column, labels)
    for label in labels:
        _check_label(file, column, label, known)
    if not known:
        _check_near(file, column, labels)
    counts: dict[str, int] = {}
    for label in sorted(labels, key=lambda of: (-of.n, of.spelling)):
        counts[label.spelling.strip()] = counts.get(label.spelling.strip(), 0) + label.n
    if len(counts) < 2:
        fault = f"has one label, {quoted(next(iter(counts)))}, in all {file.n_rows:,} rows"
        raise UserError(file.path, f"column {column}", fault, "give cases with another label too")
    notes = []
    if any(label.spelling != label.spelling.strip() for label in labels):
        notes.append(f"{column}: blanks around labels are left out")
    if unused := [label for label in known if label not in counts]:
        notes.append(f"{column}: no case has the label {', '.join(map(quoted, unused))} (data.labels)")
    return Labels(column, counts, tuple(notes))


def _refuse_many(file: CaseFile, column: str, labels: list[Label]) -> None:
    numbers = all(re.fullmatch(r"\s*[+-]?\d+([.,]\d+)?\s*", label.spelling) for label in labels)
    what = "numbers" if numbers else "labels"
    remedy = "make classes of the numbers" if numbers else "merge rare ones, or name another column (data.label)"
    fault = f"has {len(labels):,} different {what}, of at most {MAX_LABELS}"
    raise UserError(file.path, f"column {column}", fault, remedy)


def _check_label(file: CaseFile, column: str, label: Label, known) -> None:
    """One label is none that stands for nothing, is known if there are known ones, and fits on a line."""
    word = label.spelling.strip()
    if known:
        if word not in known:
            fault, remedy = f"unknown label {quoted(label.spelling)}", did_you_mean(word, known)
            raise UserError(file.path, file.where(label.row, column), fault, remedy)
        return
    if word.lower() in NO_LABELS:
        remedy = "write the label, or delete the row; if it is a decision, list all labels in data.labels"
        fault = f"{quoted(word)} may stand for no label"
        raise UserError(file.path, file.where(label.row, column), fault, remedy)
    if len(word) > MAX_LABEL or len(word.splitlines()) > 1:
        fault = f"is a text of {len(word)} characters, no label" if len(word) > MAX_LABEL else "is no label of one line"
        raise UserError(file.path, file.where(label.row, column), fault, "name the column of decisions (data.label)")


def _check_near(file: CaseFile, column: str, labels: list[Label]) -> None:
    """No two labels that are one to a person."""
    names = {label.spelling for label in labels}
    around = any(name != name.strip() and name.strip() in names for name in names)
    seen: dict[str, Label] = {}
    for label in sorted(labels, key=lambda of: (-of.n, of.row)):
        key = normal_form(label.spelling)
        if key not in seen:
            seen[key] = label
            continue
        other = seen[key]
        if other.spelling.strip() == label.spelling.strip() and not around:
            continue  # blanks around every cell of the file: the same label
        fault = f"{quoted(label.spelling)} is nearly {quoted(other.spelling)} (row {other.row})"
        remedy = f"write {quoted(other.spelling.strip())} everywhere, or list both in data.labels if they differ"
        raise UserError(file.path, file.where(label.row, column), fault, remedy)
    words = {key: label for key, label in seen.items() if key in YES or key in NO}
    for same in (YES, NO):
        if len(found := [label for key, label in words.items() if key in same]) > 1:
            fault = f"{quoted(found[1].spelling)} means what {quoted(found[0].spelling)} does (row {found[0].row})"
            remedy = f"write {quoted(found[0].spelling)} everywhere, or list both in data.labels if they differ"
            raise UserError(file.path, file.where(found[1].row, column), fault, remedy)


def normal_form(label: str) -> str:
    """What nearly equal labels have in common: no case, blanks, dashes, full stops; numbers by their value."""
    text = unicodedata.normalize("NFKC", label).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")  # characters of no width
    if re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", text):
        return f"{float(text):g}"
    text = re.sub(r"(?<=\w)[\s_‐-–—-]+(?=\w)", " ", " ".join(text.split()))
    stripped = text.strip(" \t'\"").rstrip(".!;:,").strip(" '\"")
    return stripped or text
