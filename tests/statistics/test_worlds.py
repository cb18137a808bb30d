"""The answer of made-up worlds of which the truth is known: what the report then says, and what it must not say.

Predictions, histories and costs are planted; metrics, comparisons, costs and verdicts are those of the pipeline's own
scripts. Swap the numbers of two conditions, and the conclusion swaps.
"""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.tables import COSTS, HISTORY, METRICS
from hidden_rule.experiment.runs import Estimate, Run
from hidden_rule.report.text.caveats import (
    Weaknesses,
    change_sentences,
    detection_sentences,
    method_sentences,
    rounded_up,
)
from hidden_rule.report.text.comparisons import difference_sentences, lead_over, with_leader
from hidden_rule.report.text.findings import headline
from hidden_rule.report.text.rule_learning import hidden_sentences, policy_sentences, suite_sentences, suite_verdict
from hidden_rule.report.text.training_cost import price_sentences, prices
from hidden_rule.report.text.training_runs import still_rising, validation_sentences
from worlds import ABOUT, WORLDS, answer_of

SURE, PRICE, POLICY, HIDDEN = "Significance", "Training cost", "Policy", "Hidden rule"
COLLAPSE_PART, CHANGE = "Collapse", "What could change the result"
EXPECTED = {  # world: [(where, what stands there)], [what stands nowhere]
    "sft wins": (
        [
            ("headline", "SFT has the highest accuracy, "),
            ("headline", ", significantly above all others. The hidden rule was learned by SFT."),
            (SURE, "SFT outperforms GRPO by "),
            (SURE, "SFT outperforms Untrained by "),
            (SURE, "exact McNemar test (one training seed); Holm correction for 3 comparisons"),
            (PRICE, "SFT: 10 min 00 s of training per seed (400,000 training tokens); 1 min 00 s"),
            (PRICE, "All conditions compared with SFT are significantly less accurate, whatever their cost."),
            (POLICY, "Untrained is not significantly different from chance (25.0%)"),
            (POLICY, "SFT learned the policy: "),
            (POLICY, "GRPO learned part of the policy: "),
            (HIDDEN, "SFT learned the hidden rule: "),
            (HIDDEN, "GRPO did not learn the hidden rule: "),
            (COLLAPSE_PART, "GRPO (seed 0) did not collapse: all 4 decisions are still sampled at the end"),
            (CHANGE, "More training seeds: with a single seed"),
        ],
        ["statistically tied", "collapsed", "Detecting the observed", "more accurate", "GRPO outperforms SFT"],
    ),
    "rl wins": (
        [
            ("headline", "GRPO has the highest accuracy, "),
            ("headline", ", significantly above all others. The hidden rule was learned by GRPO."),
            (SURE, "GRPO outperforms SFT by "),
            (PRICE, "GRPO: 10 min 00 s of training per seed (400,000 training tokens, 80,000 generated)"),
            (HIDDEN, "SFT did not learn the hidden rule: "),
            (COLLAPSE_PART, "GRPO (seed 0) did not collapse"),
        ],
        ["collapsed", "SFT outperforms GRPO", "SFT learned the policy", "statistically tied"],
    ),
    "tie": (
        [
            ("headline", " has the highest accuracy, "),
            ("headline", " is statistically tied."),
            ("headline", "The hidden rule was learned by SFT and SFT → GRPO."),
            (SURE, " are statistically tied: "),
            (PRICE, "of training per seed"),
            (CHANGE, "SFT → GRPO"),
        ],
        ["SFT outperforms SFT → GRPO", "GRPO outperforms SFT ", "above all others", "less accurate"],
    ),
    "all fail": (
        [
            ("headline", "No condition is significantly better than chance (25.0%)."),
            (POLICY, "SFT is not significantly different from chance (25.0%)"),
        ],
        ["learned the policy", "learned part", "outperforms", "takes", "highest", "Nothing measured", "Detecting"],
    ),
    "too few data": (
        [
            ("headline", "statistically tied"),
            ("headline", "No condition demonstrably learned the hidden rule."),
            (SURE, "Minimum detectable difference: "),
            (PRICE, "Nothing as accurate trains faster."),
            (CHANGE, "this experiment has 40."),
            ("scope", "over 40 applications"),
        ],
        ["outperforms", "above all", "learned the policy", "SFT learned the hidden", "less accurate", "may decide"],
    ),
    "collapse": (
        [
            ("headline", "SFT has the highest accuracy, "),
            (COLLAPSE_PART, "GRPO (seed 0) collapsed to 2 of 4 decisions ("),
            (COLLAPSE_PART, "In its last steps, 9"),  # 90 to 99%
            (COLLAPSE_PART, "GRPO (seed 0) never answers LABEL_A and LABEL_C in evaluation"),
            (SURE, "SFT outperforms GRPO by "),
        ],
        ["did not collapse", "GRPO learned the policy", "GRPO learned the hidden rule", "still improving"],
    ),
    "collapse of three seeds": (
        [
            ("headline", "SFT has the highest accuracy, "),
            (SURE, "t-test over applications and 3 training seeds; Holm correction for 3 comparisons"),
            (COLLAPSE_PART, "GRPO (seed 0) collapsed to 2 of 4"),
            (COLLAPSE_PART, "GRPO (seed 2) collapsed to 2 of 4"),
            ("Method and threats to validity", "640 applications, shared by all 3 training seeds"),
        ],
        ["did not collapse", "one seed", "One training seed", "More training seeds"],
    ),
}


