"""How much supervision a training received: known capacities, counts by hand, and bounds that hold."""

import math

import polars as pl
import pytest
from scipy.stats import entropy

from hidden_rule.core.tables import HISTORY, SUPERVISION
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.supervision import (
    TrainingRecord,
    binary_entropy,
    capacity,
    curve_names,
    measure,
    right_shares,
    rows_of_steps,
    supervise,
)

REWARD = {"correct": 100, "wrong": -50, "invalid": -100}
SFT = {"batch_size": 16, "micro_batch_size": 16}
GRPO = {**SFT, "group_size": 8, "reward": REWARD}


@pytest.mark.parametrize(
    ("n_labels", "wrong", "bits"),
    [
        (4, 0.0, 2.0),  # a clean label of four
        (8, 0.0, 3.0),
        (4, 0.75, 0.0),  # each label as likely as any other, whatever is true
        (2, 0.5, 0.0),
        (2, 0.11, 0.5),  # the binary symmetric channel's textbook value, to three digits
        (4, 0.25, 2 - 0.8112781244591328 - 0.25 * math.log2(3)),
        (2, 1.0, 1.0),  # a label that is always the other one says all
    ],
)
def test_capacities(n_labels, wrong, bits):
    assert capacity(n_labels, wrong) == pytest.approx(bits, abs=1e-4)


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.3, 0.75])
def test_capacity_is_what_is_left_after_the_noise(wrong):
    """log2 L less the entropy of what a label becomes, as scipy has it."""
    became = [1 - wrong, *[wrong / 3] * 3]
    assert capacity(4, wrong) == pytest.approx(2 - entropy(became, base=2), abs=1e-12)


def test_binary_entropy():
    assert binary_entropy([0, 0.5, 1, 0.25]).tolist() == pytest.approx([0, 1, 0, 0.8112781244591328])


@pytest.mark.parametrize(
    ("settings", "n_rows", "n_steps", "rows"),
    [
        (SFT, 25, 4, [16, 9, 16, 9]),
        (SFT, 32, 3, [16, 16, 16]),
        (SFT, 40, 2, [16, 16]),  # stopped within a pass
        (GRPO, 25, 3, [16, 16, 16]),  # nine rows are left out of each pass
        (GRPO, 50, 4, [16, 16, 16, 16]),
    ],
)
def test_rows_of_each_step(settings, n_rows, n_steps, rows):
    assert rows_of_steps(settings, n_rows, n_steps).tolist() == rows


def history(rewards=(), invalid=None, n_steps=None):
    """A history of one reward a step, and shares of invalid replies; without rewards one of SFT."""
    rows = [(step, "reward", value) for step, value in enumerate(rewards, 1)]
    rows += [(step, "invalid_share", value) for step, value in enumerate(invalid or [], 1)]
    rows += [(step, "loss", 1.0) for step in range(1, (n_steps or len(rewards)) + 1)] + [
        (0, "validation_accuracy", 0.5)
    ]
    return pl.DataFrame([(s, 1.0 * s, 10 * s, m, None, v) for s, m, v in rows], schema=HISTORY, orient="row")


def test_right_shares_are_those_the_rewards_came_from():
    # all right; all wrong; half; a quarter right where a half is invalid, so half of the valid ones; none valid
    made = history([100, -50, 25, 0.25 * 100 + 0.25 * -50 + 0.5 * -100, -100], [0, 0, 0, 0.5, 1])
    valid, right = right_shares(made, REWARD)
    assert valid.tolist() == [1, 1, 1, 0.5, 0]
    assert right.tolist() == pytest.approx([1, 0, 0.5, 0.5, 0])


def split(n, wrong=0):
    """A training split of `n` rows and labels in turn, and the same with the first `wrong` ones changed."""
    clean = pl.DataFrame({"application_id": range(n), "label": ["ABCD"[i % 4] for i in range(n)]})
    changed = pl.Series(["BCDA"[i % 4] if i < wrong else "ABCD"[i % 4] for i in range(n)])
    return clean, clean.with_columns(label=changed)


COST = {"wall_s": 30.0, "n_tokens_trained": 500}


def supervised(of_history, clean, rows, settings) -> dict:
    """The row of SUPERVISION of one training with four labels."""
    method = "grpo" if "group_size" in settings else "sft"
    condition = {"method": method, "settings": settings}
    return supervise(TrainingRecord(Run("a", 0, method), condition, of_history, COST, rows), clean, 4)


