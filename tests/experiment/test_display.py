"""Conditions by display names: derived where the name says no more than method and start, else as they were called."""

import polars as pl

from hidden_rule.experiment.display import display_names, displayed
from hidden_rule.experiment.runs import Run
from synthetic import WORLD, make_ruleset, write_results

DEFAULT = {
    "baseline": {},
    "grpo": {"method": "grpo"},
    "sft": {"method": "sft", "with": {"epochs": 2}},
    "sft_then_grpo": {"method": "grpo", "start_from": "sft"},
    "constant": {"reference": "constant"},
    "logistic": {"reference": "logistic"},
    "boosting": {"reference": "boosting"},
}


def test_default_names_are_derived_from_method_and_start():
    assert display_names(DEFAULT) == {
        "baseline": "Untrained", "grpo": "GRPO", "sft": "SFT", "sft_then_grpo": "SFT → GRPO",
        "constant": "Constant", "logistic": "Logistic regression", "boosting": "Gradient boosting",
    }  # fmt: skip


def test_other_names_stay_as_they_are():
    conditions = {
        "baseline": {"method": "sft"},  # trained: a person's name for it
        "grpo": {"method": "sft"},
        "sft": {"method": "sft", "start_from": "baseline"},
        "sft_then_grpo": {"method": "grpo"},
        "sft_half": {"method": "sft"},
        "sft_half_then_grpo": {"method": "grpo", "start_from": "sft_half"},
        "<b>oracle</b>": {"prompt": "oracle"},
        "logistic": {"reference": "boosting"},
        "constant": {"method": "sft"},
    }
    names = dict.fromkeys(conditions) | {name: name for name in conditions}
    assert display_names(conditions) == names | {"sft_half_then_grpo": "sft_half → GRPO"}


def test_names_stay_distinct():
    assert display_names({"SFT": {}, "sft": {"method": "sft"}}) == {"SFT": "SFT", "sft": "sft"}
    assert display_names({"sft": {"method": "sft"}, "SFT": {}}) == {"sft": "sft", "SFT": "SFT"}


def test_displayed_results_have_the_same_numbers_in_the_same_order(tmp_path):
    world = {name: of | ({"start_from": "sft"} if name == "sft_then_grpo" else {}) for name, of in WORLD.items()}
    results = write_results(tmp_path, make_ruleset(4), world)
    shown = displayed(results)
    assert displayed(shown) is shown
    assert shown.conditions == ["Untrained", "GRPO", "SFT", "SFT → GRPO"]
    assert shown.starts == {"GRPO": None, "SFT": None, "SFT → GRPO": "SFT"}
    assert shown.metrics["condition"].unique(maintain_order=True).to_list() == shown.conditions
    assert shown.metrics.drop("condition").equals(results.metrics.drop("condition"))
    assert set(shown.costs["condition"]) == set(shown.conditions)
    assert set(shown.comparisons["condition_a"]) < set(shown.conditions)
    run, own = Run("SFT → GRPO", 0, "grpo"), Run("sft_then_grpo", 0, "grpo")
    assert run in shown.trained and own in results.trained
    assert shown.history(run).equals(results.history(own))
    assert shown.predictions(run).select(pl.len()).collect().item() > 0
    assert results.conditions == ["baseline", "grpo", "sft", "sft_then_grpo"]  # as it was