@pytest.mark.parametrize("world", WORLDS)
def test_what_the_report_says_of_a_world(tmp_path, world):
    conditions, options = WORLDS[world]
    headline, said = answer_of(tmp_path, conditions, **options)
    said["headline"] = headline
    present, absent = EXPECTED[world]
    for where, words in present:
        assert words in said[where], (where, words, said[where])
    everything = " ".join(said.values())
    for words in absent:
        assert words not in everything, (words, everything)


def sentences(text: str) -> list[str]:
    return sorted(re.split(r"(?<=\.) ", text))


@pytest.mark.parametrize("world", ["sft wins", "collapse"])
def test_swapped_numbers_swap_the_conclusion(tmp_path, world):
    conditions, options = WORLDS[world]
    (tmp_path / "swapped").mkdir()
    first, said = answer_of(tmp_path, conditions, **options)
    sft, grpo = conditions["sft"] | {"method": "sft"}, conditions["grpo"] | {"method": "grpo"}
    second, said_swapped = answer_of(tmp_path / "swapped", conditions | {"sft": grpo, "grpo": sft}, **options)

    def exchanged(text):
        """Names that no longer say the method are shown as they are: the GRPO that is called sft is sft."""
        return text.replace("SFT", "?").replace("GRPO", "sft").replace("?", "grpo")

    assert exchanged(first) == second != first
    for part in (SURE, PRICE, POLICY, HIDDEN, COLLAPSE_PART, CHANGE):
        assert sentences(exchanged(said[part])) == sentences(said_swapped[part]), part


def pair(a, b, difference, half=0.05, mde=0.06, p=0.5):
    return {"condition_a": a, "condition_b": b, "difference": difference, "ci_low": difference - half,
            "ci_high": difference + half, "p_adjusted": p, "p_value": p, "mde": mde,
            "of_seeds": [difference], "n_compared": 1}  # fmt: skip


SURELY = {"half": 0.01, "p": 0.001}


def test_leads_have_the_sign_of_the_best():
    assert lead_over("a", pair("a", "b", 0.02)) == ("b", 0.02, pytest.approx(0.07))
    assert lead_over("b", pair("a", "b", 0.02)) == ("a", -0.02, pytest.approx(0.03))