def test_bits_of_labels():
    clean, own = split(64, wrong=16)
    row = supervised(history(n_steps=8), clean, own, SFT)
    assert (row["train_rows"], row["n_labels"], row["n_steps"], row["n_replies"]) == (64, 64, 8, 0)
    assert row["wrong_share"] == 0.25
    assert row["bits"] == row["bits_labels"] == pytest.approx(64 * capacity(4, 0.25))  # a second pass adds nothing
    assert row["bits_rewards"] is None


def test_labels_that_no_step_reached_do_not_count():
    clean, own = split(64)
    row = supervised(history(n_steps=2), clean, own, SFT)
    assert (row["n_labels"], row["bits"]) == (32, 64)


def test_bits_of_rewards():
    """One reply in ten right in one step, and all in the other: h(0.1) bits each, and none."""
    clean, own = split(32)
    row = supervised(history([-35, 100]), clean, own, {**GRPO, "group_size": 2})
    assert (row["n_replies"], row["n_labels"]) == (64, 32)
    assert row["bits_rewards"] == pytest.approx(32 * binary_entropy(0.1))
    assert row["bits"] == row["bits_rewards"] < row["bits_labels"] == 64


def test_bits_of_the_samples_of_rounds():
    """RFT samples to every row at the start of two rounds: one reply in ten right, then all."""
    clean, own = split(32)
    rounds = pl.DataFrame([(step, 0.0, 0, "kept", None, 0.5) for step in (1, 9)], schema=HISTORY, orient="row")
    steps = history(n_steps=16)
    earned = history([-35, 100]).filter(metric="reward").with_columns(step=pl.Series([1, 9]))
    row = supervised(
        pl.concat([steps, rounds, earned]), clean, own, {**SFT, "rounds": 2, "samples": 3, "reward": REWARD}
    )
    assert row["n_replies"] == 2 * 3 * 32
    assert row["bits_rewards"] == pytest.approx(3 * 32 * binary_entropy(0.1))


def test_rewards_carry_no_more_than_the_labels_they_are_made_from():
    clean, own = split(32, wrong=8)
    row = supervised(history([25] * 10), clean, own, GRPO)
    assert row["bits_rewards"] == pytest.approx(10 * 16 * 8)  # one bit a reply, without the bound by the labels
    assert row["bits"] == row["bits_labels"] == pytest.approx(32 * capacity(4, 0.25))


def of(method, start=None, **settings):
    return {"method": method, "start_from": start, "settings": settings}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"base": of(None), "sft": of("sft", epochs=4)}, {"sft": "sft"}),
        (
            {f"sft_rows_{n}": of("sft", train_rows=n, epochs=9 - n) for n in (1, 12)},
            {"sft_rows_1": "sft_rows", "sft_rows_12": "sft_rows"},
        ),
        ({"a_1": of("sft", label_noise=0.1), "a_2": of("grpo", label_noise=0.1)}, {"a_1": "a_1", "a_2": "a_2"}),
        ({"a_1": of("sft", train_rows=5, lr=1), "a_2": of("sft", train_rows=6, lr=2)}, {"a_1": "a_1", "a_2": "a_2"}),
        (  # a condition that has the name that two others begin with
            {"a": of("grpo"), "a_1": of("sft", train_rows=1), "a_2": of("sft")},
            {"a": "a", "a_1": "a_1", "a_2": "a_1"},
        ),
        ({"x": of("sft", train_rows=1), "y": of("sft")}, {"x": "x", "y": "x"}),  # no letter in common
    ],
)
def test_conditions_that_differ_in_rows_noise_and_passes_are_one_curve(settings, names):
    assert curve_names(settings) == names


def test_the_table_has_a_row_a_training():
    settings = {"s_1": of("sft", **SFT, label_noise=0.25), "g": of("grpo", **GRPO)}
    clean, noisy = split(32, wrong=8)
    given = {
        Run("s_1", 0, "sft"): (history(n_steps=2), noisy),
        Run("s_1", 7, "sft"): (history(n_steps=2), noisy),
        Run("g", 0, "grpo"): (history([25, 25]), clean),
    }
    trainings = [
        TrainingRecord(run, settings[run.condition], made, COST | {"wall_s": 10.0 + run.seed}, rows)
        for run, (made, rows) in given.items()
    ]
    table = measure(trainings, clean, 4)
    assert table.schema == SUPERVISION
    assert table.select("condition", "seed", "wall_s").rows() == [("s_1", 0, 10.0), ("s_1", 7, 17.0), ("g", 0, 10.0)]
    assert table["label_noise"].to_list() == [0.25, 0.25, 0.0]
    assert table["bits_rewards"].to_list() == [None, None, pytest.approx(2 * 16 * 8)]
