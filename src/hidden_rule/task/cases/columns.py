"""What a column of a file of cases holds: numbers, choices from a few, free text, identifiers, or nothing."""

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from hidden_rule.core.schemas import quoted
from hidden_rule.task.cases.files import ROW, CaseFile

MISSING_WORDS = ("na", "n/a", "n.a.", "nan", "null", "none", "nil", "-", "--", "?", ".", "#n/a", "missing", "unknown")
MAX_CHOICES = 50
MAX_CHOICE = 100  # characters of one
MAX_DIGITS = 15  # of a number; longer ones are no numbers but codes
DIGITS = 4  # that numbers with a fraction show at least, where the file has more
MAX_SAMPLE = 200  # characters of a text
SAMPLES = 100  # values of a column that stand for all of them
IDENTIFIER = re.compile(r"(?i:(^|[\W_])(id|ids|uuid|guid)$)|[a-z]I[dD]$")
NUMBERED = re.compile(r"(?i)(^|[\W_])(key|index|nr|no|number|reference|ref)$")  # names of identifiers, or of amounts

SIGNED = r"^[+-]?"
PLAIN = SIGNED + r"(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
WHOLE = SIGNED + r"\d+$"
DECIMAL_COMMA = SIGNED + r"\d+,\d+$"
COMMA_THOUSANDS = SIGNED + r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?$"
POINT_THOUSANDS = SIGNED + r"[1-9]\d{0,2}(\.\d{3})+(,\d+)?$"
CODE = SIGNED + r"0\d"  # 007 is a code, and 0.7 a number
CURRENCY = "EUR|USD|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|BRL|MXN"
SIZE = r"(\d{1,3}([.,'’\u00a0\u202f ]\d{3})*|\d+)([.,]\d+)?"
MARKED = (  # $5, 12 %, EUR 1,234.50, (7), −7, 1'234
    rf"^\(?[+\-−]?([$€£¥]\s?|({CURRENCY})\s)?[+\-−]?{SIZE}(\s?[$€£¥%]|\s({CURRENCY}))?\)?$"
)


@dataclass(frozen=True)
class Column:
    """A column, its type, and the expression that gives its values.

    kind: number | choice | text | identifier | constant | empty; the last three tell a model nothing, and stay out of
    prompts unless they are asked for.
    """

    name: str
    kind: str
    n_missing: int
    n_distinct: int
    values: pl.Expr  # of the type: Int64 or Float64 of numbers, String of all else; null where missing
    decimals: int = 0  # that are shown of a number
    samples: tuple = ()  # values in order, the quantiles of many numbers
    weights: tuple[int, ...] = ()  # of choices: how many cases have each
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        """What it holds, for people."""
        missing = f", {self.n_missing:,} missing" if self.n_missing else ""
        if self.kind == "number":
            low, high = self.samples[0], self.samples[-1]
            low, high = round(low, self.decimals), round(high, self.decimals)
            return f"number, {low:.10g} to {high:.10g}, {self.n_distinct:,} different{missing}"
        if self.kind == "choice":
            listed = ", ".join(f"{value} {n:,}" for value, n in list(zip(self.samples, self.weights, strict=True))[:8])
            more = f", and {self.n_distinct - 8} others" if self.n_distinct > 8 else ""
            return f"choice of {self.n_distinct}: {listed}{more}{missing}"
        return f"{self.kind}, {self.n_distinct:,} different{missing}"


def read_columns(file: CaseFile, names, decimal: str | None = None, texts=()) -> dict[str, Column]:
    """The type of each named column; decimal: the character before a fraction, None to guess; texts: are free text."""
    names = list(names)
    if not names:
        return {}
    counts = file.cells.select(
        expression.alias(f"{i} {key}") for i, name in enumerate(names) for key, expression in _counts(name).items()
    ).collect(engine="streaming")
    of = [{key: counts[f"{i} {key}"][0] for key in _counts(name)} for i, name in enumerate(names)]
    found = {}
    for name, n in zip(names, of, strict=True):
        column = None if name in texts else _number(file, name, n, decimal)
        found[name] = column or _words(file, name, n, is_text=name in texts)
    return found