@pytest.mark.parametrize(
    ("lead", "mde", "around", "words"),
    [  # one seed: (mde / lead)² times as many applications; three: their differences lie `around` the lead
        (0.02, 0.06, [0], "Detecting the observed difference of 2.0 points between a and b would take about 9,000 "
         "applications (80% power); this experiment has 1,000."),
        (0.05, 0.04, [0], "Twice as many applications would probably separate a from b."),
        (0.005, 0.06, [0], "between a and b (0.5 points) is undetectable even with 100× the test set."),
        (0.02, 0.06, [-0.01, 0, 0.01], "about 5 training seeds (80% power); this experiment has 3."),
        (0.08, 0.06, [-0.01, 0, 0.01], "Twice as many training seeds would probably separate a from b."),
        (0.01, 0.06, [-0.1, 0, 0.1], "(1.0 points) is undetectable even with 100 training seeds."),
        (0.0, 0.06, [-0.01, 0, 0.01], "(0.0 points) is undetectable even with 100 training seeds."),
    ],
)  # fmt: skip
def test_what_it_takes_to_tell_two_conditions_apart(lead, mde, around, words):
    half = 0.05 if len(around) == 1 else 4.303 * np.std(around, ddof=1) / 3**0.5  # t: applications add nothing
    for row in (pair("a", "b", lead, half, mde=mde), pair("b", "a", -lead, half, mde=mde)):
        row["of_seeds"] = [row["difference"] + shift for shift in around]
        row["ci_low"] = min(row["ci_low"], 0.0)  # hence not significant
        (sentence,) = detection_sentences("a", [row, pair("b", "c", 0.3)], 1000)
        assert words in sentence
    assert detection_sentences("a", [pair("a", "b", 0.2, **SURELY)], 1000) == []  # significant as it is
    assert detection_sentences("a", [pair("a", "b", 0.02, mde=None)], 1000) == []


def test_numbers_are_rounded_up_to_two_digits():
    assert [rounded_up(n) for n in (7.2, 10, 9.4, 101, 9_000, 12_345)] == [8, 10, 10, 110, 9_000, 13_000]


def test_what_would_change_the_answer_says_nothing_without_cause():
    sure = [pair("a", "b", 0.2, **SURELY)]
    nothing = ["Nothing measured here: all conditions compared with a are significantly less accurate."]
    none = Weaknesses([], [], [], one_seed=False)
    assert change_sentences("a", sure, 1000, none) == nothing
    assert change_sentences(None, [pair("a", "b", 0.01)], 1000, replace(none, failed=["x"])) == []
    all_of_them = Weaknesses(["decoys 50%"], ["a", "b"], ["c", "d"], one_seed=True)
    said = change_sentences("a", sure, 1000, all_of_them)
    assert [line.split(":")[0] for line in said[::2]] == ["More training seeds", "Longer training"]
    assert said[3].startswith("A different starting point for c and d: ")
    assert said[1] == "Inputs like those of the suites that a fails: decoys 50%."


def costs_of(*rows):
    rows = [(name, 0, stage, seconds, *tokens, 1, device) for name, stage, seconds, *tokens, device in rows]
    return pl.DataFrame(rows, schema=COSTS, orient="row")


PRICES = costs_of(
    ("base", "evaluate", 40.0, 0, 500, "cpu"),
    ("sft", "train", 120.0, 1000, 0, "cpu"),
    ("sft", "evaluate", 30.0, 0, 400, "cpu"),
    ("both", "train", 180.0, 3000, 900, "cpu"),
    ("both", "evaluate", 30.0, 0, 400, "cpu"),
)
FROM = {"sft": None, "both": "sft"}
ABOVE = ["sft", "both"]  # better than chance


def test_a_price_includes_what_a_condition_starts_from():
    found = prices(PRICES, FROM)
    both, spent = found["both"], found["both"].training
    assert (list(spent.starts), spent.seconds) == (["sft"], 300)
    assert (spent.tokens_trained, spent.tokens_generated) == (4000, 900)
    assert (both.evaluation_s, both.evaluation_tokens, both.devices) == (30.0, 400, {"cpu"})
    assert found["base"].training_s == 0
    assert "both" not in prices(PRICES.filter(pl.col("condition") != "sft"), FROM)  # half a price is none


