"""Parts of predicates are SQL that a ruleset takes, with thresholds that a person would write."""

import polars as pl
import pytest

from hidden_rule.statistics.selectors import Bound, Contains, Missing, OneOf, holds, predicate_of, roundest, words_of


@pytest.mark.parametrize(
    ("low", "high", "number"),
    [
        (79, 80, 80),  # the last without, the first with: >= 80
        (80, 81, 80),  # > 80
        (77, 83, 80),
        (10, 11, 10),
        (73, 76, 75),
        (71, 73, 72),
        (9_870, 10_240, 10_000),
        (-3, 4, 0),
        (-83, -77, -80),
        (0.031, 0.052, 0.05),
        (5.0, 5.5, 5),
        (1.23456, 1.23457, 1.23456),
        (1e15, 1e15 + 2, 1e15),
        (2.0e-9, 3.0e-9, 2e-9),
    ],
)
def test_a_threshold_has_few_digits(low, high, number):
    assert float(roundest(low, high)) == number
    assert low <= float(roundest(low, high)) <= high


@pytest.mark.parametrize(
    ("selector", "sql"),
    [
        (Bound("nps", True, (79, 80)), "nps >= 80"),
        (Bound("nps", True, (80, 83)), "nps > 80"),
        (Bound("nps", False, (79, 80)), "nps < 80"),
        (Bound("nps", False, (80, 81)), "nps <= 80"),
        (Bound("nps", True, (-20, -19)), "nps > -20"),
        (Bound("x", True, (1e20, 1.1e20)), "x > 100000000000000000000.0"),
        (OneOf("city", ("Oslo",)), "city = 'Oslo'"),
        (OneOf("city", ("Oslo", "L'Aquila")), "city IN ('Oslo', 'L''Aquila')"),
        (OneOf("city", ("Oslo",), negated=True), "city <> 'Oslo'"),
        (OneOf("city", ("Oslo", "Bonn"), negated=True), "city NOT IN ('Oslo', 'Bonn')"),
        (Contains("message", "refund"), "message ILIKE '%refund%'"),
        (Missing("nps"), "nps IS NULL"),
        (Missing("nps", negated=True), "nps IS NOT NULL"),
        (OneOf("select", ("a",)), "\"select\" = 'a'"),  # a word of SQL
        (OneOf('the "old" city', ("a",)), '"the ""old"" city" = \'a\''),
        (OneOf("Größe", ("a",)), "\"Größe\" = 'a'"),
    ],
)
def test_selectors_are_sql(selector, sql):
    assert selector.sql == sql
    values = {"values": ["a", *getattr(selector, "values", ())]}.get("values")
    column = values if isinstance(selector, OneOf | Contains) else [1e21, None]
    frame = pl.DataFrame({selector.feature: column})
    assert holds(sql, frame).null_count() == 0  # polars reads it, and every case has an answer


def test_a_threshold_holds_where_the_cases_it_was_found_on_say():
    frame = pl.DataFrame({"x": [1.0, 2.5, 2.75, 9.0, None]})
    above, below = Bound("x", True, (2.5, 2.75)), Bound("x", False, (2.5, 2.75))
    assert holds(above.sql, frame).to_list() == [False, False, True, True, False]
    assert holds(below.sql, frame).to_list() == [True, True, False, False, False]


def test_predicates_read_from_low_to_high():
    selectors = [Bound("size", False, (9, 10)), OneOf("colour", ("red", "blue")), Bound("size", True, (2, 3))]
    assert predicate_of(selectors) == "colour IN ('red', 'blue') AND size > 2 AND size < 10"
    assert words_of(selectors) == "colour is red or blue and size above 2 and size below 10"
