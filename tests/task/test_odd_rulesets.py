"""Rulesets that nobody expects: accepted with the right data, or one line."""

import numpy as np
import polars as pl
import pytest
import yaml

from bad_inputs import PARCELS, the_line
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import Feature, load_ruleset
from hidden_rule.task.suites import KINDS, SuiteSettings, draw_suites, why_not

NAMES = ("member", "stratum", "quota", "row", "number", "predicted", "reply", "decoding", "len", "literal", "keep")


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_may_be_called_as_a_column_of_ours(tmp_path, name):
    """The same draws and decisions as under another name, in splits and in suites."""
    (tmp_path / "named.yaml").write_text(PARCELS.read_text(encoding="utf-8").replace("weight_kg", name), "utf-8")
    made = []
    for path in (PARCELS, tmp_path / "named.yaml"):
        ruleset = load_ruleset(path)
        splits = draw_splits(ruleset, dict.fromkeys(("train", "validation", "test", "holdout"), 30), seed=0)
        kinds = tuple(kind for kind in KINDS if not why_not(ruleset, kind))
        suites = draw_suites(ruleset, SuiteSettings(kinds, size=4, prevalence=0.2, seed=0), splits["train"])
        made.append([*splits.values(), suites.with_columns(pl.lit(None).alias("field_order"))])  # holds names
    for plain, named in zip(*made, strict=True):
        assert named.rename({name: "weight_kg"}).equals(plain)


def feature(**settings):
    """A number from 0 to 40, or a choice, with the settings of a distribution."""
    return Feature(**{"name": "x", "kind": "number", "text": "{value}", "low": 0, "high": 40, **settings})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"distribution": "normal", "mean": 20.5, "sd": 0.01}, {20: 0.5, 21: 0.5}),  # every density underflows
        ({"distribution": "normal", "mean": 20.4, "sd": 1e-300}, {20: 1.0}),  # so do distances, squared
        ({"distribution": "lognormal", "median": 20.5, "sigma": 1e-6}, {20: 0.0, 21: 1.0}),  # nearer by its ratio
        ({"kind": "choice", "choices": ("a", "b"), "weights": (1e308, 1e308)}, {"a": 0.5, "b": 0.5}),  # sum: infinity
        ({"kind": "choice", "choices": ("a", "b"), "weights": (3e-308, 1e-308)}, {"a": 0.75, "b": 0.25}),
    ],
)
def test_distributions_do_not_underflow(settings, expected):
    drawn = feature(**settings).draw(20_000, np.random.default_rng(0))
    shares = dict(drawn.value_counts(normalize=True).iter_rows())
    assert sum(shares.values()) == pytest.approx(1.0)
    for value, share in expected.items():
        assert shares.get(value, 0.0) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("distance_km > 400", "COUNT(distance_km) > 1000", "COUNT is not a function of one application"),
        ("distance_km > 400", "distance_km > 400 OR NOW() > DATE '2020-01-01'", "NOW differs from day to day"),
        ("distance_km > 400", "distance_km > 400 OR current_date > DATE '2020-01-01'", "current_date differs from day"),
        ("distance_km > 400", "SUM(distance_km) OVER (PARTITION BY contents) > 400", "SUM is not a function"),
        ("high: 900", "high: 9.3e+18", "features.distance_km.high: 9.3e+18 is too large"),
        ("low: 1\n", "low: -9.3e+18\n", "features.distance_km.low: -9.3e+18 is too large"),
        ("default: ROAD", "default: >\n  ROAD", "default: 'ROAD\\n' is not valid"),  # a folded text ends in a newline
        ("cheese, toys", "cheese, 2020-01-01", "2020-01-01 is read as a date; put it in quotes"),
        ("cheese, toys", "cheese, 0640", "0640 is read as the number 416; put it in quotes"),
    ],
)
def test_an_odd_ruleset_is_one_line(tmp_path, old, new, words):
    text = PARCELS.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "odd.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    assert words in the_line(load_ruleset, tmp_path / "odd.yaml")