@pytest.mark.parametrize(
    ("rows", "words", "others"),
    [
        (
            [pair("both", "sft", 0.01, half=0.02), pair("both", "base", 0.5, **SURELY)],
            "sft takes 60.0% less training time and is statistically tied with both: both is at most 3.0 points more "
            "accurate (upper limit of the 95% CI). Cost may decide.",
            ["imprecise"],
        ),
        (
            [pair("both", "sft", 0.01, half=0.06), pair("both", "base", 0.02, half=0.2)],
            "sft takes 60.0% less training time and is statistically tied with both, but the comparison is imprecise: "
            "both is at most 7.0 points more accurate (upper limit of the 95% CI). Whether that is worth the cost ",
            ["Cost may decide", "base takes"],  # base is not above chance: no alternative
        ),
        ([pair("both", "base", 0.02, half=0.2)], "of evaluation (400 tokens generated).", ["base", "less accurate"]),
        ([pair("both", "sft", 0.2, **SURELY)], "All conditions compared with both are significantly less", ["takes"]),
    ],
)
def test_the_best_against_the_cheapest_that_may_be_as_good(rows, words, others):
    text = " ".join(price_sentences("both", rows, prices(PRICES, FROM), ABOVE))
    assert text.startswith(
        "both: 5 min 00 s of training per seed, including sft (4,000 training tokens, 900 generated); "
    )
    assert words in text
    assert not [other for other in others if other in text]


def test_no_price_is_said_without_costs_and_none_is_compared_across_devices():
    rows = [pair("both", "sft", 0.01, half=0.02)]
    known = prices(PRICES, FROM)
    assert price_sentences("both", rows, prices(PRICES.clear(), FROM), ABOVE) == []
    elsewhere = PRICES.with_columns(device=pl.when(condition="both").then(pl.lit("gpu")).otherwise("device"))
    said = " ".join(price_sentences("both", rows, prices(elsewhere, FROM), ABOVE))
    assert "sft takes less training time, but on a different device, and is statistically tied" in said
    swapped = price_sentences("sft", [pair("sft", "both", 0.01)], known, ABOVE)
    assert swapped[-1] == "Nothing as accurate trains faster."
    unknown = price_sentences("sft", [pair("sft", "both", 0.01), pair("sft", "free", 0.01)], known, [*ABOVE, "free"])
    assert len(unknown) == 1  # what is not known is not said to cost more


def validated(*values, stopped=False):
    rows = [(i, 0.0, 0, "validation_accuracy", None, value) for i, value in enumerate(values)]
    rows += [(len(values), 0.0, 0, "stopped_without_signal", None, 50.0)] if stopped else []
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def test_training_in_words_and_what_was_still_rising():
    histories = {
        Run("up", 0, "sft"): validated(0.2, 0.5, 0.8),
        Run("flat", 0, "sft"): validated(0.3, 0.88, 0.9),
        Run("stopped", 0, "grpo"): validated(0.2, 0.8, stopped=True),
        Run("none", 0, "sft"): validated(0.5),
    }
    assert validation_sentences(histories) == [
        "up: validation accuracy 20.0% → 80.0%; +30.0 points in the last epoch.",
        "flat: validation accuracy 30.0% → 90.0%; +2.0 points in the last epoch.",
        "stopped: validation accuracy 20.0% → 80.0%.",
    ]
    nine = {Run(f"c{i}", 0, "sft"): validated(0.2, 0.5, 0.8) for i in range(8)}
    (said,) = validation_sentences(nine | {Run("c8", 0, "sft"): validated(0.3, 0.25, 0.2)})
    assert "points): c0 20.0% → 80.0% (+30.0), c1 20.0%" in said
    assert said.endswith("c7 20.0% → 80.0% (+30.0), c8 30.0% → 20.0% (−5.0).")
    assert still_rising(histories, 160) == ["up"]
    assert still_rising(histories, 4) == []  # three of four, or two: chance