def _counts(name: str) -> dict[str, pl.Expr]:
    """How many cells of a column are what."""
    cell = pl.col(name).str.strip_chars()
    is_word = cell.str.to_lowercase().is_in(list(MISSING_WORDS)).fill_null(False)
    rest = pl.when(~is_word).then(cell)
    patterns = {
        "plain": PLAIN,
        "whole": WHOLE,
        "comma": DECIMAL_COMMA,
        "comma_thousands": COMMA_THOUSANDS,
        "point_thousands": POINT_THOUSANDS,
        "code": CODE,
        "marked": MARKED,
    }
    return {
        "null": cell.is_null().sum(),
        "word": is_word.sum(),
        "distinct": cell.n_unique() - cell.is_null().any().cast(pl.Int64),
        "cells": cell.is_not_null().sum(),
        "longest": cell.str.len_chars().max().fill_null(0),
        "digits": rest.str.count_matches(r"\d").max().fill_null(0),
        "blanks": cell.str.contains(r"\s").fill_null(False).sum(),
        "breaks": cell.str.contains(r"[\r\n]").fill_null(False).sum(),
        **{key: rest.str.contains(pattern).fill_null(False).sum() for key, pattern in patterns.items()},
    }


def _number(file: CaseFile, name: str, n: dict, decimal: str | None) -> Column | None:
    """The column as numbers, or None if it holds others than numbers and words for missing ones."""
    n_numbers = n["cells"] - n["word"]
    if n_numbers < max(1, n["word"]) or n["code"]:
        return None
    cell, notes = pl.col(name).str.strip_chars(), []
    written = _notation(n, n_numbers, decimal)
    if written is None or (written == "plain" and n["digits"] > 17 + 3):
        return None
    if written == "comma":
        cell = cell.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        notes.append(f"{name}: the comma stands before a fraction (data.decimal says another)")
    elif written == "comma_thousands":
        cell = cell.str.replace_all(",", "", literal=True)
        notes.append(f"{name}: the comma groups thousands (data.decimal says another)")
    elif written == "point_thousands":
        cell = cell.str.replace_all(".", "", literal=True)
        notes.append(f"{name}: the point groups thousands (data.decimal says another)")
    is_word = pl.col(name).str.strip_chars().str.to_lowercase().is_in(list(MISSING_WORDS))
    numbers = pl.when(~is_word).then(cell).cast(pl.Float64, strict=False)
    about = file.select(
        finite=numbers.is_finite().sum(),
        fractions=(numbers % 1 != 0).sum(),
        size=numbers.abs().max(),
        distinct=numbers.drop_nulls().n_unique(),
    ).row(0, named=True)
    if about["finite"] < n_numbers or about["size"] >= 10**MAX_DIGITS:
        return None
    if n["word"]:
        notes.append(f"{name}: {n['word']:,} cells that say none ({_missing_words(file, name)}) are missing values")
    column = Column(name, "number", n["null"] + n["word"], about["distinct"], numbers.cast(pl.Int64), notes=notes)
    if about["fractions"]:
        decimals, shown = _fraction(file, name, numbers)
        column = replace(column, values=numbers, decimals=decimals, notes=notes + shown)
    return _with_samples(file, column)


def _notation(n: dict, n_numbers: int, decimal: str | None) -> str | None:
    """How numbers are written: plain, comma (decimal), or with the groups of thousands; None of no numbers."""
    if decimal == "," and n["point_thousands"] + n["comma"] + n["whole"] >= n_numbers:
        return "comma"
    if n["plain"] == n_numbers and decimal != ",":
        return "plain"
    if n["whole"] == n_numbers:
        return "plain"
    if n["comma"] + n["whole"] == n_numbers:  # 1,234 may be either
        return "comma_thousands" if n["comma_thousands"] == n["comma"] and decimal != "," else "comma"
    if n["comma_thousands"] and n["comma_thousands"] + n["plain"] >= n_numbers:
        return "comma_thousands"
    if n["point_thousands"] and n["comma"] and n["point_thousands"] + n["comma"] + n["whole"] >= n_numbers:
        return "comma"
    if n["point_thousands"] and n["point_thousands"] + n["comma"] + n["whole"] >= n_numbers:
        return "comma" if n["plain"] + n["comma"] < n_numbers else "point_thousands"
    return None


def _missing_words(file: CaseFile, name: str) -> str:
    cell = pl.col(name).str.strip_chars()
    words = file.cells.filter(cell.str.to_lowercase().is_in(list(MISSING_WORDS))).select(cell.unique().sort().head(5))
    return ", ".join(words.collect(engine="streaming")[name])


def _fraction(file: CaseFile, name: str, numbers: pl.Expr) -> tuple[int, list[str]]:
    """The digits after the point that are shown of numbers with a fraction, and a line on what is not."""
    values = file.select(numbers.alias(name))[name].drop_nulls()
    decimals, middle = _decimals(values), float(np.median(np.abs(values.to_numpy())))
    enough = max(2, DIGITS - 1 - math.floor(math.log10(middle))) if middle else DIGITS
    if decimals <= max(enough, DIGITS):
        return decimals, []
    return enough, [f"{name}: prompts show {enough} digits after the point, of up to {decimals}"]


