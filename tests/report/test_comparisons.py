"""Differences and headlines claim what test and interval support."""

import pytest
from test_rule_learning import of_accuracy, row

from hidden_rule.report.text.comparisons import (
    difference_sentence,
    difference_sentences,
    lead_over,
    plan_words,
    significance_sentences,
    with_leader,
)
from hidden_rule.report.text.findings import headline
from synthetic import make_ruleset

RULESET = make_ruleset(4)


def pair(a, b, difference, half=0.05, mde=0.06, p=0.5):
    return {"condition_a": a, "condition_b": b, "difference": difference, "ci_low": difference - half,
            "ci_high": difference + half, "p_adjusted": p, "p_value": p, "mde": mde,
            "of_seeds": [difference], "n_compared": 1}  # fmt: skip


SURELY = {"half": 0.01, "p": 0.001}


def test_leads_have_the_sign_of_the_best():
    assert lead_over("a", pair("a", "b", 0.02)) == ("b", 0.02, pytest.approx(0.07))
    assert lead_over("b", pair("a", "b", 0.02)) == ("a", -0.02, pytest.approx(0.03))


def test_what_the_best_of_many_outperforms_is_one_sentence():
    beaten = [pair("best", f"c{i}", 0.2 + i / 100, **SURELY) for i in range(7)]
    unsure = pair("other", "best", -0.01)
    said = difference_sentences("best", [*beaten, unsure])
    assert said[0].startswith(
        "best outperforms c0, c1, c2, c3, c4, c5 and c6 by 20.0–26.0 points (each p = 0.001 or less)."
    )
    assert said[1].startswith("best and other are statistically tied: 1.0 points")
    assert len(difference_sentences("best", beaten)) == 7


def test_what_outperforms_the_point_of_comparison_is_one_sentence():
    better = [pair("untrained", f"c{i}", -0.2 - i / 100, **SURELY) for i in range(7)]
    worse = [pair("d0", "untrained", -0.1, **SURELY), pair("d1", "untrained", -0.3, **SURELY)]
    said = difference_sentences("untrained", [*better, *worse])
    assert said == [
        "untrained outperforms d0 and d1 by 10.0–30.0 points (each p = 0.001 or less).",
        "c0, c1, c2, c3, c4, c5 and c6 outperform untrained by 20.0–26.0 points (each p = 0.001 or less).",
    ]


TESTED = {"test": "mcnemar_exact"}
AGAINST_A = [pair(name, "a", 0.1, **SURELY) | TESTED for name in ("b", "c", "d")]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (AGAINST_A, "a with b, c and d"),
        ([pair("a", "b", 0), pair("b", "c", 0), pair("c", "a", 0)], "all pairs"),
        ([pair("a", "b", 0), pair("c", "d", 0)], "a with b and c with d"),
        ([pair("a", "b", 0), pair("b", "c", 0), pair("c", "d", 0)], "a with b, b with c and c with d"),
        ([pair(f"a{i}", f"b{i}", 0) for i in range(9)], "9 pairs"),
        ([pair(f"a{i}", "b", 0) for i in range(9)], "b with 9 others"),
    ],
)
def test_which_comparisons_were_planned(pairs, words):
    assert plan_words(pairs) == words


def test_planned_comparisons_without_the_best_condition_are_told_too():
    best, *others = significance_sentences("b", AGAINST_A, 1)
    assert best.startswith("b outperforms a by ")
    assert [sentence.split(" by ")[0] for sentence in others[:2]] == ["c outperforms a", "d outperforms a"]
    assert others[2] == (
        "Planned comparisons: a with b, c and d. p-values: exact McNemar test (one training seed); Holm correction for "
        "3 comparisons."
    )
    pairs = [pair("a", "b", 0.0) | TESTED, pair("c", "d", 0.1, **SURELY) | TESTED]
    assert [sentence[:19] for sentence in significance_sentences("a", pairs, 1)] == [
        "a and b are statist", "c outperforms d by ", "Planned comparisons"
    ]  # fmt: skip
    every = [pair("a", "b", 0.0) | TESTED, pair("b", "c", 0.1) | TESTED, pair("a", "c", 0.1) | TESTED]
    assert len(significance_sentences("a", every, 1)) == 3  # of all pairs, only the best's
    (alone,) = significance_sentences("a", every[:1], 1)[1:]
    assert alone == "p-values: exact McNemar test (one training seed)."
    assert significance_sentences("a", [], 1) == []


def test_where_no_difference_could_be_shown_is_one_sentence():
    blind = [pair("best", "b", 0.3, half=0.4, mde=1.5), pair("c", "best", -0.2, half=0.4, mde=1.2)]
    said = difference_sentences("best", [*blind, pair("best", "d", 0.01)])
    assert said[0] == "best and b are statistically tied: 30.0 points (95% CI −10.0 to 70.0; p = 0.50)."
    assert "Minimum detectable difference: 6.0 points" in said[2]
    assert said[3] == "The sample is too small to detect any difference between best and b and c with 80% power."
    assert len(difference_sentences("best", blind[:1])) == 1


