"""Rows of CSV, TSV, JSON and JSON-lines files as texts; what is guessed about a file is said."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import quoted

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
SNIFFED = 200  # records that show which separator a file has
BLOCK = 1 << 20  # bytes read at a time
MAX_CELL = 1_000_000  # characters; more is a quote that is never closed, or no table
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UNPACK, SAVE = "unpack it, or save it as CSV in UTF-8", "save its table as CSV in UTF-8"
OTHER_FILES = {  # by their first bytes
    b"PK\x03\x04": ("a zip archive or a spreadsheet", UNPACK),
    b"\x1f\x8b": ("compressed", UNPACK),
    b"BZh": ("compressed", UNPACK),
    b"\xfd7zXZ": ("compressed", UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed", UNPACK),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet or another document of Microsoft Office", SAVE),
    b"%PDF-": ("a PDF document", SAVE),
    b"SQLite format 3": ("a database", SAVE),
    b"ARROW1": ("an Arrow file", "save it as parquet, or as CSV in UTF-8"),
}
ENCODING_WORDS = {"utf-16": "UTF-16", "utf-32": "UTF-32", "cp1252": "Windows-1252", "latin-1": "Latin-1"}


@dataclass(frozen=True)
class Row:
    """One case: a text, or None for an empty cell, by column; `line` is the file's in which it ends."""

    cells: dict[str, str | None]
    line: int


@dataclass(frozen=True)
class Form:
    """How a text file is written; None is guessed."""

    encoding: str | None = None
    separator: str | None = None


@dataclass
class TextFile:
    """A file of rows, and lines on what was guessed to read it."""

    path: str
    form: Form = Form()
    notes: list[str] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """Each row; raises UserError with the line of what cannot be read as one."""
        encoding = self.form.encoding or self._guessed_encoding()
        try:
            codecs.lookup(encoding)
        except LookupError:
            fault = f"{quoted(encoding)} is no encoding"
            raise UserError(self.path, "data.encoding", fault, "give one as in utf-8 or cp1252") from None
        suffix = Path(self.path).suffix.lower()
        read = {".json": self._json, ".jsonl": self._json_lines, ".ndjson": self._json_lines}.get(suffix, self._csv)
        try:
            with open(self.path, encoding=encoding, newline="") as stream:
                yield from read(stream)
        except UnicodeError as error:
            fault = f"is not text in {encoding} ({getattr(error, 'reason', error)})"
            raise UserError(self.path, None, fault, "give its encoding (data.encoding), or save it as UTF-8") from None

    def _guessed_encoding(self) -> str:
        with open(self.path, "rb") as stream:
            head = stream.read(BLOCK)
            if not head.strip():
                raise UserError(self.path, None, "is empty", "give a file with a header and rows")
            for magic, (what, remedy) in OTHER_FILES.items():
                if head.startswith(magic):
                    raise UserError(self.path, None, f"is {what}", remedy)
            found = next((name for bom, name in BOMS if head.startswith(bom)), None) or _without_mark(head)
            if found is None:
                found = _utf8_or_older(stream, head)
        if found in ENCODING_WORDS:
            self.notes.append(f"read as text in {ENCODING_WORDS[found]} (ENCODING= or data.encoding says another)")
        return found

    # CSV

    def _csv(self, stream) -> Iterator[Row]:
        n_above = self._separator_line(stream)
        separator, skips_blanks = self._guessed_separator(stream)
        csv.field_size_limit(MAX_CELL)
        reader = csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=skips_blanks)
        records = self._records(reader, n_above)
        header = [name.strip() for name in next(records, [])]
        if not any(header):
            raise UserError(self.path, None, "is empty", "give a file with a header and rows")
        names = self._names(header)
        unnamed = [i for i, name in enumerate(header) if not name]
        first: str | None = None  # of row numbers
        n_rows = 0
        for record in records:
            line = reader.line_num + n_above
            if len(record) != len(header):
                self._refuse_length(record, header, line, separator)
            cells = [cell if cell.strip() else None for cell in record]
            if not any(cells):
                continue  # separators alone
            for i in unnamed:
                if i == 0 and _counts(cells[0], first := first or cells[0], n_rows):
                    continue  # the row numbers that pandas and R write
                if cells[i] is not None:
                    fault = f"holds {quoted(cells[i])}, and the header names no such column"
                    raise UserError(self.path, f"line {line}, column {i + 1}", fault, "name the column in the header")
            n_rows += 1
            yield Row({name: cells[i] for i, name in names}, line)
        if unnamed:
            plural, holds = "s" * (len(unnamed) > 1), "no values but row numbers" if first else "no values"
            self.notes.append(f"left out: {len(unnamed)} column{plural} without a name, with {holds}")

    def _separator_line(self, stream) -> int:
        """Read over a first line `sep=;`, by which a spreadsheet is told the separator; the number of lines read."""
        start = stream.tell()
        found = re.fullmatch("sep=(.)\r?\n?", stream.readline(), re.IGNORECASE)
        if found is None:
            stream.seek(start)
            return 0
        if self.form.separator is None:
            self.form = replace(self.form, separator=found[1])
        return 1

    def _records(self, reader, n_above: int) -> Iterator[list[str]]:
        """Its records; `n_above`: lines of the file that stand above what it reads."""
        try:
            yield from (record for record in reader if record)
        except csv.Error as error:
            where = f"line {reader.line_num + n_above}"
            if "unexpected end" in str(error) or "field limit" in str(error):
                fault = "a quote is opened and never closed"
                raise UserError(self.path, where, fault, 'close it, or write ""') from None
            if "expected after" in str(error):
                fault = "a quoted cell goes on after its closing quote"
                raise UserError(self.path, where, fault, 'write a quote within a cell as ""') from None
            raise UserError(self.path, where, f"is no CSV ({error})", "save the file as CSV in UTF-8") from None

    def _names(self, header: list[str]) -> list[tuple[int, str]]:
        """Place and name of each column that has a name."""
        names = [(i, " ".join(name.split())) for i, name in enumerate(header) if name]
        seen: dict[str, int] = {}
        for i, name in names:
            if name in seen:
                fault = f"two columns are called {quoted(name)} ({seen[name] + 1} and {i + 1})"
                raise UserError(self.path, "line 1", fault, "give each column a name of its own")
            seen[name] = i
        return names

    def _refuse_length(self, record: list[str], header: list[str], line: int, separator: str) -> None:
        fault = f"has {len(record)} cells, and the header {len(header)}"
        word = SEPARATORS.get(separator, quoted(separator))
        remedy = f"put a cell that holds a {word} in double quotes"
        if len(record) < len(header):
            remedy = f"write every cell, empty ones too, with a {word} between"
        if len(header) == 1:
            remedy = f"let the first line name the columns, with a {word} between: delete what stands above it"
        raise UserError(self.path, f"line {line}", fault, remedy)

    def _guessed_separator(self, stream) -> tuple[str, bool]:
        """The separator that makes the most columns, of those that make as many in every record; blanks after it?

        Blanks after a separator belong to the cell, unless quotes come after them.
        """
        start = stream.tell()
        head = "".join(line for line, _ in zip(stream, range(SNIFFED), strict=False))
        stream.seek(start)
        given = self.form.separator
        scores: dict[tuple[str, bool], tuple[float, int, bool]] = {}
        for separator in [given] if given else SEPARATORS:
            for skips_blanks in (False, True):
                widths = _widths(head, separator, skips_blanks)
                if widths and (widths[0] > 1 or given):
                    even = sum(n == widths[0] for n in widths) / len(widths)
                    scores[separator, skips_blanks] = (even, widths[0], not skips_blanks)
        best = max(scores, key=lambda way: scores[way], default=(given or ",", False))
        if not given and best[0] != ("\t" if Path(self.path).suffix.lower() == ".tsv" else ","):
            self.notes.append(f"cells are separated by a {SEPARATORS[best[0]]} (data.separator says another)")
        return best

    # JSON

    def _json_lines(self, stream) -> Iterator[Row]:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield Row(self._cells(self._parsed(line, f"line {number}"), f"line {number}"), number)

    def _json(self, stream) -> Iterator[Row]:
        """A list of objects; a file of JSON lines that ends in .json too."""
        text = stream.read()
        if text.lstrip().startswith("{") and "\n" in text.strip():
            try:
                json.loads(text)
            except ValueError:
                yield from self._json_lines(io.StringIO(text))
                return
        document = self._parsed(text, None)
        if not isinstance(document, list):
            raise UserError(self.path, None, "holds no list of cases", 'write [{"column": "value", …}, …]')
        for number, item in enumerate(document, 1):
            yield Row(self._cells(item, f"case {number}"), 0)

    def _parsed(self, text: str, where: str | None):
        try:
            return json.loads(text, object_pairs_hook=lambda pairs: self._object(pairs, where))
        except (ValueError, RecursionError) as error:
            fault = f"is not JSON ({' '.join(str(error).split())[:120]})"
            raise UserError(self.path, where, fault, "write one object a line, as in .jsonl, or a list") from None

    def _object(self, pairs: list, where: str | None) -> dict:
        found: dict = {}
        for key, value in pairs:
            if key in found:
                raise UserError(self.path, where, f"{quoted(key)} stands twice", "keep one")
            found[key] = value
        return found

    def _cells(self, item, where: str) -> dict[str, str | None]:
        if not isinstance(item, dict):
            raise UserError(self.path, where, f"is no object but {quoted(item)}", 'write {"column": "value", …}')
        cells: dict[str, str | None] = {}
        for key, value in item.items():
            name = " ".join(key.split())
            if not name or name in cells:
                fault = f"two columns are called {quoted(name)}" if name else "a column has no name"
                raise UserError(self.path, where, fault, "give each column a name of its own")
            cells[name] = _as_text(value)
        return cells


