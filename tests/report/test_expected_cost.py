"""Decision costs in the report: the headline ranks by them, sentences and tables say amounts, the chart shows them."""

import json

import pytest

from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.charts.build import build_charts
from hidden_rule.report.tables import comparison_table, summary_table
from hidden_rule.report.text.expected_cost import cost_evidence, cost_sentences, difference_sentence
from hidden_rule.report.text.findings import conclude
from hidden_rule.report.text.phrases import amount, amount_interval
from hidden_rule.task.decision_costs import completed
from synthetic import make_ruleset
from worlds import BETTER, CHANCE, GOOD, HALF, results_of, whole_headline

RULESET = make_ruleset(4)
A, B, C, D = RULESET.labels
EVEN = dict.fromkeys(RULESET.labels, 0.25)
# a condition that is right wherever it is dear, and wrong on half of the rest; one that is right nearly everywhere else
CAREFUL = {"accuracy": 0.9, "hidden": 1.0}
ACCURATE = {"accuracy": 0.97, "hidden": 0.9}


def world(tmp_path, conditions, **costs):
    given = {"unit": "EUR", "prevalence": EVEN, "costs": {}, **costs}
    return results_of(tmp_path, conditions, RULESET, config={"decision_costs": completed(given, RULESET.labels)})


def headline(results) -> str:
    return whole_headline(conclude(results))


def test_amounts():
    assert [amount(x) for x in (0, 0.0341, 1.5, 41.23, 1240.4, -3.25, -1e6)] == [
        "0", "0.0341", "1.5", "41.2", "1,240", "−3.25", "−1,000,000",
    ]  # fmt: skip
    assert (amount_interval(3, 40.5), amount_interval(-3, 40.5)) == ("3–40.5", "−3 to 40.5")


def test_unit_costs_rank_as_accuracy_does(tmp_path):
    results = world(tmp_path, {"baseline": CHANCE, "sft": BETTER, "grpo": HALF})
    cost, accuracy = (results.estimate("SFT", results.main, metric) for metric in ("expected_cost", "accuracy"))
    assert isinstance(cost, Estimate) and cost.value == pytest.approx(1000 * (1 - accuracy.value))
    assert headline(results).startswith(
        f"SFT has the lowest expected cost, {amount(cost.value)} EUR per 1,000 cases (95% CI {amount(cost.low)}–"
        f"{amount(cost.high)}), significantly below all others. SFT has the highest accuracy"
    )
    sentences = cost_sentences(cost_evidence(results), results)
    assert (
        sentences[0].startswith("SFT costs less than Untrained by ") and "EUR per 1,000 cases (95% CI" in sentences[0]
    )
    assert "Planned comparisons of cost: SFT with Untrained and GRPO. Holm correction for 2 comparisons." in sentences
    assert "Every wrong decision costs 1 EUR." in sentences
    shares = "LABEL_A 25.0%, LABEL_B 25.0%, LABEL_C 25.0% and LABEL_D 25.0%"
    assert sentences[-1] == f"Expected at the configured prevalence: {shares}."


def test_the_dear_mistake_decides(tmp_path):
    """The hidden rule's label is A: mistakes on it cost 100; the more accurate condition makes them."""
    dear = {"costs": {A: {B: 100, C: 100, D: 100}}}
    conditions = {"baseline": CHANCE, "sft": ACCURATE, "grpo": CAREFUL}
    results = world(tmp_path, conditions, **dear)
    said = headline(results)
    assert said.startswith("GRPO has the lowest expected cost, ") and ". SFT" in said
    sft, grpo = (results.estimate(name, results.main, "accuracy") for name in ("SFT", "GRPO"))
    assert sft.value > grpo.value
    sentences = cost_sentences(cost_evidence(results), results)
    highest = "The highest cost is 100 EUR, of LABEL_B where LABEL_A is right; 3 mistakes have a cost of their own"
    assert f"{highest}; others cost 1 EUR." in sentences
    rare = world(tmp_path / "rare", conditions, **dear, prevalence={**EVEN, A: 0.0, D: 0.5})
    assert headline(rare).startswith("SFT has the lowest expected cost, ")  # the dear case does not occur


def test_a_tie_in_cost_and_a_reference_that_costs_no_more(tmp_path):
    results = world(tmp_path, {"baseline": CHANCE, "sft": GOOD, "sft_then_grpo": GOOD | {"accuracy": 0.885}})
    assert "statistically tied" in headline(results).split(". ")[0]
    tied = {"condition_a": "a", "condition_b": "b", "difference": 3.0, "ci_low": -1.0, "ci_high": 7.0}
    tied |= {"p_value": 0.2, "p_adjusted": 0.2, "mde": 6.0}
    assert difference_sentence(tied, "EUR") == (
        "b and a are statistically tied in cost: 3 EUR per 1,000 cases (95% CI −1 to 7; p = 0.20). Minimum detectable "
        "difference: 6 EUR (80% power)."
    )
    clear = tied | {"difference": -3.0, "ci_low": -5.0, "ci_high": -1.0, "p_adjusted": 0.004}
    assert difference_sentence(clear, "EUR") == "a costs less than b by 3 EUR per 1,000 cases (95% CI 1–5; p = 0.004)."
    beside = world(tmp_path / "beside", {"sft": HALF, "boosting": BETTER | {"reference": "boosting"}})
    assert headline(beside).startswith("Gradient boosting costs no more than SFT: ")


def test_tables_hold_amounts(tmp_path):
    results = world(tmp_path, {"baseline": CHANCE, "sft": BETTER, "grpo": HALF})
    summary = summary_table(results, results.main)
    at = summary["columns"].index("cost per 1,000 cases, EUR")
    assert summary["columns"][at - 1] == "accuracy" and "%" not in summary["rows"][1][at]
    rows = comparison_table(results, results.main)["rows"]
    of_cost = [row for row in rows if row[1].startswith("cost per 1,000 cases")]
    assert len(of_cost) == 2 and all(row[5] == "z (applications)" for row in of_cost)
    plain = results_of(tmp_path / "plain", {"baseline": CHANCE, "sft": BETTER}, RULESET)
    assert not any("cost" in column for column in summary_table(plain, plain.main)["columns"])
    assert "cost" not in headline(plain) and cost_evidence(plain) is None


def test_the_chart_shows_each_condition(tmp_path):
    results = world(tmp_path, {"baseline": CHANCE, "sft": BETTER, "grpo": HALF})
    drawn = json.dumps(build_charts(results, ["expected_cost"])["expected_cost"].to_dict())
    assert "EUR per 1,000 cases" in drawn
    for name in ("Untrained", "SFT", "GRPO"):
        assert amount(results.estimate(name, results.main, "expected_cost").value) in drawn
