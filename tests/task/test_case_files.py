"""Files of cases as people have them: read rightly, or refused with the place and a remedy."""

import polars as pl
import pytest
from case_files import write

from hidden_rule.core.errors import UserError
from hidden_rule.task.cases.columns import read_columns
from hidden_rule.task.cases.files import ROW, open_cases
from hidden_rule.task.cases.text_files import Form


def cells(path, form: Form | None = None) -> tuple[list[dict], list[str]]:
    """The rows of a file, and what was said about it."""
    with open_cases(path, form) as file:
        return file.select(*file.columns).to_dicts(), file.notes


READ = {
    "plain": ("a,b\n1,x\n2,y\n", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}], 0),
    "windows line ends, no last one": ("a,b\r\n1,x\r\n2,y", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}], 0),
    "blank lines": ("a,b\n\n1,x\n\n,\n2,y\n\n", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}], 0),
    "quotes, commas and line ends": (
        'a,b\n"1, 2","say ""no"""\n"two\nlines",y\n',
        [{"a": "1, 2", "b": 'say "no"'}, {"a": "two\nlines", "b": "y"}],
        0,
    ),
    "semicolons": ("a;b\n1,5;x\n2,5;y\n", [{"a": "1,5", "b": "x"}, {"a": "2,5", "b": "y"}], 1),
    "tabs": ("a\tb\n1\tx, y\n", [{"a": "1", "b": "x, y"}], 1),
    "bars": ("a|b\n1|x\n", [{"a": "1", "b": "x"}], 1),
    "one column": ("a\nx\ny\n", [{"a": "x"}, {"a": "y"}], 0),
    "blanks after separators, then quotes": ('a, b\n1, "x, y"\n', [{"a": "1", "b": "x, y"}], 0),
    "blanks belong to cells": ("a,b\n1, x \n", [{"a": "1", "b": " x "}], 0),
    "a byte order mark": (b"\xef\xbb\xbfa,b\n1,x\n", [{"a": "1", "b": "x"}], 0),
    "utf-16": ("a,b\n1,ü\n".encode("utf-16"), [{"a": "1", "b": "ü"}], 1),
    "utf-16 without a mark": ("a,b\n1,ü\n".encode("utf-16-le"), [{"a": "1", "b": "ü"}], 0),
    "windows-1252": ("a,b\n1,caf\xe9 5 \u20ac\n".encode("cp1252"), [{"a": "1", "b": "café 5 €"}], 1),
    "latin-1": (b"a,b\n1,caf\xe9 \x81\n", [{"a": "1", "b": "café \x81"}], 1),
    "nameless empty columns": ("a,b,,\n1,x,,\n2,y,, \n", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}], 1),
    "row numbers of pandas": (",a,b\n0,1,x\n1,2,y\n", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}], 1),
    "a spreadsheet's own line on separators": ("sep=;\r\na;b\r\n1,5;x\r\n", [{"a": "1,5", "b": "x"}], 0),
    "the same with a comma": ('SEP=,\na,b\n1,"x;y"\n', [{"a": "1", "b": "x;y"}], 0),
    "row numbers of R": ('"","a"\n"1",5\n"2",6\n', [{"a": "5"}, {"a": "6"}], 1),
}


@pytest.mark.parametrize("name", READ)
def test_a_csv_file_is_read_as_it_is_meant(name, tmp_path):
    text, rows, n_notes = READ[name]
    found, notes = cells(write(tmp_path, text))
    assert found == rows and len(notes) == n_notes


def test_json_is_read_with_its_own_types(tmp_path):
    lines = '{"a": 1, "b": "x", "c": true}\n\n{"a": 2.5, "b": null, "c": [1, 2]}\n{"b": " "}\n'
    rows = [
        {"a": "1", "b": "x", "c": "true"},
        {"a": "2.5", "b": None, "c": "[1, 2]"},
        {"a": None, "b": None, "c": None},
    ]
    for name in ("cases.jsonl", "cases.ndjson", "cases.json"):
        assert cells(write(tmp_path, lines, name)) == (rows, [])
    array = '[{"a": 1, "b": "x", "c": true}, {"a": 2.5, "b": null, "c": [1, 2]},\n{"b": " "}]'
    assert cells(write(tmp_path, array, "cases.json")) == (rows, [])


