"""The times of cases, to split by: numbers, or dates in one of the usual ways."""

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import quoted
from hidden_rule.task.cases.files import ROW, CaseFile
from hidden_rule.task.cases.splits import TIME

ISO = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y/%m/%d"]
OTHERS = ["%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%Y%m%d", "%Y-%m"]
DAY_FIRST, MONTH_FIRST = ["%d/%m/%Y", "%d/%m/%Y %H:%M"], ["%m/%d/%Y", "%m/%d/%Y %H:%M"]


def read_times(file: CaseFile, column: str, cases: pl.DataFrame) -> pl.Series:
    """Numbers, in the order of `cases`, that grow with the time in their column TIME (texts).

    Raises UserError, with the row, for what is no time, and where day and month cannot be told apart.
    """
    texts = cases[TIME]
    numbers = texts.cast(pl.Float64, strict=False)
    zones = texts.str.replace(r"(Z|[+-]\d{2}:?\d{2})$", "")
    if not numbers.has_nulls() and not texts.str.contains(r"^\d{8}$").all():
        return numbers
    for form in [*ISO, *OTHERS]:
        if (found := _parsed(zones if "%H" in form else texts, form)) is not None:
            return found
    for first, second in zip(DAY_FIRST, MONTH_FIRST, strict=True):
        as_day, as_month = _parsed(texts, first), _parsed(texts, second)
        if as_day is not None and as_month is not None and not as_day.equals(as_month):
            fault = f"{quoted(texts[0])} may begin with the day or with the month"
            raise UserError(file.path, f"column {column}", fault, "write dates as in 2024-12-31")
        if (one := as_day if as_day is not None else as_month) is not None:
            return one
    best = min((texts.str.to_datetime(form, strict=False) for form in [*ISO, *OTHERS]), key=lambda of: of.null_count())
    row = cases.filter(best.is_null() & numbers.is_null())[ROW]
    row = cases[ROW] if row.is_empty() else row
    value = cases.filter(pl.col(ROW) == row[0])[TIME][0]
    fault = f"{quoted(value)} is no time as the others are"
    raise UserError(file.path, file.where(row[0], column), fault, "write dates as in 2024-12-31, or numbers")


def _parsed(texts: pl.Series, form: str) -> pl.Series | None:
    """All times as numbers, or None if one is not of this form."""
    try:
        found = texts.str.to_datetime(form, strict=False) if "%H" in form else _dates(texts, form)
    except pl.exceptions.PolarsError:
        return None
    return None if found.has_nulls() else found.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64)


def _dates(texts: pl.Series, form: str) -> pl.Series:
    if form == "%Y-%m":
        texts, form = texts + "-01", "%Y-%m-%d"
    return texts.str.to_date(form, strict=False)
