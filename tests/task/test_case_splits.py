"""Splits of a file of cases: shares of labels, groups, time, columns; nothing on two sides."""

from math import isqrt

import polars as pl
import pytest
from case_files import settings_of, write

from hidden_rule.core.errors import UserError
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.files import ROW
from hidden_rule.task.cases.findings import CASE
from hidden_rule.task.cases.own import read_own_cases
from hidden_rule.task.cases.splits import GROUP, SPLIT, TIME, SplitSettings, fitted_sizes, split_rows
from hidden_rule.task.dataset import SPLITS

USUAL = {"train": 640, "validation": 160, "test": 160, "holdout": 1000}


def cases_of(labels, **columns) -> pl.DataFrame:
    """Cases that all differ, unless `case` says which are equal."""
    n = len(labels)
    case = columns.pop("case", range(n))
    rows = {ROW: range(1, n + 1), CASE: pl.Series(case, dtype=pl.UInt64), "label": labels}
    return pl.DataFrame(rows | columns)


def split(cases: pl.DataFrame, asked: dict | None = None, **changes):
    """Rows of each split, and what is said."""
    settings = SplitSettings(USUAL | (asked or {}), frozenset(asked or ()), changes.pop("seed", 0), **changes)
    return split_rows("cases.csv", cases, settings)


def labels_in(cases: pl.DataFrame, rows: pl.Series) -> dict[str, int]:
    return dict(cases.filter(pl.col(ROW).is_in(rows.implode()))["label"].value_counts().iter_rows())


SIZES = [  # rows, asked for; rows of train, validation, test, holdout
    (1960, {}, (640, 160, 160, 1000)),
    (100_000, {}, (640, 160, 160, 1000)),
    (1000, {}, (400, 100, 100, 400)),
    (20, {}, (8, 2, 2, 8)),
    (1000, {"train": 900}, (900, 16, 16, 66)),
    (1000, {"train": 100, "holdout": 300}, (100, 160, 160, 300)),
]


@pytest.mark.parametrize(("n", "asked", "sizes"), SIZES)
def test_sizes_are_those_asked_for_or_fit_the_file(n, asked, sizes):
    found = fitted_sizes("cases.csv", SplitSettings(USUAL | asked, frozenset(asked), 0), n)
    assert tuple(found[split] for split in SPLITS) == sizes
    with pytest.raises(CaseSettingError) as error:
        fitted_sizes("cases.csv", SplitSettings(USUAL | {"train": 999}, frozenset(["train"]), 0), 1000)
    assert error.value.key == "train" and error.value.remedy == "give at most 997"


def test_labels_have_their_shares_in_every_split_and_rows_stand_in_one():
    cases = cases_of(["no"] * 2095 + ["yes"] * 285)
    rows, lines = split(cases)
    assert {name: len(rows[name]) for name in SPLITS} == USUAL
    assert [labels_in(cases, rows[name])["yes"] for name in SPLITS] == [77, 19, 19, 120]
    assert pl.concat(rows.values()).n_unique() == 1960 and any("420 of 2,380 cases are in no split" in x for x in lines)
    again, _ = split(cases)
    assert all(again[name].equals(rows[name]) for name in SPLITS)
    other, _ = split(cases, seed=1)
    assert not other["train"].sort().equals(rows["train"].sort())


def test_the_rarest_label_is_in_every_split_or_refused():
    cases = cases_of(["a"] * 396 + ["b"] * 4)
    rows, _ = split(cases)
    assert all(labels_in(cases, rows[name])["b"] == 1 for name in SPLITS)
    with pytest.raises(UserError, match="labels: 'b' has 3 cases, and 4 splits need one each"):
        split(cases_of(["a"] * 396 + ["b"] * 3))


def test_fifty_labels_fill_sizes_exactly():
    cases = cases_of([f"L{i % 50:02}" for i in range(5000)])
    rows, _ = split(cases)
    assert {name: len(rows[name]) for name in SPLITS} == USUAL
    assert all(len(labels_in(cases, rows[name])) == 50 for name in SPLITS)


