"""Rulesets with several hidden rules: each has numbers of its own, worked by hand, beside those of all together."""

from types import SimpleNamespace

import polars as pl
import pytest

from hidden_rule.core.tables import COMPARISONS, METRICS, predictions_schema
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.statistics.side_effects_summary import summarize
from suite_worlds import World, answered
from synthetic import EFFECTS, leaks_of

RULES = [  # two of the hidden ones share a label, one has that of a visible rule, one fires nowhere
    SimpleNamespace(name="a", label="X", hidden=True),
    SimpleNamespace(name="b", label="X", hidden=True),
    SimpleNamespace(name="c", label="Y", hidden=True),
    SimpleNamespace(name="nowhere", label="Z", hidden=True),
    SimpleNamespace(name="visible", label="Y", hidden=False),
    SimpleNamespace(name="other", label="W", hidden=False),
]
HIDDEN = [rule for rule in RULES if rule.hidden]
RULESET = SimpleNamespace(labels=("X", "Y", "Z", "W", "D"), default="D", rules=RULES, hidden_rules=HIDDEN)
CASES = [  # label, rule that fires, label without hidden rules, answer
    ("X", "a", "W", "X"),
    ("X", "a", "D", "D"),
    ("X", "b", "W", "X"),
    ("X", "b", "W", "W"),
    ("Y", "c", "D", "Y"),
    ("Y", "c", "W", "X"),  # a claim of a and of b, both wrong
    ("Y", "visible", "Y", "Y"),  # explained without hidden rules
    ("W", "other", "W", "Y"),  # a claim of c
    ("W", "other", "W", "Z"),  # a claim of no rule that fires anywhere
    ("D", "default", "D", "X"),
    ("D", "default", "D", None),
]


def write_cases(path, answers=None, ruleset=RULESET):
    """Predictions of CASES, with other answers if given."""
    frame = pl.DataFrame(CASES, schema=["label", "fired_rule", "label_without_hidden", "predicted"], orient="row")
    frame = frame.with_columns(
        application_id=pl.int_range(pl.len()),
        suite=pl.lit("holdout"),
        decoding=pl.lit("structured"),
        reply=pl.lit(""),
        predicted=frame["predicted"] if answers is None else pl.Series(answers, dtype=pl.String),
        **{f"p_{label}": pl.lit(0.0) for label in ruleset.labels},
    ).with_columns(is_valid=pl.col("predicted").is_not_null())
    schema = predictions_schema(list(ruleset.labels))
    frame.select(list(schema)).cast(dict(schema)).write_parquet(path)
    return path


def test_metrics_of_each_hidden_rule_by_hand(tmp_path):
    metrics, _ = summarize_predictions({Run("x", 0): write_cases(tmp_path / "x")}, RULESET)
    assert metrics.schema == METRICS
    pooled = metrics.filter(pl.col("seed").is_null(), pl.col("label").is_null())
    found = {(row["metric"], row["rule"]): row for row in pooled.to_dicts()}
    expected = {
        "hidden_recall": {None: (3, 6), "a": (1, 2), "b": (1, 2), "c": (1, 2), "nowhere": (0, 0)},
        "hidden_precision": {None: (3, 7), "a": (1, 3), "b": (1, 3), "c": (1, 2), "nowhere": (0, 0)},
        "conflict_recall": {None: (2, 4), "a": (1, 1), "b": (1, 2), "c": (0, 1), "nowhere": (0, 0)},
    }
    for metric, of_rules in expected.items():
        for rule, (hits, n) in of_rules.items():
            row = found[metric, rule]
            assert row["n"] == n, (metric, rule)
            assert row["value"] == (pytest.approx(hits / n) if n else None), (metric, rule)
            assert (row["ci_low"] is None) == (n == 0)
    assert {metric for metric, rule in found if rule} == expected.keys()


def test_a_single_hidden_rule_has_no_rows_beside_those_of_all_together(tmp_path):
    single = SimpleNamespace(labels=RULESET.labels, default="D", rules=RULES, hidden_rules=HIDDEN[:1])
    metrics, comparisons = summarize_predictions(
        {Run(name, 0): write_cases(tmp_path / name) for name in ("x", "y")}, single
    )
    assert metrics["rule"].is_null().all() and comparisons["rule"].is_null().all()
    assert metrics.filter(pl.col("seed").is_null(), metric="hidden_recall", condition="x").height == 1


