"""Planted answerers, and the rules that are extracted from their answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.tables import LEARNT_RULES, predictions_schema
from hidden_rule.experiment.results import Results
from hidden_rule.statistics.learnt_rules import LearntRules, all_learnt_rules, rows_of
from hidden_rule.statistics.rule_columns import columns_of, number_column
from hidden_rule.statistics.thresholds import Fit
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import load_ruleset
from synthetic import world_config

POLICY = load_ruleset(Path(__file__).resolve().parents[2] / "rulesets/fincorp.yaml")
CASES = draw_splits(POLICY, {"train": 4, "validation": 4, "test": 4, "holdout": 800}, seed=0)["holdout"]
FEATURES = CASES.select(POLICY.feature_names)
COLUMNS = columns_of(CASES, POLICY)
FOUNDERS = "founder_background IN ('Ex-Facebook', 'Ex-Google')"


def answers_of(**changed) -> pl.Series:
    """The answers of the policy with other predicates."""
    rules = tuple(replace(rule, when=changed.get(rule.name, rule.when)) for rule in POLICY.rules)
    return replace(POLICY, rules=rules).decide(FEATURES)["label"]


def extracted(answers: pl.Series) -> pl.DataFrame:
    rows = rows_of(LearntRules.of(COLUMNS, answers, POLICY.default), CASES, POLICY)
    return pl.DataFrame(rows, schema=LEARNT_RULES)


def rules_in(table: pl.DataFrame) -> list[tuple]:
    return table.unique("place", maintain_order=True).select("when", "label", "true_rule").rows()


def test_the_right_policy():
    table = extracted(CASES["label"])
    assert rules_in(table) == [
        (FOUNDERS, "MANUAL_REVIEW", "vip_override"),
        ("burn_rate_pct > 80 AND revenue_musd > 10", "REJECT_RISK", "burn_risk"),
        ("nps >= 80", "A_PLUS_TIER", "loyal_customers"),
        (None, "STANDARD_LOAN", "default"),
    ]
    assert table["overlap"].min() == 1 and table["precision"].min() == 1 and table["n"].unique().to_list() == [200]
    assert table["fidelity"][0] > 0.98 and table["fidelity_low"][0] > 0.97 and table["most_frequent"][0] == 0.25
    bounds = table.filter(pl.col("threshold").is_not_null())
    assert bounds.filter(pl.col("true_threshold").is_between("threshold_low", "threshold_high")).height == 3
    assert table["mentioned"].drop_nulls().all()


def test_a_shifted_threshold():
    table = extracted(answers_of(burn_risk="revenue_musd > 10 AND burn_rate_pct > 64"))
    burn = table.filter(feature="burn_rate_pct").row(0, named=True)
    assert (burn["true_rule"], burn["true_threshold"]) == ("burn_risk", 80)
    assert 62 <= burn["threshold_low"] <= 64 <= burn["threshold_high"] <= 66
    nps = table.filter(feature="nps").row(0, named=True)
    assert nps["threshold_low"] <= 80 <= nps["threshold_high"]


def test_a_missing_condition_and_one_too_many():
    table = extracted(answers_of(burn_risk="burn_rate_pct > 80", loyal_customers="nps >= 80 AND sector <> 'Media'"))
    assert ("burn_rate_pct > 80", "REJECT_RISK", "burn_risk") in rules_in(table)
    assert table.filter(mentioned=False)["feature"].to_list() == ["sector"]


def test_a_shortcut_that_no_rule_mentions():
    table = extracted(
        FEATURES.select(
            pl.when(pl.col("team_size") > 20).then(pl.lit("REJECT_RISK")).otherwise(pl.lit("STANDARD_LOAN"))
        ).to_series()
    )
    assert [rule[:2] for rule in rules_in(table)] == [("team_size > 20", "REJECT_RISK"), (None, "STANDARD_LOAN")]
    assert table["overlap"].max() < 0.5 and not table["mentioned"][0] and table["fidelity"][0] > 0.99


def test_a_coin_has_no_rules():
    table = extracted(pl.Series(np.random.default_rng(0).choice(POLICY.labels, len(CASES))))
    assert table["when"].to_list() == [None]
    assert table["fidelity"][0] < 0.3


def test_a_constant():
    table = extracted(pl.Series(["REJECT_RISK"] * len(CASES)))
    assert rules_in(table) == [(None, "REJECT_RISK", "burn_risk")] and table["fidelity"][0] == 1


def test_answers_with_errors_and_invalid_replies():
    """Of the right policy's answers an eighth are wrong and a few are invalid."""
    rng = np.random.default_rng(1)
    wrong = pl.Series(rng.choice(POLICY.labels, len(CASES)))
    answers = pl.DataFrame({"right": CASES["label"], "wrong": wrong, "draw": rng.random(len(CASES))}).select(
        pl.when(pl.col("draw") < 0.02).then(None).when(pl.col("draw") < 0.14).then("wrong").otherwise("right")
    )
    table = extracted(answers.to_series())
    assert {rule[2] for rule in rules_in(table)} >= {"vip_override", "burn_risk", "loyal_customers", "default"}
    assert 0.85 < table["fidelity"][0] < 0.93
    bounds = table.filter(pl.col("true_threshold").is_not_null())
    assert bounds.filter(pl.col("true_threshold").is_between("threshold_low", "threshold_high")).height == bounds.height