def test_parquet_is_read_as_it_was_written(tmp_path):
    frame = pl.DataFrame(
        {"a": [1.0, float("nan"), 0.1], "b": ["x", None, " "], "c": [True, False, None], "d": [[1], [], None]}
    )
    frame.write_parquet(tmp_path / "cases.parquet")
    found, _ = cells(tmp_path / "cases.parquet")
    assert [row["a"] for row in found] == ["1", None, "0.1"]
    assert [row["b"] for row in found] == ["x", None, None]
    assert [row["c"] for row in found] == ["true", "false", None]
    assert [row["d"] for row in found] == ["[1]", "[]", None]


def test_a_large_file_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("hidden_rule.task.cases.files.PART", 3)
    lines = [f'{{"a": {i}}}' if i < 5 else f'{{"a": {i}, "late": "x"}}' for i in range(10)]
    with open_cases(write(tmp_path, "\n".join(lines), "cases.jsonl")) as file:
        assert file.columns == ("a", "late") and file.n_rows == 10
        assert file.select(ROW)[ROW].to_list() == list(range(1, 11))
        assert file.select("late")["late"].null_count() == 5
        assert file.where(7, "a") == "row 7 (line 7), column a"


REFUSED = {
    "empty": ("", "cases.csv", "is empty"),
    "blank": (" \n", "cases.csv", "is empty"),
    "header alone": ("a,b\n", "cases.csv", "has a header and no rows"),
    "two columns of one name": ("a,b, a\n1,2,3\n", "cases.csv", "two columns are called 'a'"),
    "too many cells": (
        "a,b\n1,x,y\n",
        "cases.csv",
        "line 2: has 3 cells, and the header 2; put a cell that holds a comma",
    ),
    "too few cells": ("a,b\n1,x\n2\n", "cases.csv", "line 3: has 1 cells, and the header 2; write every cell"),
    "an open quote": ('a,b\n1,"x\n2,y\n', "cases.csv", "a quote is opened and never closed"),
    "text after a quote": ('a,b\n"5" disk,x\n', "cases.csv", "line 2: a quoted cell goes on after its closing quote"),
    "a nameless column": ("a,\n1,x\n", "cases.csv", "line 2, column 2: holds 'x'"),
    "a spreadsheet": (b"PK\x03\x04....", "cases.csv", "is a zip archive or a spreadsheet"),
    "lines above the header": (
        "# of May\na,b\n1,x\n",
        "cases.csv",
        "let the first line name the columns, with a comma",
    ),
    "lines below a separator's": ("sep=;\na;b\n1\n", "cases.csv", "line 3: has 1 cells, and the header 2"),
    "an old spreadsheet": (
        b"\xd0\xcf\x11\xe0....",
        "cases.xls",
        "is a spreadsheet or another document of Microsoft Office",
    ),
    "a document": (b"%PDF-1.4\n", "cases.csv", "is a PDF document; save its table as CSV"),
    "gzip": (b"\x1f\x8b....", "cases.csv", "is compressed"),
    "broken JSON": ('{"a": 1}\n{"a": \n', "cases.jsonl", "line 2: is not JSON"),
    "a key twice": ('{"a": 1, "a": 2}\n', "cases.jsonl", "line 1: 'a' stands twice"),
    "a list in a line": ("[1, 2]\n", "cases.jsonl", "line 1: is no object"),
    "an object alone": ('{"a": 1}', "cases.json", "holds no list of cases"),
    "broken parquet": (b"PAR1 and no more", "cases.parquet", "is not a readable parquet file"),
    "CSV called parquet": ("a,b\n1,x\n", "cases.parquet", "is not a readable parquet file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_in_one_line(name, tmp_path):
    text, file, fault = REFUSED[name]
    with pytest.raises(UserError) as error:
        cells(write(tmp_path, text, file))
    assert fault in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / file))


def test_places_that_are_no_file_are_refused(tmp_path):
    for path, fault in ((tmp_path, "is no file"), (tmp_path / "none.csv", "no such file")):
        with pytest.raises(UserError, match=fault):
            cells(path)