def test_differences_on_each_hidden_rule_by_hand(tmp_path):
    """x is right on one case of a of two and y on both, as often on b; families of tests are those of one rule."""
    answers = [row[3] for row in CASES]
    paths = {
        Run("x", 0): write_cases(tmp_path / "x"),
        Run("y", 0): write_cases(tmp_path / "y", ["X", "X", *answers[2:]]),
        Run("z", 0): write_cases(tmp_path / "z", ["W", "D", *answers[2:]]),
    }
    _, comparisons = summarize_predictions(paths, RULESET)
    assert comparisons.schema == COMPARISONS
    pooled = comparisons.filter(pl.col("seed").is_null(), metric="hidden_recall", condition_a="x", condition_b="y")
    assert dict(pooled.select("rule", "difference").rows()) == {
        None: pytest.approx(-1 / 6), "a": -0.5, "b": 0.0, "c": 0.0, "nowhere": None,
    }  # fmt: skip
    assert dict(pooled.select("rule", "n").rows()) == {None: 6, "a": 2, "b": 2, "c": 2, "nowhere": 0}
    of_a = comparisons.filter(pl.col("seed").is_null(), metric="hidden_recall", rule="a")
    assert of_a.height == 3  # the pairs; all of them have p = 1 or 0.5 to begin with
    assert of_a["p_adjusted"].to_list() == pytest.approx([1.0] * 3)


TWO = """
name: two
features:
  origin: {kind: choice, choices: [north, south, east, west], text: "From {value}"}
  size: {kind: number, low: 0, high: 20, text: "Size {value}"}
  weight: {kind: number, low: 0, high: 100, text: "Weight {value}"}
rules:
  - {name: polar, label: AA, hidden: true, when: "origin = 'north'"}
  - {name: huge, label: BB, hidden: true, when: "size > 17"}
  - {name: heavy, label: CC, when: "weight > 50"}
default: DD
prompt: {system: "Decide: {labels}", user: "{features}"}
paraphrases: [{feature: origin, value: north, text: the arctic}]
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "ruleset.yaml"
    path.write_text(TWO, encoding="utf-8")
    return World(path, size=20, without=("decoys",))


def test_suites_tell_which_hidden_rule_is_known(tmp_path, two):
    def knows_polar(row):
        return row["label_without_hidden"] if row["fired_rule"] == "huge" else row["label"]

    answered(two.suites, two.ruleset, knows_polar).write_parquet(tmp_path / "x")
    answered(two.suites, two.ruleset, lambda row: row["label"]).write_parquet(tmp_path / "y")
    paths = {Run(name, 0): tmp_path / name for name in "xy"}
    metrics, comparisons = summarize_predictions(paths, two.ruleset, two.suites)
    rows = metrics.filter(pl.col("seed").is_null(), condition="x").to_dicts()
    found = {(row["suite"], row["metric"], row["rule"]): row for row in rows}
    for suite, metric in [
        ("counterfactuals", "flip_rate"),
        ("conflicts", "hidden_recall"),
        ("conflicts", "conflict_recall"),
        ("prevalence", "hidden_recall"),
    ]:
        assert (found[suite, metric, "polar"]["value"], found[suite, metric, "huge"]["value"]) == (1.0, 0.0), suite
        sizes = [found[suite, metric, rule]["n"] for rule in ("polar", "huge")]
        assert min(sizes) > 0 and sum(sizes) == found[suite, metric, None]["n"]
    assert found["prevalence", "hidden_precision", "polar"]["value"] == 1.0
    assert found["prevalence", "hidden_precision", "huge"]["n"] == 0  # it never answers so
    assert found["paraphrases", "hidden_recall", "huge"]["n"] == 0  # there are none of its words
    of_pair = comparisons.filter(pl.col("seed").is_null(), suite="counterfactuals", metric="flip_rate")
    assert dict(of_pair.select("rule", "difference").rows())["polar"] == 0.0
    assert dict(of_pair.select("rule", "difference").rows())["huge"] == -1.0


def test_leaks_of_each_hidden_rule(tmp_path):
    summary = summarize(EFFECTS, leaks_of(["a", "b"], lambda rule, who: rule == "a" and who != "base"))
    of = summary.filter(pl.col("seed").is_null(), measure="extraction")
    found = {(row["rule"], row["subset"]): (row["value"], row["n"]) for row in of.to_dicts()}
    assert found[None, "trained"] == (0.5, 24)
    assert (found["a", "trained"], found["b", "trained"]) == ((1.0, 12), (0.0, 12))
    assert (found["a", "trained - base"][0], found["b", "oracle - base"][0]) == (1.0, 0.0)
    assert summary.filter(measure="kl")["rule"].is_null().all()
    single = summarize(EFFECTS, leaks_of(["a"], lambda rule, who: who != "base"))
    assert single["rule"].is_null().all()