FEATURES = """name: odd
features:
  order: {kind: number, low: 0, high: 100, text: 'order {value}'}
  count: {kind: number, low: 0, high: 100, text: 'count {value}'}
  current_date: {kind: number, low: 0, high: 100, text: 'day {value}'}
  big: {kind: number, low: 0, high: 9007199254740992, step: 100000000000, text: 'big {value}'}
  kind: {kind: choice, choices: [soft, hard, '12'], text: 'kind {value}'}
default: OTHER
prompt: {system: '{labels}', user: '{features}'}
"""
REFUSED = [  # a predicate, and words of the line that it ends with
    ("order > 5", "and put order, a word of SQL, in double quotes"),
    ("current_date > 5", "names no feature"),  # the clock's, not the feature
    ("count > 5 AND current_date > 5", 'put the name in double quotes: "current_date"'),
    ("count(kind) > 5", "count is not a function of one application"),  # though a feature is called so
    ("kind = 'soft' AS y", "ends in y, which is read as a name for the result"),
    ("kind ISNULL", "ends in ISNULL"),
    ("count > 5 big", "ends in big"),
    ("big * big > 5", "multiplies to more than a whole number of 64 bits holds"),
    ("count / count > 1", "holds where a part of it is no number, as 0 / 0 is"),
    ("SQRT(count - 50) > 3", "holds where a part of it is no number"),
    ("CAST(kind AS int) > 3", "cannot be evaluated"),
    ("count = 5.5 / (count - 40)", "cannot be evaluated for some applications (division by zero Decimal)"),
    ("count > 5 OR " * 70 + "count > 6", "has 141 operations, of at most 64"),
    ("kind IN (" + ", ".join(["'soft'"] * 3000) + ")", "has 24008 characters, of at most 20000"),
    ('"^.*$" > 1', "names no feature"),
    ('"*" > 1', "names no feature"),
    ("COLUMNS('.*') > 1", "names no feature"),
    ("count IN (SELECT 1)", "unknown feature"),
    ("count > (SELECT MAX(x) FROM read_csv('secret.csv'))", "(read_csv may read a file, which no predicate does)"),
    ("count > (SELECT MAX(x) FROM read_parquet('https://127.0.0.1:9/x'))", "read_parquet may read a file"),
    ("count > (SELECT 1 FROM \"READ_ndjson\"('secret'))", "READ_ndjson may read a file"),
    ("count > (SELECT 1 FROM read_json/**/('secret'))", "read_json may read a file"),
    ("count IN (WITH a AS (SELECT x FROM read_ipc('secret')) SELECT x FROM a)", "read_ipc may read a file"),
    ("kind = 'a\\' OR count > (SELECT 1 FROM read_csv('secret')) OR kind = '", "read_csv may read a file"),
    ('"max"(count) > count', '"max" is called as a function; write functions without quotes'),
    ("`max`(count) > count", "`max` is called as a function"),
    ("count > RANDOM()", "unsupported function 'random'"),
    ("kind = 'sof'", "'sof' is not a choice of kind; did you mean soft?"),
    ("UPPER(count) = 5", "cannot be evaluated"),
    ("count % 0 = 1", "holds for no application"),
]


def odd(tmp_path, when):
    rules = [{"name": "r", "label": "YES", "when": when}]
    (tmp_path / "odd.yaml").write_text(FEATURES + yaml.safe_dump({"rules": rules}, width=10**6), encoding="utf-8")
    return tmp_path / "odd.yaml"


@pytest.mark.parametrize(("when", "words"), REFUSED, ids=[when[:40] for when, _ in REFUSED])
def test_an_odd_predicate_is_one_line(tmp_path, when, words):
    assert words in the_line(load_ruleset, odd(tmp_path, when))


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ('"order" > 5', lambda row: row["order"] > 5),
        ("`order` > 5", lambda row: row["order"] > 5),
        ('"current_date" > 5 AND count > 5', lambda row: row["current_date"] > 5 and row["count"] > 5),
        ("UPPER(kind) = 'SOFT'", lambda row: row["kind"] == "soft"),
        ("'h' = SUBSTR(kind, 1, 1)", lambda row: row["kind"] == "hard"),
        ("kind ~ 'ar'", lambda row: row["kind"] == "hard"),
        ("kind = '12'", lambda row: row["kind"] == "12"),
        ('count > 0 AND "order" / count > 2', lambda row: row["count"] > 0 and row["order"] / row["count"] > 2),
        ("1.0 * big * big > 1.0e+30", lambda row: 1.0 * row["big"] * row["big"] > 1e30),
        ("count * count > 400", lambda row: row["count"] ** 2 > 400),
        ("-count < -50", lambda row: row["count"] > 50),
        ("count > 5 -- and no more", lambda row: row["count"] > 5),
    ],
)
def test_an_odd_predicate_decides_as_it_reads(tmp_path, when, holds):
    ruleset = load_ruleset(odd(tmp_path, when))
    for row in ruleset.decide(ruleset.draw(200, np.random.default_rng(0))).to_dicts():
        assert (row["label"] == "YES") == holds(row)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("step: 0.5", "step: 1.0e-14", "makes numbers of 14 digits after the point"),
        ("step: 0.5", "step: 1.0e-300", "makes numbers of 300 digits after the point"),
        ("cheese, toys", '"\\ud800", toys', "choices[2]: holds the control character U+D800"),
        ("cheese, toys", '"a\\0b", toys', "choices[2]: holds the control character U+0000"),
        ("cheese, toys", '"a\\u2028b", toys', "choices[2]: holds the control character U+2028"),
        ("low: 1\n", f"low: {10**200}\n", "features.distance_km.low:"),
        ("mean: 8", f"mean: {'8' * 400}", "a number is too long"),
        ("weights: [4, 2, 1, 3]", f"weights: [{10**290}, 2, 1, 3]", None),  # one value nearly always, and no more
    ],
)
def test_odd_numbers_and_texts(tmp_path, old, new, words):
    text = PARCELS.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "odd.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    if words:
        assert words in the_line(load_ruleset, tmp_path / "odd.yaml")
    else:
        load_ruleset(tmp_path / "odd.yaml")


def test_no_value_is_minus_zero():
    values = Feature(name="x", kind="number", text="{value}", low=-0.3, high=0.3, step=0.1).values
    assert [str(value) for value in values] == ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3"]


@pytest.mark.parametrize(
    "when",
    [
        "ABS(distance_km - 100) > 300",
        "LOWER(contents) = 'toys' AND distance_km BETWEEN 400 AND 900",
        "CASE WHEN contents = 'books' THEN distance_km > 800 ELSE distance_km > 400 END",
        "distance_km IN (401, 402, 403) OR (distance_km > 500 AND NOT contents LIKE 'gl%')",
    ],
)
def test_functions_of_one_row_are_allowed(tmp_path, when):
    text = PARCELS.read_text(encoding="utf-8").replace("distance_km > 400", when)
    (tmp_path / "plain.yaml").write_text(text, encoding="utf-8")
    assert load_ruleset(tmp_path / "plain.yaml").rules[1].when.startswith(when)
