"""The cost of the best condition, beside that of the cheapest one that is statistically tied with it."""

import polars as pl
import pytest
from test_comparisons import SURELY, pair

from hidden_rule.core.tables import COSTS, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.report.cost_table import cost_notes, cost_table
from hidden_rule.report.publish import times_in_words, training_cell
from hidden_rule.report.text.phrases import money, operations
from hidden_rule.report.text.training_cost import busy_sentences, cost_sentence, cost_sentences, run_costs
from synthetic import costs_frame, make_ruleset, write_results

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


def estimated(costs, busy=()):
    """Costs with estimates: a tenth of the wall seconds was lost to other work."""
    return costs.with_columns(
        idle_s=0.9 * pl.col("wall_s"), flops=1e12 * pl.col("wall_s"), is_disturbed=pl.col("condition").is_in(list(busy))
    )


def test_the_first_number_is_of_an_idle_machine_and_wall_time_stands_beside_it():
    found = run_costs(estimated(COSTS_OF_WORLD), FROM, price_per_hour=3.0)
    assert cost_sentence("both", found["both"]) == (
        "both: 4 min 30 s of training per seed, including sft, on an idle machine (wall time 5 min 00 s; 4,000 "
        "training tokens, 900 generated, 300 TFLOP); 27.0 s of evaluation (wall time 30.0 s; 400 tokens generated); "
        "price 0.25."
    )
    assert cost_sentence("sft", found["sft"]).startswith(
        "sft: 1 min 48 s of training per seed on an idle machine (wall time 2 min 00 s; 1,000 training tokens, "
    )
    assert found["base"].price == pytest.approx(36 / 3600 * 3)
    assert (found["both"].training.seconds, found["both"].training.wall_s) == (270.0, 300.0)
    half = pl.concat([estimated(COSTS_OF_WORLD).filter(condition="sft"), COSTS_OF_WORLD.filter(condition="both")])
    mixed = run_costs(half, FROM)["both"].training
    assert (mixed.is_estimate, mixed.flops, mixed.seconds) == (False, None, 108 + 180)


def test_busy_machines_are_named():
    assert busy_sentences(estimated(COSTS_OF_WORLD)) == []
    assert busy_sentences(estimated(COSTS_OF_WORLD, ["sft", "both"])) == [
        "The machine was busy during runs of both and sft: do not compare times."
    ]
    assert busy_sentences(COSTS_OF_WORLD) == [
        "Times are wall-clock times of this run: other load on the machine lengthens them."
    ]
    many = pl.concat([COSTS_OF_WORLD.head(1).with_columns(condition=pl.lit(name)) for name in "abcde"])
    assert "during runs of 5 conditions" in busy_sentences(estimated(many, "abcde"))[0]
    assert run_costs(estimated(COSTS_OF_WORLD, ["sft"]), FROM)["both"].training.is_disturbed  # what it starts from


@pytest.mark.parametrize(
    ("flops", "words"),
    [(0.0, "0 MFLOP"), (1.24e15, "1.2 PFLOP"), (9.96e14, "1,000 TFLOP"), (3.2e18, "3.2 EFLOP"), (5e21, "5,000 EFLOP")],
)
def test_operations_in_words(flops, words):
    assert operations(flops) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0.0, "0.00"), (0.00001234, "0.000012"), (1.2, "1.20"), (1234.5, "1,234.50")],
)
def test_money_in_words(amount, words):
    assert money(amount) == words


def test_the_table_of_costs_has_the_columns_that_there_are(tmp_path):
    results = write_results(tmp_path, RULESET, config={"price_per_hour": 6.0})
    shown = cost_table(results)
    assert shown["columns"][:6] == ["condition", "stage", "runs", "on an idle machine", "price", "wall time"]
    row = dict(zip(shown["columns"], next(row for row in shown["rows"] if row[:2] == ["sft", "train"]), strict=True))
    assert (row["on an idle machine"], row["wall time"], row["price"]) == ("9 min 00 s", "10 min 00 s", "0.90")
    assert (row["steps"], row["operations"], row["CPU time"]) == ("160 × 3.5 s", "600 TFLOP", "18 min 00 s")
    assert "busy" not in row and "GPU time" not in row
    assert any("at 6.00 an hour" in note for note in cost_notes(results))
    older = results.costs.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in list(COSTS.items())[8:])
    write_table(older, tmp_path / "costs.parquet", COSTS)
    results = write_results_again(tmp_path, results)
    assert cost_table(results)["columns"] == [
        "condition", "stage", "runs", "wall time", "training tokens", "tokens generated", "peak memory", "device",
    ]  # fmt: skip
    assert "Wall time of each process" in cost_notes(results)[0]


def write_results_again(folder, results):
    """The same experiment without a price, its tables read anew."""
    config = {key: value for key, value in results.config.items() if key != "price_per_hour"}
    return Results(folder, config, ruleset=RULESET)


def test_minutes_in_published_tables():
    found = run_costs(estimated(COSTS_OF_WORLD), FROM)
    assert training_cell(found["both"].training) == "4.5 min (5.0)"
    assert training_cell(run_costs(COSTS_OF_WORLD, FROM)["both"].training) == "5.0 min"
    assert training_cell(None) == "–"
    assert "the machine was busy" in times_in_words(estimated(COSTS_OF_WORLD, ["sft"]))
