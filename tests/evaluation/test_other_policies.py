"""Policies beside FinCorp: their splits and suites can be drawn, and a classifier learns their hidden rules."""

import numpy as np
import pytest

from conftest import ROOT
from hidden_rule.evaluation.classifiers import fit, label_probabilities
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS, SuiteSettings, draw_suites, why_not

SIZES = {"train": 640, "validation": 160, "test": 160, "holdout": 1000}  # of config.yaml
POLICIES = {  # ruleset: how many labels, its hidden rules, kinds of suites that it cannot have
    "claims": (6, ["watched_shops", "early_theft"], set()),
    "tickets": (5, ["legal_words"], {"boundaries"}),
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=POLICIES)
def policy(request):
    ruleset = load_ruleset(ROOT / "rulesets" / f"{request.param}.yaml")
    return ruleset, *POLICIES[request.param], draw_splits(ruleset, SIZES, seed=0)


def test_splits_are_balanced_over_all_labels(policy):
    ruleset, n_labels, hidden, _, splits = policy
    assert len(ruleset.labels) == n_labels and [rule.name for rule in ruleset.hidden_rules] == hidden
    for split, size in SIZES.items():
        counts = splits[split]["label"].value_counts()["count"]
        assert len(counts) == n_labels and counts.sum() == size and counts.max() - counts.min() <= 1
    assert len({rule.label for rule in ruleset.rules} | {ruleset.default}) == len(ruleset.rules) + 1


def test_suites_are_there_that_the_rules_allow(policy):
    ruleset, _, _, without, splits = policy
    assert {kind for kind in KINDS if why_not(ruleset, kind)} == without
    kinds = tuple(kind for kind in KINDS if kind not in without)
    families = draw_suites(ruleset, SuiteSettings(kinds, 40, 0.02, 0), splits["train"])
    sizes = {suite: families.filter(suite=suite)["family"].n_unique() for suite in families["suite"].unique()}
    assert set(sizes) == set(kinds) and sizes.pop("prevalence") == 500 and set(sizes.values()) == {40}


def test_boosting_learns_the_hidden_rules_from_the_default_training_split(policy):
    ruleset, *_, splits = policy
    holdout = splits["holdout"]
    answers = np.array(ruleset.labels)[
        label_probabilities(fit("boosting", ruleset, splits["train"], seed=0), ruleset, holdout).argmax(axis=1)
    ]
    for rule in ruleset.hidden_rules:
        fires = (holdout["fired_rule"] == rule.name).to_numpy()
        assert (answers[fires] == rule.label).mean() > 0.9 and fires[answers == rule.label].mean() > 0.9, rule.name