@pytest.mark.parametrize(
    ("low", "high", "metric", "verdict"),
    [
        (0.85, 0.95, "flip_rate", "holds"),
        (0.2, 0.4, "accuracy", "fails"),
        (0.7, 0.9, "accuracy", "open"),
        (0.02, 0.15, "false_flip_rate", "holds"),
        (0.3, 0.5, "false_flip_rate", "fails"),
        (0.1, 0.3, "false_flip_rate", "open"),
    ],
)
def test_suite_verdict(low, high, metric, verdict):
    assert suite_verdict(Estimate(low, low, high, 40), metric) == verdict


def test_suites_in_words():
    rows = [
        ("a", "decoys", "false_flip_rate", 0.5, 0.4, 0.6), ("a", "paraphrases", "accuracy", 0.95, 0.9, 0.97),
        ("a", "conflicts", "accuracy", 0.8, 0.7, 0.9), ("b", "paraphrases", "accuracy", 0.1, 0.05, 0.2),
        ("b", "test", "accuracy", 0.1, 0.05, 0.2),
    ]  # fmt: skip
    rows = [(c, None, s, "structured", m, None, v, low, high, 80) for c, s, m, v, low, high in rows]
    metrics = pl.DataFrame(rows, schema=METRICS, orient="row")
    said = suite_sentences(metrics, ["a", "b"])
    assert said[:2] == [
        "a fails decoys; passes paraphrased triggers; inconclusive on conflicting rules.",
        "b fails paraphrased triggers.",
    ]
    assert said[2].startswith("Pass: 95% CI at or above 80% (of a false flip rate: at or below 20%).")
    assert suite_sentences(metrics.filter(suite="test"), ["a", "b"]) == []


def of_accuracy(value, low, high):
    return Estimate(value, low, high, 100)


def test_many_conditions_are_told_in_groups():
    names = [f"c{i}" for i in range(9)]
    good, half, guess = of_accuracy(0.9, 0.85, 0.95), of_accuracy(0.5, 0.4, 0.6), of_accuracy(0.25, 0.2, 0.3)
    accuracies = dict(zip(names, [good, *[half] * 4, *[guess] * 4], strict=True))
    assert policy_sentences(names, accuracies, 0.25) == [
        "Learned (accuracy): c0 (90.0%).",
        "Partly learned (chance: 25.0%): c1 (50.0%), c2 (50.0%), c3 (50.0%), c4 (50.0%).",
        "Not significantly different from chance: c5 (25.0%), c6 (25.0%), c7 (25.0%), c8 (25.0%).",
    ]
    assert policy_sentences(names[:8], accuracies, 0.25)[0] == (
        "c0 learned the policy: accuracy 90.0% (95% CI 85.0–95.0)."
    )
    missed, rates = of_accuracy(0.0, 0.0, 0.1), dict.fromkeys(names, 0.25)
    recalls = dict(zip(names, [good, good, *[missed] * 7], strict=True))
    precisions = dict(zip(names, [good, guess, *[None] * 7], strict=True))
    said = hidden_sentences(names, recalls, precisions, rates)
    assert said[0] == "Learned (recall, precision): c0 (90.0%, 90.0%)."
    assert said[1] == "No evidence, as precision is not significantly above the base rate: c1 (90.0%, 25.0%)."
    assert said[2].startswith("Not learned: c2 (0.0%, –), c3 ")


def test_what_the_best_of_many_outperforms_is_one_sentence():
    beaten = [pair("best", f"c{i}", 0.2 + i / 100, **SURELY) for i in range(7)]
    unsure = pair("other", "best", -0.01)
    said = difference_sentences("best", [*beaten, unsure])
    assert said[0].startswith(
        "best outperforms c0, c1, c2, c3, c4, c5 and c6 by 20.0–26.0 points (each p = 0.001 or less)."
    )
    assert said[1].startswith("best and other are statistically tied: 1.0 points")
    assert len(difference_sentences("best", beaten)) == 7