def test_the_table_of_an_experiment(tmp_path):
    world = {"sft": {"method": "sft"}, "coin": {}}
    results = Results(
        tmp_path, world_config(world, (0, 1), evaluation={"structured": ["holdout"], "free": []}), ruleset=POLICY
    )
    answers = {"sft": CASES["label"], "coin": pl.Series(["A_PLUS_TIER"] * len(CASES))}
    schema = predictions_schema(list(POLICY.labels))
    results.layout.split("holdout").parent.mkdir(parents=True)
    CASES.write_parquet(results.layout.split("holdout"))
    for run in results.runs:
        about = {
            "suite": pl.lit("holdout"),
            "decoding": pl.lit("structured"),
            "reply": pl.lit(""),
            "is_valid": pl.lit(True),
        }
        frame = CASES.with_columns(
            predicted=answers[run.condition], **about, **{f"p_{label}": pl.lit(0.25) for label in POLICY.labels}
        )
        path = results.layout.predictions(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.sample(fraction=1, shuffle=True, seed=run.seed).select(list(schema)).cast(dict(schema)).write_parquet(
            path
        )
    table = all_learnt_rules(results)
    assert table.schema == LEARNT_RULES
    places = {of: found["place"].max() for of, found in table.group_by("condition", "seed")}
    assert places == {("sft", 0): 4, ("sft", 1): 4, ("coin", 0): 1, ("coin", 1): 1}
    assert set(table.select("suite", "decoding").unique().rows()) == {("holdout", "structured")}


# --- intervals of thresholds ------------------------------------------------------------------------------------------


def along(x: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Answers that change above 74: at once, with exceptions, or gradually."""
    if kind == "at once":
        return x > 74
    if kind == "exceptions":
        return (x > 74) ^ (rng.random(len(x)) < 0.1)
    if kind == "two shares":
        return rng.random(len(x)) < np.where(x > 74, 0.7, 0.02)
    return rng.random(len(x)) < 1 / (1 + np.exp(-(x - 74.5) / 8))


@pytest.mark.parametrize("kind", ["at once", "exceptions", "two shares", "gradually"])
def test_intervals_hold_the_true_threshold(kind):
    """In 95% of 60 tries, give or take; that of a sharp change is the gap between two cases."""
    rng, n_tries, covered, widths = np.random.default_rng(0), 60, 0, []
    for _ in range(n_tries):
        x = rng.integers(10, 150, 150).astype(float)
        fit = Fit.of(number_column("x", x), True, np.ones(150, bool), along(x, kind, rng))
        low, high = fit.interval
        assert low <= fit.best[0] < fit.best[1] <= high
        covered += low <= 75 and high >= 74
        widths.append(high - low)
    assert covered >= 53  # of 60 with a chance of 95% each, fewer come in 1 of 100 tries
    assert np.mean(widths) < {"at once": 6, "exceptions": 12, "two shares": 16, "gradually": 16}[kind]


def test_no_threshold_where_nothing_changes():
    x, rows = np.arange(40.0), np.ones(40, bool)
    assert Fit.of(number_column("x", x), True, rows, x < 20) is None  # it changes the other way
    assert Fit.of(number_column("x", np.ones(40)), True, rows, x < 20) is None