def test_equal_cases_stay_together():
    case = [i // 3 for i in range(900)]
    cases = cases_of(["a", "b", "a"] * 300, case=case)
    rows, _ = split(cases)
    seen = [set(cases.filter(pl.col(ROW).is_in(rows[name].implode()))[CASE]) for name in SPLITS]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert abs(len(rows["train"]) - 360) <= 3


def test_where_few_cases_differ_equal_ones_stand_in_several_splits():
    cases = cases_of(["a", "b"] * 200, case=[i % 8 for i in range(400)])
    rows, lines = split(cases)
    assert sorted(len(rows[name]) for name in SPLITS) == [40, 40, 160, 160]
    assert "there are 8 different cases: equal ones stand in several splits" in lines


def test_no_group_and_no_equal_case_is_on_two_sides():
    n = 1200
    groups = [f"g{i * i % 83}" for i in range(n)]
    cases = cases_of([("a", "b", "c")[i % 3] for i in range(n)], case=[i % 1190 for i in range(n)], **{GROUP: groups})
    rows, lines = split(cases)
    for column in (GROUP, CASE):
        seen = [set(cases.filter(pl.col(ROW).is_in(rows[name].implode()))[column]) for name in SPLITS]
        assert sum(map(len, seen)) == len(set.union(*seen))
    assert "no group of" in lines[0]


def test_later_cases_are_the_test():
    n = 500
    times = [float((i * 37) % n // 5) for i in range(n)]
    cases = cases_of([("a", "b")[i % 2] for i in range(n)], **{TIME: times})
    rows, _ = split(cases)
    spans = {name: cases.filter(pl.col(ROW).is_in(rows[name].implode()))[TIME] for name in SPLITS}
    assert spans["train"].max() < spans["validation"].min() <= spans["validation"].max()
    assert spans["validation"].max() < min(spans["test"].min(), spans["holdout"].min())
    assert len(rows["train"]) == 200 and abs(len(rows["test"]) - 50) <= 5


COLUMNS = [  # what the column says; rows of train, validation, test, holdout
    (["train"] * 60 + ["validation"] * 10 + ["test"] * 10 + ["holdout"] * 20, (60, 10, 10, 20)),
    (["Train"] * 60 + [" dev "] * 10 + ["TEST"] * 30, (60, 10, 6, 24)),
    (["training"] * 50 + ["eval"] * 50, (40, 10, 10, 40)),
    (["train"] * 50 + ["holdout"] * 50, (40, 10, 10, 40)),
]


@pytest.mark.parametrize(("names", "sizes"), COLUMNS)
def test_a_column_says_where_cases_stand(names, sizes):
    rows, _ = split(cases_of(["a", "b"] * 50, **{SPLIT: names}))
    assert tuple(len(rows[name]) for name in SPLITS) == sizes


def test_a_column_with_another_word_or_an_equal_case_on_two_sides():
    with pytest.raises(UserError, match="row 100, data.split: 'tset' is no split"):
        split(cases_of(["a", "b"] * 50, **{SPLIT: ["train"] * 99 + ["tset"]}))
    with pytest.raises(UserError, match="row 1, data.split: is empty"):
        split(cases_of(["a", "b"] * 50, **{SPLIT: [None] + ["train"] * 99}))
    names = ["train"] * 50 + ["validation"] * 10 + ["test"] * 20 + ["holdout"] * 20
    rows, lines = split(cases_of(["a", "b"] * 50, case=[*range(99), 0], **{SPLIT: names}))
    assert 100 not in rows["holdout"] and any("holdout: 1 cases that equal one" in line for line in lines)


def test_a_balanced_training_split_leaves_the_others_their_shares():
    cases = cases_of(["no"] * 2095 + ["yes"] * 285)
    rows, _ = split(cases, balance=True)
    assert labels_in(cases, rows["train"]) == {"no": 127, "yes": 127}
    assert labels_in(cases, rows["holdout"]) == {"no": 880, "yes": 120}
    rows, _ = split(cases, {"train": 100}, balance=True)
    assert labels_in(cases, rows["train"]) == {"no": 50, "yes": 50}


TIMES = {  # how the ten last of 40 cases are dated; whether they are read as later
    "iso": "2024-{:02}-01",
    "iso with hours": "2024-{:02}-01T10:00:00Z",
    "points": "01.{:02}.2024",
    "months": "2024-{:02}",
    "numbers": "{:02}",
    "day first": "31/{:02}/2024",
}


@pytest.mark.parametrize("name", TIMES)
def test_dates_are_read_in_usual_ways(name, tmp_path):
    months = [1, 3, 5, 7, 8, 10, 12]
    rows = [f"{i * i},{TIMES[name].format(months[i % 7])},{'ab'[i % 2]}" for i in range(70)]
    path = write(tmp_path, "x,when,decision\n" + "\n".join(rows) + "\n")
    own = read_own_cases(
        settings_of(path, time="when", asked={"train": 30, "validation": 10, "test": 10, "holdout": 20})
    )
    assert {months[isqrt(x) % 7] for x in own.splits["train"]["x"]} == {1, 3, 5}
    assert {months[isqrt(x) % 7] for x in own.splits["holdout"]["x"]} <= {8, 10, 12}


def test_what_is_no_time_is_refused_with_its_row(tmp_path):
    def read(times):
        rows = [f"{i * i},{time},{'ab'[i % 2]}" for i, time in enumerate(times)]
        read_own_cases(settings_of(write(tmp_path, "x,when,decision\n" + "\n".join(rows)), time="when"))

    with pytest.raises(UserError, match=r"row 5 \(line 6\), column when: 'soon' is no time"):
        read(["2024-01-01"] * 4 + ["soon"] * 40)
    with pytest.raises(UserError, match="'03/04/2024' may begin with the day or with the month"):
        read(["03/04/2024", "05/06/2024"] * 20)
    with pytest.raises(CaseSettingError, match=r"row 2 \(line 3\), column when: is empty"):
        read(["2024-01-01", "", "2024-01-01"] * 20)
