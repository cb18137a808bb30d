"""The answer of made-up worlds of which the truth is known: what the report then says, and what it must not say.

Predictions, histories and costs are planted; metrics, comparisons, costs and verdicts are those of the pipeline's own
scripts. Swap the numbers of two conditions, and the conclusion swaps.
"""

import re

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.tables import COSTS, HISTORY, METRICS
from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.caveats import change_sentences, method_sentences, rounded_up, telling_apart
from hidden_rule.report.text.comparisons import difference_sentences, lead_over, with_leader
from hidden_rule.report.text.findings import headline
from hidden_rule.report.text.rule_learning import hidden_sentences, policy_sentences, suite_sentences, suite_verdict
from hidden_rule.report.text.training_cost import price_of, price_sentences
from hidden_rule.report.text.training_runs import still_rising, validation_sentences
from worlds import ABOUT, WORLDS, answer_of

SURE, PRICE = "How sure is it?", "At what price?"
POLICY, HIDDEN = "Who learnt the policy?", "Who learnt the hidden rule?"
COLLAPSE_PART, CHANGE = "Did training by reward collapse?", "What would change the answer"
EXPECTED = {  # world: [(where, what stands there)], [what stands nowhere]
    "sft wins": (
        [
            ("headline", "sft decides best: "),
            ("headline", "The hidden rule was learnt by sft."),
            (SURE, "sft beats grpo by "),
            (SURE, "sft beats baseline by "),
            (SURE, "exact McNemar tests of one training seed, adjusted for 3 comparisons (Holm)"),
            (PRICE, "sft takes 10 min 00 s of training a seed (400,000 tokens trained on) and 1 min 00 s"),
            (PRICE, "Each condition that sft was compared with decides worse, at whatever price."),
            (POLICY, "baseline cannot be told apart from chance (25.0%)"),
            (POLICY, "sft learnt the policy: "),
            (POLICY, "grpo learnt a part of the policy: "),
            (HIDDEN, "sft learnt the hidden rule: "),
            (HIDDEN, "grpo did not learn the hidden rule: "),
            (COLLAPSE_PART, "grpo (seed 0) did not collapse: at its end it made each of the 4 decisions."),
            (CHANGE, "More training seeds: there is one"),
        ],
        ["cannot be told apart from it", "collapsed", "If sft leads", "points better", "grpo beats sft"],
    ),
    "rl wins": (
        [
            ("headline", "grpo decides best: "),
            ("headline", "The hidden rule was learnt by grpo."),
            (SURE, "grpo beats sft by "),
            (PRICE, "grpo takes 10 min 00 s of training a seed (400,000 tokens trained on, 80,000 generated)"),
            (HIDDEN, "sft did not learn the hidden rule: "),
            (COLLAPSE_PART, "grpo (seed 0) did not collapse"),
        ],
        ["collapsed", "sft beats grpo", "sft learnt the policy", "cannot be told apart from it"],
    ),
    "tie": (
        [
            ("headline", " decides rightly most often, "),
            ("headline", " cannot be told apart from it."),
            ("headline", "The hidden rule was learnt by sft and sft_then_grpo."),
            (SURE, " cannot be told apart: "),
            (PRICE, "of training a seed"),
            (CHANGE, "sft_then_grpo"),
        ],
        ["sft beats sft_then_grpo", "sft_then_grpo beats sft ", "decides best", "decides worse"],
    ),
    "all fail": (
        [
            ("headline", "No condition can be said to do better than chance"),
            (POLICY, "sft cannot be told apart from chance (25.0%)"),
        ],
        ["learnt the policy", "learnt a part", "beats", "takes", "decides best", "that was measured would", "leads"],
    ),
    "too few data": (
        [
            ("headline", "cannot be told apart from it"),
            ("headline", "No condition can be said to have learnt the hidden rule."),
            (SURE, "A difference of "),
            (PRICE, "No condition above chance that cannot be told apart from sft takes less training."),
            (CHANGE, "these are 40."),
            ("scope", "over 40 applications"),
        ],
        ["beats", "decides best", "learnt the policy", "learnt the hidden rule:", "decides worse", "Price may decide"],
    ),
    "collapse": (
        [
            ("headline", "sft decides best: "),
            (COLLAPSE_PART, "grpo (seed 0) collapsed into 2 of 4 decisions, "),
            (COLLAPSE_PART, "In its last steps 9"),  # 90 to 99%
            (SURE, "sft beats grpo by "),
        ],
        ["did not collapse", "grpo learnt the policy", "grpo learnt the hidden rule", "still getting better"],
    ),
    "collapse of three seeds": (
        [
            ("headline", "sft decides best: "),
            (SURE, "t-tests over applications and 3 training seeds, adjusted for 3 comparisons (Holm)"),
            (COLLAPSE_PART, "grpo (seed 0) collapsed into 2 of 4"),
            (COLLAPSE_PART, "grpo (seed 2) collapsed into 2 of 4"),
            ("Method and threats to validity", "All 3 training seeds learnt from one draw of 640 applications"),
        ],
        ["did not collapse", "one seed", "More training seeds"],
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
        return text.replace("sft", "?").replace("grpo", "sft").replace("?", "grpo")

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
        (0.02, 0.06, [0], "If a leads b by the 2.0 points seen here, some 9,000 applications would be likely to show "
         "it; these are 1,000."),
        (0.05, 0.04, [0], "As many applications once more may well tell a from b."),
        (0.005, 0.06, [0], "a leads b by so little, at most 0.5 points here, that 100 times as many applications "),
        (0.02, 0.06, [-0.01, 0, 0.01], "some 5 training seeds would be likely to show it; these are 3."),
        (0.08, 0.06, [-0.01, 0, 0.01], "As many training seeds once more may well tell a from b."),
        (0.01, 0.06, [-0.1, 0, 0.1], "at most 1.0 points here, that 100 training seeds would not be likely to show"),
        (0.0, 0.06, [-0.01, 0, 0.01], "at most 0.0 points here, that 100 training seeds would not be likely to show"),
    ],
)  # fmt: skip
def test_what_it_takes_to_tell_two_conditions_apart(lead, mde, around, words):
    half = 0.05 if len(around) == 1 else 4.303 * np.std(around, ddof=1) / 3**0.5  # t: applications add nothing
    for row in (pair("a", "b", lead, half, mde=mde), pair("b", "a", -lead, half, mde=mde)):
        row["of_seeds"] = [row["difference"] + shift for shift in around]
        row["ci_low"] = min(row["ci_low"], 0.0)  # hence not told apart
        (sentence,) = telling_apart("a", [row, pair("b", "c", 0.3)], 1000)
        assert words in sentence
    assert telling_apart("a", [pair("a", "b", 0.2, **SURELY)], 1000) == []  # they are told apart
    assert telling_apart("a", [pair("a", "b", 0.02, mde=None)], 1000) == []