def test_a_form_that_is_given_is_not_guessed(tmp_path):
    path = write(tmp_path, "a;b\n1,5;x\n".encode("utf-16-le"))
    assert cells(path, Form("utf-16-le", ";")) == ([{"a": "1,5", "b": "x"}], [])
    with pytest.raises(UserError, match="'utf-99' is no encoding"):
        cells(path, Form("utf-99"))
    with pytest.raises(UserError, match="is not text in ascii"):
        cells(write(tmp_path, "a\nü\n"), Form("ascii"))


NUMBERS = {  # cells of a column: its kind, its values, whether something is said
    ("1", "2", "-3"): ([1, 2, -3], 0),
    ("1.5", "2", ".5", "-1e-3"): ([1.5, 2.0, 0.5, -0.001], 0),
    ("1,5", "2", "-0,25"): ([1.5, 2.0, -0.25], 1),
    ("1,234", "12,345,678", "5"): ([1234, 12345678, 5], 1),
    ("1,234.5", "2", "7.25"): ([1234.5, 2.0, 7.25], 1),
    ("1.234,5", "2,5", "7"): ([1234.5, 2.5, 7.0], 1),
    ("1.234.567", "1.000", "2.000"): ([1234567, 1000, 2000], 1),
    ("5", "NA", "7", "n/a", ""): ([5, None, 7, None, None], 1),
    (" 5", "6 ", "+7"): ([5, 6, 7], 0),
    ("5.0", "6.0"): ([5, 6], 0),
}


@pytest.mark.parametrize("texts", NUMBERS, ids=" ".join)
def test_numbers_are_read_in_any_notation(texts, tmp_path):
    values, n_notes = NUMBERS[texts]
    lines = "".join(f'{{"x": "{text}", "other": "{i % 2}"}}\n' for i, text in enumerate(texts))
    with open_cases(write(tmp_path, lines, "cases.jsonl")) as file:
        column = read_columns(file, ["x"])["x"]
        assert column.kind == "number" and file.select(x=column.values)["x"].to_list() == values
        assert len(column.notes) == n_notes and column.n_missing == values.count(None)


OTHERS = {  # cells of a column: what it is
    ("007", "123", "456"): "choice",  # a code: the zeros say something
    ("12345678901234567890", "1", "2"): "choice",  # more digits than a number has
    ("1e999", "1", "2"): "choice",
    ("yes", "no", "yes"): "choice",
    ("NA", "EU", "NA"): "choice",  # North America, not a missing value
    ("1", "two", "3"): "choice",
    ("12%", "5%", "12%"): "choice",
    ("same", "same", "same"): "constant",
    ("", "", ""): "empty",
    ("5", "5", "5"): "constant",
    ("a\nb", "c\nd", "e"): "text",
    ("x" * 101, "y", "z"): "text",
}


@pytest.mark.parametrize("texts", OTHERS, ids=lambda texts: texts[0][:20] or "empty")
def test_what_is_no_number_is_none(texts, tmp_path):
    frame = pl.DataFrame({"x": texts, "other": ["a", "b", "c"]})
    frame.write_parquet(tmp_path / "cases.parquet")
    with open_cases(tmp_path / "cases.parquet") as file:
        assert read_columns(file, ["x"])["x"].kind == OTHERS[texts]


NEAR_NUMBERS = {  # cells of a column that would be numbers but for some, or for signs: what is said
    ("$0.50", "$1,234.50", "$7"): "because of signs as in row 1: '$0.50'; write numbers alone",
    ("12 %", "5%", "7,5 %"): "because of signs as in row 1: '12 %'",
    ("5", "−6", "(7)"): "because of signs as in row 2: '−6'",
    ("1'234", "2'000", "1\u00a0000"): 'because of signs as in row 1: "1\'234"',
    ("NA", "EUR 5", "EUR 1.234,50"): "because of signs as in row 2: 'EUR 5'",
    ("1", "2.5", "n.v."): "because of 1 of 3 cells, as in row 3: 'n.v.'",
    ("007", "8 $", "9"): None,  # codes
    ("ABC123", "XYZ777", "ABC9"): None,
    ("12.05.2024", "13.05.2024", "01.06.2024"): None,
    ("1", "two", "three"): None,
}