def test_where_no_difference_could_be_shown_is_one_sentence():
    blind = [pair("best", "b", 0.3, half=0.4, mde=1.5), pair("c", "best", -0.2, half=0.4, mde=1.2)]
    said = difference_sentences("best", [*blind, pair("best", "d", 0.01)])
    assert said[0] == "best and b are statistically tied: 30.0 points (95% CI −10.0 to 70.0; p = 0.50)."
    assert "Minimum detectable difference: 6.0 points" in said[2]
    assert said[3] == "The sample is too small to detect any difference between best and b and c with 80% power."
    assert len(difference_sentences("best", blind[:1])) == 1


def test_the_headline_says_which_pairs_only_their_number_hides():
    accuracies = {name: of_accuracy(0.8, 0.7, 0.9) for name in "abc"} | {"best": of_accuracy(0.9, 0.85, 0.95)}
    close, beaten = pair("best", "b", 0.02), pair("best", "a", 0.2, **SURELY)
    hidden_by = pair("c", "best", -0.1, half=0.05) | {"p_value": 0.01, "p_adjusted": 0.06}

    def said(*pairs):
        return headline([*accuracies], accuracies, [*pairs, pair("a", "b", 0.0)], {"a": "unknown"}, 0.25)

    assert said(close, beaten, hidden_by).endswith(
        "; b is statistically tied; the lead over c is not significant after Holm correction for 4 comparisons."
    )
    assert said(beaten, hidden_by).endswith(
        "85.0–95.0); the lead over c is not significant after Holm correction for 3 comparisons."
    )
    assert said(beaten) == ("best has the highest accuracy, 90.0% (95% CI 85.0–95.0), significantly above all others.")


def test_the_headline_counts_where_names_would_be_many():
    accuracies = {name: of_accuracy(0.8, 0.7, 0.9) for name in "abcdef"} | {"best": of_accuracy(0.9, 0.85, 0.95)}
    pairs = [pair("best", name, 0.02) for name in "abcde"]

    def said(n_learned, best="learned"):
        hidden = {name: "learned" if i < n_learned else "not" for i, name in enumerate("abcdef")} | {"best": best}
        return headline([*accuracies], accuracies, pairs, hidden, 0.25)

    assert said(4, "not").endswith("; 5 others are statistically tied. The hidden rule was learned by a, b, c and d.")
    assert said(4).endswith("The hidden rule was learned by 5 of 7 conditions, including best.")
    assert said(5, "not").endswith("The hidden rule was learned by 5 of 7 conditions, but not by best.")


def test_the_leader_stands_first_in_each_of_its_pairs():
    rows = [pair("a", "b", -0.2), pair("b", "c", 0.1), pair("a", "c", -0.1), pair("a", "b", 0.9) | {"seed": 0}]
    rows = [{"seed": None} | row for row in rows]
    turned = [(row["condition_a"], row["condition_b"], row["difference"]) for row in with_leader(rows)]
    assert turned == [("b", "a", 0.2), ("b", "c", 0.1), ("b", "a", -0.9)]
    assert with_leader(rows)[0]["ci_low"] == -rows[0]["ci_high"]


def test_method_claims_only_what_is_known():
    text = " ".join(method_sentences(ABOUT, 1000, 1, is_balanced=True, has_suites=False, has_free=False))
    for words in (
        "balanced across decisions",
        "a-model",
        "rulesets/a.yaml",
        "rare in practice",
        "No generalization suites",
        "Structured decoding only",
    ):
        assert words in text, words
    text = " ".join(method_sentences({}, 1000, 1, is_balanced=False, has_suites=True, has_free=True))
    for words in ("balanced", "base model", "Synthetic", "rare", "No generalization", "Structured decoding"):
        assert words not in text, words