def test_numbers_are_rounded_up_to_two_digits():
    assert [rounded_up(n) for n in (7.2, 10, 9.4, 101, 9_000, 12_345)] == [8, 10, 10, 110, 9_000, 13_000]


def test_what_would_change_the_answer_says_nothing_without_cause():
    sure = [pair("a", "b", 0.2, **SURELY)]
    nothing = ["Nothing that was measured would: each condition that a was compared with decides worse."]
    assert change_sentences("a", sure, 1000, 3, [], [], [], True) == nothing
    assert change_sentences("a", sure, 1000, 1, [], [], [], False) == nothing
    assert change_sentences(None, [pair("a", "b", 0.01)], 1000, 3, ["x"], [], [], True) == []
    said = change_sentences("a", sure, 1000, 1, ["decoys 50%"], ["a", "b"], ["c", "d"], True)
    assert [line.split(":")[0] for line in said[::2]] == ["More training seeds", "More passes"]
    assert said[3].startswith("Another start for c and d: ")
    assert said[1] == "Applications like those of the suites that a fails (decoys 50%)."


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


def test_a_price_holds_what_a_condition_starts_from():
    assert price_of(PRICES, "both", FROM) == {
        "from": ["sft"], "train_s": 300.0, "tokens_trained": 4000, "tokens_generated": 900, "evaluate_s": 30.0,
        "evaluate_tokens": 400, "devices": {"cpu"},
    }  # fmt: skip
    assert price_of(PRICES, "base", FROM)["train_s"] == 0
    assert price_of(PRICES.filter(pl.col("condition") != "sft"), "both", FROM) is None  # half a price is none
    assert price_of(PRICES, "unknown", FROM) is None


@pytest.mark.parametrize(
    ("rows", "words", "others"),
    [
        (
            [pair("both", "sft", 0.01, half=0.02), pair("both", "base", 0.5, **SURELY)],
            "sft saves 60.0% of the training time, and cannot be told apart from both: the interval leaves room for "
            "both to be up to 3.0 points better. Price may decide.",
            ["do not decide"],
        ),
        (
            [pair("both", "sft", 0.01, half=0.06), pair("both", "base", 0.02, half=0.2)],
            "sft saves 60.0% of the training time, but the interval leaves room for both to be up to 7.0 points "
            "better: these numbers do not decide whether that is worth it.",
            ["Price may decide", "base saves"],  # base does no better than chance: no bargain
        ),
        ([pair("both", "base", 0.02, half=0.2)], "to answer the evaluation (400 tokens written).", ["base", "worse"]),
        ([pair("both", "sft", 0.2, **SURELY)], "Each condition that both was compared with decides worse", ["saves"]),
    ],
)
def test_the_best_against_the_cheapest_that_may_be_as_good(rows, words, others):
    text = " ".join(price_sentences("both", rows, PRICES, FROM, ABOVE))
    assert text.startswith(
        "both takes 5 min 00 s of training a seed (4,000 tokens trained on, 900 generated, with sft "
    )
    assert words in text
    assert not [other for other in others if other in text]


