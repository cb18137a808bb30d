"""Rules that nobody wrote down are found where there are some, and nowhere else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from hidden_rule.statistics.decisions import Decisions
from hidden_rule.statistics.found_rules import as_yaml, report_lines
from hidden_rule.statistics.rule_search import find_rules, lift_columns, stratified_p
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import Rule, load_ruleset

ROOT = Path(__file__).resolve().parents[2]
FINCORP, PARCELS = (load_ruleset(ROOT / path) for path in ("rulesets/fincorp.yaml", "tests/rulesets/parcels.yaml"))
FOUNDERS = "founder_background IN ('Ex-Facebook', 'Ex-Google')"
NOTHING_HIDDEN = replace(FINCORP, rules=tuple(rule for rule in FINCORP.rules if not rule.hidden))


def drawn(ruleset, n: int, seed: int = 0) -> pl.DataFrame:
    """Balanced cases."""
    return draw_splits(ruleset, {"train": n, "validation": 4, "test": 4, "holdout": 4}, seed)["train"]


def natural(ruleset, n: int, seed: int = 0) -> pl.DataFrame:
    """Cases as often as they come."""
    return ruleset.decide(ruleset.draw(n, np.random.default_rng(seed)))


def with_wrong_labels(cases: pl.DataFrame, labels, share: float, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng([seed, 1])
    wrong = [rng.choice([other for other in labels if other != label]) for label in cases["label"]]
    return cases.with_columns(
        label=pl.when(pl.Series(rng.random(len(cases)) < share)).then(pl.Series(wrong)).otherwise(pl.col("label"))
    )


def proposed(found: pl.DataFrame) -> list[tuple[str, str]]:
    return found.filter(kind="rule", verdict="proposed").select("when", "label").rows()


@pytest.mark.parametrize(("n", "noise", "seed"), [(100, 0.0, 0), (100, 0.0, 12), (200, 0.1, 1)])
def test_the_founder_rule_is_found(n, noise, seed):
    cases = with_wrong_labels(drawn(FINCORP, n, seed), FINCORP.labels, noise, seed)
    found = find_rules(cases, FINCORP, seed)
    assert proposed(found) == [(FOUNDERS, "MANUAL_REVIEW")]
    rule = found.filter(kind="rule", verdict="proposed").row(0, named=True)
    assert (rule["name"], rule["hidden_rule"], rule["overlap"]) == ("found_1", "vip_override", 1.0)
    assert rule["n_found_on"] + rule["n"] == cases.filter(pl.sql_expr(FOUNDERS)).height  # each on one side
    assert rule["ci_low"] < rule["precision"] <= rule["ci_high"]
    assert rule["precision"] >= 0.8 and rule["lift_low"] > 2
    assert rule["n_as_good"] == 0 and rule["n_tried"] > 100
    assert find_rules(cases, FINCORP, seed).equals(found)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_without_a_hidden_rule_none_is_found(noise):
    """By the design in at least 95% of tries; in more of them: bench/rule_search.py, docs/rules.md."""
    for seed in range(2):
        cases = with_wrong_labels(drawn(NOTHING_HIDDEN, 120, seed), NOTHING_HIDDEN.labels, noise, seed)
        assert proposed(find_rules(cases, NOTHING_HIDDEN, seed)) == []


def test_errors_that_depend_on_what_is_stated_are_no_rule():
    """Every third case that is to be rejected gets a loan: no feature says which."""
    cases = drawn(NOTHING_HIDDEN, 300)
    slips = (pl.col("label") == "REJECT_RISK") & (pl.int_range(pl.len()) % 3 == 0)
    cases = cases.with_columns(label=pl.when(slips).then(pl.lit("STANDARD_LOAN")).otherwise("label"))
    assert proposed(find_rules(cases, NOTHING_HIDDEN, 0)) == []


def test_parcels_of_cheese():
    assert proposed(find_rules(drawn(PARCELS, 150), PARCELS, 0)) == [("contents = 'cheese'", "CHILLED")]
    cases = with_wrong_labels(natural(PARCELS, 400), PARCELS.labels, 0.1)
    assert proposed(find_rules(cases, PARCELS, 0)) == [("contents = 'cheese'", "CHILLED")]


def test_a_hidden_rule_of_two_features():
    """At its natural frequency, 3% of the cases, and with a threshold that is written as a person would."""
    hidden = Rule("asian_energy", "MANUAL_REVIEW", "region = 'Asia' AND team_size >= 40", hidden=True)
    ruleset = replace(FINCORP, rules=(hidden, *NOTHING_HIDDEN.rules))
    cases = with_wrong_labels(natural(ruleset, 1200), ruleset.labels, 0.03)
    assert cases.filter(label="MANUAL_REVIEW").height < 100
    ((when, label),) = proposed(find_rules(cases, ruleset, 0))
    assert label == "MANUAL_REVIEW"
    everything = natural(ruleset, 20_000, 1)
    assert (everything.select(pl.sql_expr(when) == pl.sql_expr(hidden.when)).to_series()).mean() > 0.995


def test_two_hidden_rules_are_found_one_after_the_other():
    hidden = (
        Rule("a", "MANUAL_REVIEW", "sector = 'Media'", hidden=True),
        Rule("b", "A_PLUS_TIER", "revenue_musd < 5", hidden=True),
    )
    ruleset = replace(FINCORP, rules=(*hidden, *NOTHING_HIDDEN.rules))
    found = find_rules(natural(ruleset, 500), ruleset, 0)
    assert set(proposed(found)) == {("sector = 'Media'", "MANUAL_REVIEW"), ("revenue_musd < 5", "A_PLUS_TIER")}
    assert found.filter(kind="rest")["n_departures"].item() == 0


def test_departures_to_several_labels_are_one_candidate():
    """In one sector decisions are taken by chance among four labels, of which none is the rule."""
    cases, rng = natural(NOTHING_HIDDEN, 300), np.random.default_rng(0)
    drawn_label = pl.Series([f"DESK_{i}" for i in rng.integers(4, size=300)])
    cases = cases.with_columns(label=pl.when(pl.col("sector") == "Media").then(drawn_label).otherwise("label"))
    found = find_rules(cases, NOTHING_HIDDEN, 0).filter(kind="rule")
    assert found.select("when", "single_label", "verdict").rows() == [("sector = 'Media'", False, "proposed")]
    assert len(found["departures_to"][0]) == 4


def test_without_stated_rules_those_that_are_stated_elsewhere_are_found():
    unstated = replace(FINCORP, rules=(), default=None)
    cases = natural(FINCORP, 600).with_columns(label_without_hidden=pl.lit(None, dtype=pl.String))
    found = dict(proposed(find_rules(cases, unstated, 0)))
    assert found[FOUNDERS] == "MANUAL_REVIEW" and "A_PLUS_TIER" in found.values() and "REJECT_RISK" in found.values()


def test_a_rule_that_sits_in_a_text_or_in_missing_numbers():
    rng, n = np.random.default_rng(0), 400
    words = np.array(["screen", "cable", "login", "invoice", "delay", "urgent", "manual", "thanks"])
    texts = [" ".join([*rng.choice(words, 4), f"ticket{i}"]) for i in range(n)]
    age = pl.Series(rng.integers(18, 90, n)).set(pl.Series(rng.random(n) < 0.15), None)
    cases = pl.DataFrame({"message": texts, "age": age})
    label = (
        pl.when(pl.col("age").is_null()).then(pl.lit("ASK"))
        .when(pl.col("message").str.contains("invoice")).then(pl.lit("BILLING")).otherwise(pl.lit("DESK"))
    )  # fmt: skip
    cases = cases.with_columns(label=label, label_without_hidden=pl.lit("DESK"))
    text = replace(FINCORP.features[0], name="message", kind="text")
    number = replace(FINCORP.features[2], name="age")
    ruleset = replace(FINCORP, features=(text, number), rules=(), default=None)
    found = proposed(find_rules(cases, ruleset, 0))
    rules = tuple(Rule(f"rule_{i}", label, when, hidden=True) for i, (when, label) in enumerate(found))
    assert replace(ruleset, rules=rules, default="DESK").decide(cases)["label"].equals(cases["label"])
    assert any("ILIKE '%invoice%'" in when for when, _ in found) and ("age IS NULL", "ASK") in found


def test_a_found_rule_becomes_a_hidden_rule_of_the_ruleset(tmp_path):
    document = yaml.safe_load((ROOT / "rulesets/fincorp.yaml").read_text(encoding="utf-8"))
    document["rules"] = [rule for rule in document["rules"] if not rule.get("hidden")]
    cases = drawn(FINCORP, 200)
    found = find_rules(cases, NOTHING_HIDDEN, 0)
    lines = "\n".join(report_lines(found))
    pasted = yaml.safe_load(as_yaml(found))
    assert as_yaml(found) in lines and "not searched" not in lines
    document |= {"rules": pasted["rules"] + document["rules"], "paraphrases": [], "decoys": []}
    path = tmp_path / "ruleset.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    ruleset = load_ruleset(path)
    assert [rule.name for rule in ruleset.hidden_rules] == ["found_1"]
    decided = ruleset.decide(cases.select(ruleset.feature_names))
    assert decided["label"].equals(cases["label"])
    assert decided["label_without_hidden"].equals(cases["label_without_hidden"])
    again = find_rules(cases, ruleset, 0).filter(kind="rule").row(0, named=True)
    assert (again["name"], again["hidden_rule"]) == ("found_2", "found_1")


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_few_cases_are_no_fault(n):
    found = find_rules(drawn(FINCORP, 8).head(n), FINCORP, 0)
    assert proposed(found) == [] and found["kind"].to_list()[-2:] == ["all", "rest"]
    assert report_lines(found)[-1] == "no rule is proposed"


# --- numbers worked by hand -------------------------------------------------------------------------------------------


def test_lift():
    hits, covered = np.zeros(100, bool), np.zeros(100, bool)
    hits[:20] = covered[:16] = covered[50:54] = True  # 16 of 20 covered cases, of which all have 20 of 100
    of = lift_columns(hits, covered)
    assert of["lift"] == pytest.approx(0.8 / 0.2)
    assert 2 < of["lift_low"] < 4 < of["lift_high"] < 5
    assert lift_columns(hits, np.zeros(100, bool))["lift"] is None
    assert lift_columns(hits, hits)["lift_high"] == pytest.approx(5)  # of a fifth of the cases no more is possible


def test_the_p_value_is_fishers_in_one_stratum():
    positive, covered = np.zeros(20, bool), np.zeros(20, bool)
    positive[:6] = covered[:5] = True
    one = np.full(20, "a")
    # all of 5 drawn from 20 are among 6: C(6, 5) / C(20, 5)
    assert stratified_p(positive, covered, one, one == "a") == pytest.approx(6 / 15504)
    two = np.where(np.arange(20) < 5, "b", "a")  # where they are all of a stratum they say nothing
    assert stratified_p(positive, covered, two, np.ones(20, bool)) == pytest.approx(1.0)


def test_labels_are_shuffled_where_the_same_is_stated():
    label, stated = pl.Series(["x", "y", "y", "z", "z", "z"]), pl.Series(["a", "a", "a", "b", "b", "b"])
    shuffled = Decisions.of([], label, stated).shuffled(np.random.default_rng(0))
    assert sorted(shuffled.label[:3]) == ["x", "y", "y"] and set(shuffled.label[3:]) == {"z"}
