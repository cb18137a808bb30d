"""The cost of the best condition, beside that of the cheapest one that is statistically tied with it."""

import polars as pl
import pytest
from test_comparisons import SURELY, pair

from hidden_rule.report.text.training_cost import cost_sentences, run_costs
from synthetic import costs_frame, make_ruleset

RULESET = make_ruleset(4)


def costs_of(*rows):
    rows = [(name, 0, stage, seconds, *tokens, 1, device) for name, stage, seconds, *tokens, device in rows]
    return costs_frame(rows)


COSTS_OF_WORLD = costs_of(
    ("base", "evaluate", 40.0, 0, 500, "cpu"),
    ("sft", "train", 120.0, 1000, 0, "cpu"),
    ("sft", "evaluate", 30.0, 0, 400, "cpu"),
    ("both", "train", 180.0, 3000, 900, "cpu"),
    ("both", "evaluate", 30.0, 0, 400, "cpu"),
)


FROM = {"sft": None, "both": "sft"}


ABOVE = ["sft", "both"]  # better than chance


def test_a_price_includes_what_a_condition_starts_from():
    found = run_costs(COSTS_OF_WORLD, FROM)
    both, spent = found["both"], found["both"].training
    assert (list(spent.starts), spent.seconds) == (["sft"], 300)
    assert (spent.tokens_trained, spent.tokens_generated) == (4000, 900)
    assert (both.evaluation_s, both.evaluation_tokens, both.devices) == (30.0, 400, {"cpu"})
    assert found["base"].training_s == 0
    assert "both" not in run_costs(COSTS_OF_WORLD.filter(pl.col("condition") != "sft"), FROM)  # half a cost is none


@pytest.mark.parametrize(
    ("rows", "words", "others"),
    [
        (
            [pair("both", "sft", 0.01, half=0.02), pair("both", "base", 0.5, **SURELY)],
            "sft takes 60.0% less training time and is statistically tied: both is at most 3.0 points more "
            "accurate (upper limit of the 95% CI). Cost may decide.",
            ["imprecise"],
        ),
        (
            [pair("both", "sft", 0.01, half=0.06), pair("both", "base", 0.02, half=0.2)],
            "sft takes 60.0% less training time and is statistically tied, but the comparison is imprecise: "
            "both is at most 7.0 points more accurate (upper limit of the 95% CI). Whether that is worth the cost ",
            ["Cost may decide", "base takes"],  # base is not above chance: no alternative
        ),
        ([pair("both", "base", 0.02, half=0.2)], "of evaluation (400 tokens generated).", ["base", "less accurate"]),
        ([pair("both", "sft", 0.2, **SURELY)], "All conditions compared with both are significantly less", ["takes"]),
    ],
)
def test_the_best_against_the_cheapest_that_may_be_as_good(rows, words, others):
    text = " ".join(cost_sentences("both", rows, run_costs(COSTS_OF_WORLD, FROM), ABOVE))
    assert text.startswith(
        "both: 5 min 00 s of training per seed, including sft (4,000 training tokens, 900 generated); "
    )
    assert words in text
    assert not [other for other in others if other in text]


def test_no_cost_is_stated_without_costs_and_none_is_compared_across_devices():
    rows = [pair("both", "sft", 0.01, half=0.02)]
    known = run_costs(COSTS_OF_WORLD, FROM)
    assert cost_sentences("both", rows, run_costs(COSTS_OF_WORLD.clear(), FROM), ABOVE) == []
    elsewhere = COSTS_OF_WORLD.with_columns(device=pl.when(condition="both").then(pl.lit("gpu")).otherwise("device"))
    said = " ".join(cost_sentences("both", rows, run_costs(elsewhere, FROM), ABOVE))
    assert "sft takes less training time, but on a different device, and is statistically tied" in said
    swapped = cost_sentences("sft", [pair("sft", "both", 0.01)], known, ABOVE)
    assert swapped[-1] == "Nothing as accurate trains faster."
    unknown = cost_sentences("sft", [pair("sft", "both", 0.01), pair("sft", "free", 0.01)], known, [*ABOVE, "free"])
    assert len(unknown) == 1  # what is not known is not said to cost more