def test_no_price_is_said_without_costs_and_none_is_compared_across_devices():
    rows = [pair("both", "sft", 0.01, half=0.02)]
    assert price_sentences("both", rows, None, FROM, ABOVE) == []
    assert price_sentences("both", rows, PRICES.clear(), FROM, ABOVE) == []
    elsewhere = PRICES.with_columns(device=pl.when(condition="both").then(pl.lit("gpu")).otherwise("device"))
    assert "sft saves time, though on another device" in " ".join(price_sentences("both", rows, elsewhere, FROM, ABOVE))
    swapped = price_sentences("sft", [pair("sft", "both", 0.01)], PRICES, FROM, ABOVE)
    assert swapped[-1] == "No condition above chance that cannot be told apart from sft takes less training."
    unknown = price_sentences(
        "sft", [pair("sft", "both", 0.01), pair("sft", "free", 0.01)], PRICES, FROM, [*ABOVE, "free"]
    )
    assert len(unknown) == 1  # what is not known is not said to cost more


def validated(*values, stopped=False):
    rows = [(i, 0.0, 0, "validation_accuracy", None, value) for i, value in enumerate(values)]
    rows += [(len(values), 0.0, 0, "stopped_without_signal", None, 50.0)] if stopped else []
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def test_training_in_words_and_what_was_still_rising():
    histories = [validated(0.2, 0.5, 0.8), validated(0.3, 0.88, 0.9), validated(0.2, 0.8, stopped=True), validated(0.5)]
    trained = [["up", 0, "sft"], ["flat", 0, "sft"], ["stopped", 0, "grpo"], ["none", 0, "sft"]]
    assert validation_sentences(trained, histories) == [
        "up went from 20.0% right on the validation split to 80.0%; its last pass changed it by +30.0 points.",
        "flat went from 30.0% right on the validation split to 90.0%; its last pass changed it by +2.0 points.",
        "stopped went from 20.0% right on the validation split to 80.0%.",
    ]
    nine = [(f"c{i}", 0, "sft") for i in range(9)]
    (said,) = validation_sentences(nine, [validated(0.2, 0.5, 0.8)] * 8 + [validated(0.3, 0.25, 0.2)])
    assert "points): c0 20.0 to 80.0% (+30.0), c1 20.0" in said
    assert said.endswith("c7 20.0 to 80.0% (+30.0) and c8 30.0 to 20.0% (−5.0).")
    assert still_rising(trained, histories, 160) == ["up"]
    assert still_rising(trained, histories, 4) == []  # three of four, or two: chance


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
    assert suite_verdict(Estimate(None, low, high, 40), metric) == verdict


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
        "a fails on words like the trigger or another harmless value; holds up on the trigger in other words; "
        "leaves open the hidden rule against another.",
        "b fails on the trigger in other words.",
    ]
    assert said[2].startswith("What holds up has its whole interval at or above 80% right, what fails below it")
    assert suite_sentences(metrics.filter(suite="test"), ["a", "b"]) == []


def of_accuracy(value, low, high):
    return Estimate(value, low, high, 100)


def test_many_conditions_are_told_in_groups():
    names = [f"c{i}" for i in range(9)]
    good, half, guess = of_accuracy(0.9, 0.85, 0.95), of_accuracy(0.5, 0.4, 0.6), of_accuracy(0.25, 0.2, 0.3)
    accuracies = dict(zip(names, [good, *[half] * 4, *[guess] * 4], strict=True))
    assert policy_sentences(names, accuracies, 0.25) == [
        "Learnt, by the share of decisions that are right: c0 (90.0%).",
        "Learnt in part (chance is 25.0%): c1 (50.0%), c2 (50.0%), c3 (50.0%), c4 (50.0%).",
        "Not to be told apart from chance: c5 (25.0%), c6 (25.0%), c7 (25.0%), c8 (25.0%).",
    ]
    assert policy_sentences(names[:8], accuracies, 0.25)[0] == (
        "c0 learnt the policy: 90.0% (85.0 to 95.0%) of its decisions are right."
    )
    missed, rates = of_accuracy(0.0, 0.0, 0.1), dict.fromkeys(names, 0.25)
    recalls = dict(zip(names, [good, good, *[missed] * 7], strict=True))
    precisions = dict(zip(names, [good, guess, *[None] * 7], strict=True))
    said = hidden_sentences(names, recalls, precisions, rates)
    assert said[0] == "Learnt (recall, precision): c0 (90.0%, 90.0%)."
    assert said[1] == "No sign of it, the precision being one that chance explains: c1 (90.0%, 25.0%)."
    assert said[2].startswith("Not learnt: c2 (0.0%, –), c3 ")