def _as_text(value) -> str | None:
    """A JSON value as a cell; lists and objects stay JSON."""
    if value is None or value != value:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.strip() else None


def _counts(cell: str | None, first: str | None, n_before: int) -> bool:
    """Whether a cell is the next of whole numbers that begin with `first`, 0 or 1."""
    return first in ("0", "1") and cell == str(int(first) + n_before)


def _widths(head: str, separator: str, skips_blanks: bool) -> list[int]:
    """How many cells the records of a file's beginning have."""
    try:
        records = csv.reader(io.StringIO(head), delimiter=separator, skipinitialspace=skips_blanks)
        return [len(record) for record in records if record]
    except csv.Error:
        return []


def _without_mark(head: bytes) -> str | None:
    """UTF-16 without a byte order mark, which plain text shows by a zero in every other byte; else None."""
    sample = head[: 2 * (len(head) // 2)][:2000]
    if len(sample) < 4:
        return None
    for name, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if zeros.count(0) > 0.9 * len(zeros):
            return name
    return None


def _utf8_or_older(stream, block: bytes) -> str:
    """utf-8 if all of the file is; else the encoding of older Windows programs, or Latin-1, which reads anything."""
    decoders = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp1252")}
    while block:
        for name, decoder in list(decoders.items()):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                del decoders[name]
        block = stream.read(BLOCK)
    if "utf-8" in decoders:
        try:
            decoders["utf-8"].decode(b"", final=True)
        except UnicodeDecodeError:
            del decoders["utf-8"]
    return next(iter(decoders), "latin-1")
