"""A file of cases as a table of texts, whatever its format; large ones are read in parts that memory holds."""

import contextlib
import itertools
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.task.cases.text_files import Form, Row, TextFile

ROW, LINE = "\x00row", "\x00line"  # our columns: no user's column can have such a name
PART = 100_000  # rows held at a time


@dataclass(frozen=True)
class CaseFile:
    """The cells of a file of cases.

    cells: a column of texts (null: an empty cell) for each of `columns`, and ROW, counted from 1, and LINE, where the
    row ends in the file (0 where a file has no lines), in the order of the file.
    notes: what was guessed or left out, a line each.
    """

    path: str
    columns: tuple[str, ...]
    n_rows: int
    cells: pl.LazyFrame
    notes: list[str] = field(default_factory=list)

    def select(self, *columns, **named) -> pl.DataFrame:
        """Some columns, or expressions, of all rows."""
        return self.cells.select(*columns, **named).collect(engine="streaming")

    def where(self, row: int, column: str | None = None) -> str:
        """`row 3 (line 4), column age`, for errors."""
        line = self.cells.filter(pl.col(ROW) == row).select(LINE).collect(engine="streaming")[LINE]
        place = f"row {row}" + (f" (line {line[0]})" if len(line) and line[0] else "")
        return f"{place}, column {column}" if column else place


def check_file(path) -> None:
    """Raise UserError unless `path` is a file that can be read."""
    try:
        about = os.stat(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "no such file" if missing else f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise UserError(path, None, reason, "check the path") from None
    if not stat.S_ISREG(about.st_mode):
        raise UserError(path, None, "is no file", "give the path of a file: CSV, TSV, JSON, JSON lines or parquet")
    if not os.access(path, os.R_OK):
        raise UserError(path, None, "cannot be read (permission denied)", "change its permissions")
    if about.st_size == 0:
        raise UserError(path, None, "is empty", "give a file with a header and rows")


@contextlib.contextmanager
def open_cases(path, form: Form | None = None) -> Iterator[CaseFile]:
    """The cells of a file; those of a large text file lie in a temporary folder until the end.

    Raises UserError for a file that is missing, empty, ragged, no table, or has two columns of one name.
    """
    check_file(path)
    with open(path, "rb") as stream:
        is_parquet = stream.read(4) == b"PAR1"
    if is_parquet or Path(path).suffix.lower() in (".parquet", ".pq"):
        yield _parquet(str(path))
        return
    text = TextFile(str(path), form or Form())
    with tempfile.TemporaryDirectory(prefix="cases-") as folder:
        parts: list[pl.LazyFrame] = []
        n_rows = 0
        for number, rows in enumerate(_batched(text.rows(), PART)):
            part = _frame(rows, n_rows)
            n_rows += len(rows)
            if len(rows) == PART:
                part.write_parquet(file := Path(folder) / f"{number}.parquet")
                parts.append(pl.scan_parquet(file))
            else:
                parts.append(part.lazy())
        if not n_rows:
            raise UserError(path, None, "has a header and no rows", "give a file with cases")
        cells = pl.concat(parts, how="diagonal")
        columns = tuple(name for name in cells.collect_schema() if name not in (ROW, LINE))
        _check_names(path, columns)
        yield CaseFile(str(path), columns, n_rows, cells, text.notes)


def _batched(rows: Iterator[Row], n: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, n)):
        yield batch


def _frame(rows: list[Row], before: int) -> pl.DataFrame:
    """The table of some rows, `before` of which came earlier."""
    names = list(dict.fromkeys(name for row in rows for name in row.cells))
    columns = {name: pl.Series([row.cells.get(name) for row in rows], dtype=pl.String) for name in names}
    numbers = {
        ROW: pl.Series(range(before + 1, before + len(rows) + 1), dtype=pl.Int64),
        LINE: pl.Series([row.line for row in rows], dtype=pl.Int64),
    }
    return pl.DataFrame(columns | numbers)


def _check_names(path, columns: tuple[str, ...]) -> None:
    """Names of columns can be shown, and are none of ours."""
    for name in columns:
        if not name.isprintable():
            misread = any("\x80" <= c <= "\x9f" for c in name)  # in Latin-1, which reads anything
            remedy = "give its encoding (ENCODING= or data.encoding)" if misread else "rename the column"
            raise UserError(path, None, f"the name of column {name!r} holds a control character", remedy)


def _parquet(path: str) -> CaseFile:
    remedy = "save it again, or as CSV in UTF-8"
    try:
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
        n_rows = int(scan.select(pl.len()).collect(engine="streaming").item())
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise UserError(path, None, f"is not a readable parquet file ({reason})", remedy) from None
    if not n_rows:
        raise UserError(path, None, "has no rows", "give a file with cases")
    notes = []
    for name in [name for name, dtype in schema.items() if not _has_text(scan, name, dtype)]:
        notes.append(f"left out: column {name}, whose values ({schema.pop(name)}) have no text")
    if not schema:
        raise UserError(path, None, "has no column whose values have a text", remedy)
    names = {name: " ".join(name.split()) for name in schema}
    if len(set(names.values())) < len(names) or "" in names.values():
        raise UserError(path, None, "has a column without a name, or two of one name", "name each column")
    _check_names(path, tuple(names.values()))
    cells = scan.select(_as_text(name, dtype).alias(names[name]) for name, dtype in schema.items())
    cells = cells.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64), pl.lit(0).alias(LINE))
    return CaseFile(path, tuple(names.values()), n_rows, cells, notes)


def _has_text(scan: pl.LazyFrame, name: str, dtype: pl.DataType) -> bool:
    """Whether the values of a column can be read as texts: bytes may be none, and in lists have none."""
    if dtype != pl.Binary:
        return not _holds_bytes(dtype)
    try:
        scan.select(pl.col(name).cast(pl.String).is_null().sum()).collect(engine="streaming")
    except pl.exceptions.PolarsError:
        return False
    return True


def _holds_bytes(dtype) -> bool:
    """Whether a list or a struct has bytes somewhere in it."""
    inner = [of.dtype for of in getattr(dtype, "fields", ())] + [getattr(dtype, "inner", None)]
    return dtype in (pl.Binary, pl.Object) or any(_holds_bytes(of) for of in inner if of is not None)


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A typed column as texts: numbers as they are written shortest, times in ISO 8601, lists and structs as JSON."""
    column = pl.col(name)
    if dtype.is_nested():
        encoded = pl.struct(value=column).struct.json_encode().str.strip_prefix('{"value":').str.strip_suffix("}")
        return pl.when(column.is_not_null()).then(encoded)
    if dtype == pl.Duration:
        return column.dt.to_string("iso")
    if dtype.is_float():
        column = column.fill_nan(None)
    text = column.cast(pl.String)
    if dtype.is_float():  # 1.0 and 1 are one number
        text = text.str.replace(r"\.0$", "")
    return pl.when(text.str.strip_chars() == "").then(None).otherwise(text)