def test_what_the_best_of_many_beats_is_one_sentence():
    beaten = [pair("best", f"c{i}", 0.2 + i / 100, **SURELY) for i in range(7)]
    unsure = pair("other", "best", -0.01)
    said = difference_sentences("best", [*beaten, unsure])
    assert said[0].startswith(
        "best beats c0, c1, c2, c3, c4, c5 and c6, by 20.0 to 26.0 points (each p = 0.001 or less)."
    )
    assert said[1].startswith("best and other cannot be told apart: 1.0 points")
    assert len(difference_sentences("best", beaten)) == 7


def test_where_no_difference_could_be_shown_is_one_sentence():
    blind = [pair("best", "b", 0.3, half=0.4, mde=1.5), pair("c", "best", -0.2, half=0.4, mde=1.2)]
    said = difference_sentences("best", [*blind, pair("best", "d", 0.01)])
    assert said[0] == "best and b cannot be told apart: 30.0 points (−10.0 to 70.0; p = 0.50)."
    assert "A difference of 6.0 points" in said[2]
    assert said[3] == (
        "There are too few applications or seeds to show any difference between best and b and c with such a chance as "
        "80%."
    )
    assert len(difference_sentences("best", blind[:1])) == 1


def test_the_headline_says_which_pairs_only_their_number_hides():
    accuracies = {name: of_accuracy(0.8, 0.7, 0.9) for name in "abc"} | {"best": of_accuracy(0.9, 0.85, 0.95)}
    close, beaten = pair("best", "b", 0.02), pair("best", "a", 0.2, **SURELY)
    hidden_by = pair("c", "best", -0.1, half=0.05) | {"p_value": 0.01, "p_adjusted": 0.06}

    def said(*pairs):
        return headline([*accuracies], accuracies, [*pairs, pair("a", "b", 0.0)], {"a": "unknown"}, 0.25)

    assert said(close, beaten, hidden_by).endswith("but b cannot be told apart from it, nor, among 4 comparisons, c.")
    assert said(beaten, hidden_by).endswith("but among 3 comparisons c cannot be told apart from it.")
    assert said(beaten) == "best decides best: 90.0% (85.0 to 95.0%) of its decisions are right."


def test_the_headline_counts_where_names_would_be_many():
    accuracies = {name: of_accuracy(0.8, 0.7, 0.9) for name in "abcdef"} | {"best": of_accuracy(0.9, 0.85, 0.95)}
    pairs = [pair("best", name, 0.02) for name in "abcde"]

    def said(n_learnt, best="learnt"):
        hidden = {name: "learnt" if i < n_learnt else "not" for i, name in enumerate("abcdef")} | {"best": best}
        return headline([*accuracies], accuracies, pairs, hidden, 0.25)

    assert said(4, "not").endswith(
        ", but 5 others cannot be told apart from it. The hidden rule was learnt by a, b, c and d."
    )
    assert said(4).endswith("The hidden rule was learnt by 5 of 7 conditions, best among them.")
    assert said(5, "not").endswith("The hidden rule was learnt by 5 of 7 conditions, best not among them.")


def test_the_leader_stands_first_in_each_of_its_pairs():
    rows = [pair("a", "b", -0.2), pair("b", "c", 0.1), pair("a", "c", -0.1), pair("a", "b", 0.9) | {"seed": 0}]
    rows = [{"seed": None} | row for row in rows]
    turned = [(row["condition_a"], row["condition_b"], row["difference"]) for row in with_leader(rows)]
    assert turned == [("b", "a", 0.2), ("b", "c", 0.1), ("b", "a", -0.9)]
    assert with_leader(rows)[0]["ci_low"] == -rows[0]["ci_high"]


def test_method_claims_only_what_is_known():
    text = " ".join(method_sentences(ABOUT, 1000, 1, is_balanced=True, has_suites=False, has_free=False))
    for words in (
        "right equally often",
        "a-model",
        "rulesets/a.yaml",
        "rare in practice",
        "No suites",
        "held to valid",
    ):
        assert words in text, words
    text = " ".join(method_sentences({}, 1000, 1, is_balanced=False, has_suites=True, has_free=True))
    for words in ("equally often", "base model", "drawn from", "rare", "No suites", "held to valid"):
        assert words not in text, words
