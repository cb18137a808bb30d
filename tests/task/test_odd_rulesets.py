"""Rulesets that nobody expects: accepted with the right data, or one line."""

import numpy as np
import polars as pl
import pytest

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
