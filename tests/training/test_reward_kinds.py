"""Rewards of one's own and decision costs in trainings of a tiny model: what is earned, logged, and blamed."""

import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.task.reward_trial import ALONE
from hidden_rule.task.rewards import TableRewards, added_rows
from hidden_rule.training import grpo
from repeated import assert_same_rows, assert_same_weights

LIKE_POINTS = """
import json
def reward(replies, cases):
    form, right = [], []
    for reply, case in zip(replies, cases):
        try:
            decision = json.loads(reply)["decision"]
        except (ValueError, TypeError, KeyError):
            decision = None
        form.append(-100 if decision is None else -50)
        right.append(150 if decision == case["label"] else 0)
    return {"form": form, "right": right}
"""
TRIED = 3 + ALONE  # calls before the first step
FAILS = LIKE_POINTS.replace(
    "    form, right", "    reward.calls = getattr(reward, 'calls', 0) + 1\n    form, right"
).replace(
    "        form.append",
    f"        if reward.calls > {TRIED} and decision == 'A_PLUS_TIER': raise ValueError('no')\n        form.append",
)
COSTS = {"decision_costs": {"costs": {"REJECT_RISK": {"STANDARD_LOAN": 9.0}}, "invalid": {}}}


@pytest.fixture
def train(tiny_jobs, tmp_path):
    """Train one step of all rows with a reward; the history's values by metric, and the trained adapter's weights."""

    def train(reward, name: str, **settings):
        if isinstance(reward, str):
            path = tmp_path / "my_reward.py"
            path.write_text(reward, encoding="utf-8")
            reward = {"file": str(path), "function": "reward"}
        settings = {"epochs": 2, "batch_size": 16, "micro_batch_size": 8, "warmup_steps": 0, **settings}
        job = tiny_jobs.make(name, {**tiny_jobs.config["grpo"], **settings, "reward": reward})
        model = grpo.train_grpo(job)
        history = pl.read_parquet(job.output.history)
        values = {key: of["value"].to_list() for (key,), of in history.sort("step").group_by("metric")}
        return values, {key: weight.detach() for key, weight in model.named_parameters() if "lora_" in key}

    return train


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_a_function_that_pays_points_trains_as_points_do(train, tiny_jobs, estimator):
    (points, by_points), (own, by_own) = (
        train(reward, f"{estimator}_{kind}", estimator=estimator)
        for kind, reward in [("points", tiny_jobs.config["grpo"]["reward"]), ("own", LIKE_POINTS)]
    )
    assert_same_rows([(reward,) for reward in own["reward"]], [(reward,) for reward in points["reward"]])
    assert_same_weights(by_own, by_points)
    assert own["reward/form"] == pytest.approx([-50, -50]) and "reward/form" not in points
    assert [sum(parts) for parts in zip(own["reward/form"], own["reward/right"], strict=True)] == pytest.approx(
        own["reward"]
    )


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_an_error_while_training_is_one_line(train, estimator):
    with pytest.raises(UserError) as caught:
        train(FAILS, f"{estimator}_fails", estimator=estimator)
    assert 'my_reward.py:11: reward(): raises ValueError: no for the reply \'{"decision": "A_PLUS_TIER"}\'' in str(
        caught.value
    )


def test_costs_pay_minus_what_decisions_cost(train):
    values, _ = train(COSTS, "costs", estimator="exact")
    assert -9 < values["reward"][0] < 0
    table = added_rows(TableRewards(("REJECT_RISK", "STANDARD_LOAN"), COSTS).of_replies(["REJECT_RISK"]))
    assert table == [[0, -9]]