def _decimals(values: pl.Series) -> int:
    """Digits after the point that any of the numbers has, written shortest."""
    sample = values.unique()
    sample = sample if len(sample) < 20_000 else sample.sample(20_000, seed=0)
    texts = (np.format_float_positional(value, trim="-") for value in sample.to_list())
    return max((len(text.partition(".")[2]) for text in texts), default=0)


def _with_samples(file: CaseFile, column: Column) -> Column:
    """A number column with its samples; a whole number that only counts or names the cases is an identifier."""
    in_order = file.select(column.values.alias("x"))["x"].drop_nulls()
    numbers = in_order.sort()
    places = np.unique(np.linspace(0, len(numbers) - 1, SAMPLES).round().astype(int))
    kind = "number"
    if column.n_distinct == 1 and not column.n_missing:
        kind = "constant"
    elif not numbers.dtype.is_float() and _names_cases(file, column.name, column.n_distinct):
        kind = "identifier"
    elif not numbers.dtype.is_float() and column.n_distinct == file.n_rows >= 20:  # do they count the cases?
        counts = in_order.is_sorted() or in_order.is_sorted(descending=True)
        kind = "identifier" if counts and numbers[-1] - numbers[0] < 1.5 * file.n_rows else "number"
    return replace(column, kind=kind, samples=tuple(numbers.gather(places).unique().sort().to_list()))


def _names_cases(file: CaseFile, name: str, n_distinct: int) -> bool:
    """Whether a column is an identifier by its name and by how many values differ."""
    named = n_distinct >= file.n_rows / 2 and IDENTIFIER.search(name) is not None
    return file.n_rows > 1 and (named or (n_distinct == file.n_rows and NUMBERED.search(name) is not None))


def _words(file: CaseFile, name: str, n: dict, is_text: bool) -> Column:
    """The column as choices, text or identifiers."""
    cell = pl.col(name).str.strip_chars()
    about: dict[str, Any] = {"name": name, "n_missing": n["null"], "n_distinct": n["distinct"], "values": cell}
    if not n["cells"]:
        return Column(kind="empty", **about)
    if n["distinct"] == 1 and not n["null"] and not is_text:
        return Column(kind="constant", samples=tuple(file.cells.select(cell).head(1).collect()[name]), **about)
    about["notes"] = [] if is_text else _near_numbers(file, name, n)
    all_differ = n["distinct"] == n["cells"] == file.n_rows > 1
    is_code = not n["blanks"] and not is_text and n["longest"] <= 64 and not about["notes"]
    if is_code and ((all_differ and file.n_rows >= 20) or _names_cases(file, name, n["distinct"])):
        return Column(kind="identifier", **about)
    few = n["distinct"] <= MAX_CHOICES and n["longest"] <= MAX_CHOICE and not n["breaks"]
    if few and not is_text and not (all_differ and n["distinct"] > 20):
        counted = file.cells.group_by(cell.alias("value")).len().collect(engine="streaming")
        counted = counted.drop_nulls("value").sort(["len", "value"], descending=[True, False])
        return Column(kind="choice", samples=tuple(counted["value"]), weights=tuple(counted["len"]), **about)
    shortened = cell.str.head(MAX_SAMPLE).alias("x")  # texts stand for others, and may be pages long
    samples = file.cells.select(shortened).drop_nulls().head(5).collect(engine="streaming")["x"]
    return Column(kind="text", samples=tuple(samples), **about)


def _near_numbers(file: CaseFile, name: str, n: dict) -> list[str]:
    """A line on a column of texts that would be numbers, were it not for some cells, or for signs in all of them."""
    n_texts, cell = n["cells"] - n["word"], pl.col(name).str.strip_chars()
    marks, some = n["marked"] == n_texts > n["plain"], n_texts / 2 <= n["plain"] < n_texts
    if not n_texts or n["code"] or not (marks or some):
        return []
    no_number = ~cell.str.contains(PLAIN) & ~cell.str.to_lowercase().is_in(list(MISSING_WORDS))
    first = file.cells.filter(no_number).select(ROW, cell.str.head(MAX_SAMPLE)).head(1).collect(engine="streaming")
    example = f"as in {file.where(first[ROW][0])}: {quoted(first[name][0])}"
    if marks:
        return [f"{name}: texts, no numbers, because of signs {example}; write numbers alone"]
    return [f"{name}: texts, no numbers, because of {n_texts - n['plain']:,} of {n_texts:,} cells, {example}"]