@pytest.mark.parametrize("texts", NEAR_NUMBERS, ids=" ".join)
def test_what_keeps_a_column_from_being_numbers_is_said(texts, tmp_path):
    expected = NEAR_NUMBERS[texts]
    pl.DataFrame({"x": texts, "other": ["a", "b", "c"]}).write_parquet(tmp_path / "cases.parquet")
    with open_cases(tmp_path / "cases.parquet") as file:
        notes = read_columns(file, ["x"])["x"].notes
    assert len(notes) == (expected is not None)
    assert expected is None or expected in notes[0]


def test_amounts_with_a_sign_are_no_identifiers(tmp_path):
    pl.DataFrame({"x": [f"${i}.50" for i in range(60)]}).write_parquet(tmp_path / "cases.parquet")
    with open_cases(tmp_path / "cases.parquet") as file:
        assert read_columns(file, ["x"])["x"].kind == "text"


def test_columns_of_other_types_are_read_or_left_out(tmp_path):
    import datetime

    frame = pl.DataFrame(
        {
            "a": ["x", "y"],
            "wait": [datetime.timedelta(days=1, seconds=5), None],
            "bytes": [b"ab", b"c"],
            "picture": [b"\xff\xd8", b""],
            "pictures": [[b"\xff\xd8"], []],
            "kind": pl.Series(["k", "l"], dtype=pl.Categorical),
            "when": [datetime.datetime(2024, 1, 2, 3), None],
            "price": pl.Series([1.5, 2]).cast(pl.Decimal(8, 2)),
        }
    )
    frame.write_parquet(tmp_path / "cases.parquet")
    found, notes = cells(tmp_path / "cases.parquet")
    assert found == [
        {"a": "x", "wait": "P1DT5S", "bytes": "ab", "kind": "k", "when": "2024-01-02 03:00:00.000000", "price": "1.50"},
        {"a": "y", "wait": None, "bytes": "c", "kind": "l", "when": None, "price": "2.00"},
    ]
    assert [note[:30] for note in notes] == ["left out: column picture, whos", "left out: column pictures, who"]
    frame.select("picture").write_parquet(tmp_path / "cases.parquet")
    with pytest.raises(UserError, match="has no column whose values have a text"):
        cells(tmp_path / "cases.parquet")


def test_identifiers_are_told_from_values(tmp_path):
    n = 60
    frame = pl.DataFrame(
        {
            "claim_id": [i * 977 + 5 for i in range(n)],
            "row": list(range(1000, 1000 + n)),
            "code": [f"X{i * 31 % 97:02}-{i}" for i in range(n)],
            "amount": [i * i * 50 + 3 for i in range(n)],
            "ratio": [i / 7 for i in range(n)],
            "customer_id": [i // 2 * 100 for i in range(n)],
            "story": [f"the case of {i}" for i in range(n)],
            "paid": [i * 13 % 59 for i in range(n)],
            "age": [20 + i * 7 % 61 for i in range(n)],
            "policy_number": [i * i for i in range(n)],
        }
    )
    frame.write_parquet(tmp_path / "cases.parquet")
    with open_cases(tmp_path / "cases.parquet") as file:
        kinds = {name: column.kind for name, column in read_columns(file, file.columns).items()}
    assert kinds == {
        "claim_id": "identifier", "row": "identifier", "code": "identifier", "amount": "number", "ratio": "number",
        "customer_id": "identifier", "story": "text", "paid": "number", "age": "number",
        "policy_number": "identifier",
    }  # fmt: skip


def test_long_fractions_are_shown_with_the_digits_that_tell_them_apart(tmp_path):
    frame = pl.DataFrame(
        {"x": [0.9203980099502488, 0.5, 0.25], "y": [123.456, 7.5, 1.0], "z": [0.00012345678, 0.0002, 0.0001]}
    )
    frame.write_parquet(tmp_path / "cases.parquet")
    with open_cases(tmp_path / "cases.parquet") as file:
        columns = read_columns(file, file.columns)
    assert [columns[name].decimals for name in "xyz"] == [4, 3, 7]
    assert [len(columns[name].notes) for name in "xyz"] == [1, 0, 1]
