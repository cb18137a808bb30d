"""The expected cost of mistakes: by hand, at other prevalences, against accuracy, and whether intervals cover."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from hidden_rule.statistics.expected_cost import (
    Answers,
    CostScheme,
    compare_cost,
    cost_rows,
    difference,
    weighted_mean,
)
from hidden_rule.statistics.intervals import margin
from hidden_rule.task.decision_costs import completed, cost_matrix, cost_of, natural_frequencies, with_named
from hidden_rule.task.ruleset import load_ruleset

OBSERVED = SimpleNamespace(labels=("A", "B"), is_observed=True)
CELLS = pl.DataFrame(
    [("A", "A"), ("A", "B"), ("A", None), ("B", "B"), ("B", "A")], schema=["label", "predicted"], orient="row"
)
DEAR = {"costs": {"A": {"B": 10}}, "invalid": 20}


def scheme(costs, ruleset=OBSERVED) -> CostScheme:
    return CostScheme.of(completed(costs, ruleset.labels), ruleset)


def outcomes(**conditions):
    """Of each condition the cells of 8 cases under its seeds; the first four cases are A, the others B."""
    codes = {name: {seed: np.array(of) for seed, of in enumerate(seeds)} for name, seeds in conditions.items()}
    return SimpleNamespace(cells=CELLS, codes=codes)


def test_the_matrix_and_what_it_leaves_out():
    costs = completed({"costs": {"A": {"B": 10}, "C": {"A": 0.5, "B": 0}}}, "ABC")
    assert costs["invalid"] == {"A": 10, "B": 1, "C": 0.5}  # as the worst label of each row
    assert cost_matrix("ABC", costs).tolist() == [[0, 10, 1, 10], [1, 0, 1, 1], [0.5, 0, 0, 0.5]]
    assert completed({"costs": {}, "invalid": 7}, "AB")["invalid"] == {"A": 7, "B": 7}
    assert completed({"costs": {}, "invalid": {"A": 7}}, "AB")["invalid"] == {"A": 7, "B": 1}
    assert completed(costs, "ABC") == costs  # a config that is read again
    assert cost_of("A", "A", costs) == 0


@pytest.mark.parametrize(
    ("named", "natural", "expected"),
    [
        ({}, [0.1, 0.2, 0.7], [0.1, 0.2, 0.7]),
        ({"A": 0.55}, [0.1, 0.2, 0.7], [0.55, 0.1, 0.35]),
        ({"A": 0.2, "B": 0.2, "C": 0.6}, [0.1, 0.2, 0.7], [0.2, 0.2, 0.6]),
        ({"A": 0.2, "B": 0.2, "C": 0.5995}, [0.1, 0.2, 0.7], [0.2001, 0.2001, 0.5998]),  # rounded by hand
        ({"A": 1.0}, [0.1, 0.2, 0.7], [1, 0, 0]),
        ({"C": 0.4}, [0, 0, 1], [0.3, 0.3, 0.4]),  # nothing natural to scale
    ],
)
def test_named_shares_and_the_natural_rest(named, natural, expected):
    found = with_named(named, dict(zip("ABC", natural, strict=True)))
    assert list(found.values()) == pytest.approx(expected, abs=1e-4) and sum(found.values()) == pytest.approx(1)


def test_natural_frequencies_are_the_rulesets_own():
    fincorp = load_ruleset("rulesets/fincorp.yaml")
    shares = natural_frequencies(fincorp)
    founders = next(f for f in fincorp.features if f.name == "founder_background")
    weight = dict(zip(founders.choices, founders.weights or [1] * len(founders.choices), strict=True))
    hidden = (weight["Ex-Google"] + weight["Ex-Facebook"]) / sum(weight.values())
    assert shares["MANUAL_REVIEW"] == pytest.approx(hidden, abs=0.005)  # the founder alone decides on it
    assert sum(shares.values()) == pytest.approx(1)
    assert natural_frequencies(OBSERVED) is None


def test_by_hand():
    one = outcomes(
        x=[[0, 0, 1, 2, 3, 3, 3, 4]]
    )  # of four A one wrong (10) and one invalid (20); of four B one wrong (1)
    value = {  # mean cost where A is right: 7.5; where B is: 0.25
        "observed": (DEAR, (30 + 1) / 8 * 1000),
        "named": ({**DEAR, "prevalence": {"A": 0.1}}, (0.1 * 7.5 + 0.9 * 0.25) * 1000),
        "none of it": ({**DEAR, "prevalence": {"A": 0.0}}, 250),
        "unit costs": ({"costs": {}}, 375),  # the share of wrong answers
    }
    for costs, expected in value.values():
        seed, pooled = cost_rows(one, scheme(costs))
        assert seed["value"] == pytest.approx(expected) and seed | {"seed": None} == pooled
        assert 0 <= seed["ci_low"] < expected < seed["ci_high"] and seed["n"] == 8


def test_the_interval_of_one_seed_by_hand():
    """Four cases are added: to each label one at no cost and one at its highest, which here is 1."""
    (row, _) = cost_rows(
        outcomes(x=[[0, 0, 0, 1, 3, 3, 3, 3]]), scheme({"costs": {}, "prevalence": {"A": 0.5, "B": 0.5}})
    )
    of_a, of_b = (1 + 1) / 6, (0 + 1) / 6
    variance = 0.25 * (of_a * (1 - of_a) / 6 + of_b * (1 - of_b) / 6)
    centre, half = (of_a + of_b) / 2, 1.959964 * variance**0.5
    assert row["value"] == 125 and row["ci_low"] == pytest.approx(max(0, 1000 * (centre - half)))
    assert row["ci_high"] == pytest.approx(1000 * (centre + half), rel=1e-6)


def test_differences_are_paired_and_have_a_direction():
    both = outcomes(good=[[0, 0, 0, 0, 3, 3, 3, 3]], bad=[[0, 0, 1, 2, 3, 3, 3, 4]])
    for seed in compare_cost(both, "bad", "good", scheme(DEAR), 1):
        assert seed["difference"] == pytest.approx(3875) and seed["n"] == 8 and seed["metric"] == "expected_cost"
    turned = compare_cost(both, "good", "bad", scheme(DEAR), 1)[-1]
    assert turned["difference"] == pytest.approx(-3875) and turned["ci_high"] == pytest.approx(-seed["ci_low"])
    same = compare_cost(both, "good", "good", scheme(DEAR), 1)[-1]
    assert same["difference"] == 0 and same["p_value"] == 1 and same["ci_low"] < 0 < same["ci_high"]
    lone = {"a": {0: both.codes["good"][0]}, "b": {1: both.codes["good"][0]}}
    assert compare_cost(SimpleNamespace(cells=CELLS, codes=lone), "a", "b", scheme(DEAR), 1) == []


def test_a_label_of_practice_without_a_case_is_undefined():
    only_a = outcomes(x=[[0, 0, 1, 1]], y=[[0, 0, 0, 0]])
    (row, _) = cost_rows(only_a, scheme({**DEAR, "prevalence": {"A": 0.5}}))[:2]
    assert (row["value"], row["ci_low"], row["n"]) == (None, None, 0)
    assert "difference" not in compare_cost(only_a, "x", "y", scheme({**DEAR, "prevalence": {"A": 0.5}}), 1)[0]
    (row, _) = cost_rows(only_a, scheme(DEAR))[:2]  # of the cases themselves: there is no B
    assert row["value"] == 5000


WORLDS = {  # accuracy, a cost, shares in practice, are splits balanced, are shares known, bounds of coverage
    "balanced": (0.88, 1, [0.25, 0.25, 0.25, 0.25], True, True, (0.925, 0.975)),
    "hardly a mistake": (0.999, 1, [0.25, 0.25, 0.25, 0.25], True, True, (0.95, 1)),
    "reweighted, one mistake is dear": (0.9, 100, [0.01, 0.09, 0.3, 0.6], True, True, (0.925, 0.99)),
    "natural, one mistake is dear": (0.9, 100, [0.01, 0.09, 0.3, 0.6], False, False, (0.92, 0.99)),
    "natural, few mistakes": (0.97, 1, [0.01, 0.09, 0.3, 0.6], False, False, (0.92, 0.99)),
}


@pytest.mark.parametrize("world", WORLDS)
def test_intervals_cover_planted_truth(world):
    accuracy, dear, shares, balanced, known, (least, most) = WORLDS[world]
    rng, n, labels = np.random.default_rng(0), 1000, tuple("ABCD")
    matrix = np.ones((4, 5)) - np.eye(4, 5)
    matrix[1, 3:] = dear
    of = CostScheme(labels, matrix, dict(zip(labels, shares, strict=True)) if known else {}, None)
    truth = sum(share * row[:4].sum() / 3 for share, row in zip(shares, matrix, strict=True)) * (1 - accuracy)
    worst, covered, rejected, tries = matrix.max(1), 0, 0, 400
    for _ in range(tries):
        right = np.arange(n) % 4 if balanced else rng.choice(4, n, p=shares)
        a, b = (
            matrix[right, np.where(rng.random(n) < accuracy, right, (right + rng.integers(1, 4, n)) % 4)]
            for _ in range(2)
        )
        _, centre, spread = weighted_mean(Answers(a[:, None], np.ones(n), right), of, np.stack([0 * worst, worst]))
        covered += abs(centre - truth) <= margin(spread)
        rejected += difference(Answers((a - b)[:, None], np.ones(n), right), of, 1)["p_value"] < 0.05
    assert least <= covered / tries <= most
    assert rejected / tries <= 0.08
