"""No page and no chart shows a number that is not finite, and no table holds one."""

import math

import altair as alt
import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import read_table, scan_table, write_table
from hidden_rule.report.charts.files import check_finite
from hidden_rule.report.text import phrases

BAD = [math.nan, math.inf, -math.inf]
SCHEMA = pl.Schema({"name": pl.String, "value": pl.Float64})


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("write", [phrases.percent, phrases.points, phrases.signed, phrases.p_text, phrases.duration])
def test_no_phrase_says_nan(write, value):
    with pytest.raises(UserError, match="report.html: a number to be shown is"):
        write(value)


@pytest.mark.parametrize("value", BAD)
def test_no_chart_draws_it(value):
    spec = {"data": {"values": [{"x": 1.0}, {"x": value}]}}
    with pytest.raises(UserError, match="charts/accuracy: a number to be drawn is not finite"):
        check_finite(spec, "accuracy")
    check_finite(alt.Chart(pl.DataFrame({"x": [1.0, None]})).mark_point().encode(x="x:Q").to_dict(), "accuracy")


@pytest.mark.parametrize("value", BAD)
def test_no_table_holds_it(tmp_path, value):
    path = tmp_path / "table.parquet"
    frame = pl.DataFrame({"name": ["a", "b"], "value": [None, value]}, schema=SCHEMA)
    with pytest.raises(UserError, match=r"table.parquet: column value: is (nan|-?inf) in row 2, where only finite"):
        write_table(frame, path, SCHEMA)
    assert not path.exists()
    frame.write_parquet(path)  # by another program
    for read in (read_table, scan_table):
        with pytest.raises(UserError, match="column value: is .* delete it and run again"):
            read(path, SCHEMA)


@pytest.mark.parametrize("values", [[], [None, None], [1.0, None]])
def test_what_is_undefined_is_null(tmp_path, values):
    frame = pl.DataFrame({"name": ["a"] * len(values), "value": values}, schema=SCHEMA)
    write_table(frame, tmp_path / "table.parquet", SCHEMA)
    assert read_table(tmp_path / "table.parquet", SCHEMA).equals(frame)
    assert scan_table(tmp_path / "table.parquet", SCHEMA).collect().equals(frame)