def test_the_leader_stands_first_in_each_of_its_pairs():
    rows = [pair("a", "b", -0.2), pair("b", "c", 0.1), pair("a", "c", -0.1), pair("a", "b", 0.9) | {"seed": 0}]
    rows = [{"seed": None} | row for row in rows]
    turned = [(row["condition_a"], row["condition_b"], row["difference"]) for row in with_leader(rows)]
    assert turned == [("b", "a", 0.2), ("b", "c", 0.1), ("b", "a", -0.9)]
    assert with_leader(rows)[0]["ci_low"] == -rows[0]["ci_high"]


def test_significance_needs_the_test_and_the_interval():
    base = {"condition_a": "a", "condition_b": "b", "difference": 0.05, "ci_low": 0.01, "ci_high": 0.09}
    base |= {"p_value": 0.01, "mde": 0.061}
    assert "a outperforms b by 5.0 points" in difference_sentence(base | {"p_adjusted": 0.01})
    assert "are not significantly different after Holm" in difference_sentence(base | {"p_adjusted": 0.06})
    said = difference_sentence(base | {"p_adjusted": 0.04, "ci_low": -0.01})
    assert "are statistically tied" in said
    assert said.endswith("Minimum detectable difference: 6.1 points (80% power).")
    assert "too small" in difference_sentence(base | {"p_adjusted": 0.5, "mde": 1.2})
    assert difference_sentence(base | {"p_adjusted": 0.06, "mde": None}).endswith(
        "(95% CI 1.0–9.0; p = 0.06, p = 0.01 without correction)."
    )
    alone = difference_sentence(base | {"p_value": 0.06, "p_adjusted": 0.3, "mde": None})
    assert alone.endswith("tied: 5.0 points (95% CI 1.0–9.0; p = 0.30).")
    reversed_ = {"difference": -0.05, "ci_low": -0.09, "ci_high": -0.01, "p_adjusted": 0.01}
    assert "b outperforms a by 5.0 points (95% CI 1.0–9.0; p = 0.01)" in difference_sentence(base | reversed_)


def test_headline_claims_no_hidden_rule_that_was_not_tested():
    accuracies = {"a": row(0.9, 0.95, 0.97)}
    assert "hidden" not in headline(["a"], accuracies, [], {None: {"a": "unknown"}}, 0.25)
    said = headline(["a"], accuracies, [], {None: {"a": "partly"}}, 0.25)
    assert said.endswith("(95% CI 90.0–97.0). No condition demonstrably learned the hidden rule.")


def test_the_headline_says_which_pairs_only_their_number_hides():
    accuracies = {name: of_accuracy(0.8, 0.7, 0.9) for name in "abc"} | {"best": of_accuracy(0.9, 0.85, 0.95)}
    close, beaten = pair("best", "b", 0.02), pair("best", "a", 0.2, **SURELY)
    hidden_by = pair("c", "best", -0.1, half=0.05) | {"p_value": 0.01, "p_adjusted": 0.06}

    def said(*pairs):
        return headline([*accuracies], accuracies, [*pairs, pair("a", "b", 0.0)], {None: {"a": "unknown"}}, 0.25)

    assert said(close, beaten, hidden_by).endswith(
        "; b is statistically tied; the lead over c is not significant after Holm correction for 4 comparisons."
    )
    assert said(pair("b", "best", -0.2, **SURELY), beaten, hidden_by).endswith(
        "85.0–95.0); the lead over c is not significant after Holm correction for 4 comparisons."
    )
    also = [pair("best", name, 0.2, **SURELY) for name in "bc"]
    assert said(beaten, *also) == (
        "best has the highest accuracy, 90.0% (95% CI 85.0–95.0), significantly above all others."
    )


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "; no planned comparison with a, b and c."),
        ([pair("a", "b", 0.1, **SURELY)], "; no planned comparison with a, b and c."),
        ([pair("best", "a", 0.2, **SURELY)], ", significantly above a; no planned comparison with b and c."),
        ([pair("a", "best", -0.02)], "; a is statistically tied; no planned comparison with b and c."),
        (
            [pair("a", "best", -0.02), pair("best", "c", 0.2, **SURELY)],
            "; a is statistically tied; no planned comparison with b.",
        ),
    ],
)
def test_the_headline_claims_nothing_of_pairs_that_were_not_planned(pairs, said):
    accuracies = {name: of_accuracy(0.8, 0.7, 0.9) for name in "abc"} | {"best": of_accuracy(0.9, 0.85, 0.95)}
    first = headline([*accuracies], accuracies, pairs, {None: {"a": "unknown"}}, 0.25)
    assert first == f"best has the highest accuracy, 90.0% (95% CI 85.0–95.0){said}"


def test_the_headline_counts_where_names_would_be_many():
    accuracies = {name: of_accuracy(0.8, 0.7, 0.9) for name in "abcdef"} | {"best": of_accuracy(0.9, 0.85, 0.95)}
    pairs = [*(pair("best", name, 0.02) for name in "abcde"), pair("best", "f", 0.2, **SURELY)]

    def said(n_learned, best="learned"):
        hidden = {name: "learned" if i < n_learned else "not" for i, name in enumerate("abcdef")} | {"best": best}
        return headline([*accuracies], accuracies, pairs, {None: hidden}, 0.25)

    assert said(4, "not").endswith("; 5 others are statistically tied. The hidden rule was learned by a, b, c and d.")
    assert said(4).endswith("The hidden rule was learned by 5 of 7 conditions, including best.")
    assert said(5, "not").endswith("The hidden rule was learned by 5 of 7 conditions, but not by best.")
