"""A training that ends with its time, on a clock that each step moves on by ten seconds."""

import polars as pl
import pytest

from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.job import CheckpointPlan, TrainingOutput
from hidden_rule.training.sft import train_sft
from hidden_rule.training.watcher import Watcher
from repeated import assert_same_rows


class KilledError(Exception):
    pass


@pytest.fixture
def train(tiny_jobs, tmp_path, monkeypatch):
    """Train SFT or GRPO with so many minutes; returns the history. It may be killed before a step."""
    monkeypatch.setattr(Watcher, "clock_s", lambda self: self.wall_s + 10 * self.n_steps, raising=False)
    plain = Watcher.on_train_begin, Watcher.on_step_begin

    def on_train_begin(self, args, state, control, **kwargs):
        self.n_steps = 0
        plain[0](self, args, state, control, **kwargs)

    monkeypatch.setattr(Watcher, "on_train_begin", on_train_begin)

    def train(method, name="a", killed_before=None, every=0, **settings):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == killed_before:
                raise KilledError
            self.n_steps += 1

        monkeypatch.setattr(Watcher, "on_step_begin", on_step_begin)
        root = tmp_path / name
        job = tiny_jobs.make(
            name,
            {**tiny_jobs.config[method], "batch_size": 4, "micro_batch_size": 4, "warmup_steps": 2, **settings},
            output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
            checkpoints=CheckpointPlan(root / "checkpoints", "a", steps=every),
        )
        (train_grpo if method == "grpo" else train_sft)(job)
        return pl.read_parquet(root / "history.parquet")

    return train


def of(history, metric):
    return history.filter(metric=metric).select("step", "value").rows()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_it_ends_in_time_and_the_learning_rate_with_it(train, method):
    """One minute is six steps, two of them of warm-up; an epoch has four."""
    history = train(method, epochs=100, max_minutes=1, learning_rate=1e-3)
    rates = [value for _, value in of(history, "learning_rate")]
    # step / warm-up, but never above what is left of the time and of the 400 steps
    assert rates == pytest.approx([0, 0.5e-3, 1e-3 * 4 / 6, 1e-3 * 3 / 6, 1e-3 * 2 / 6, 1e-3 * 1 / 6])
    assert of(history, "stopped_by_time_limit") == [(6, 1.0)]
    assert [step for step, _ in of(history, "validation_accuracy")] == [0, 4, 6]


@pytest.mark.slow
def test_it_may_end_with_an_epoch(train):
    history = train("sft", epochs=100, max_minutes=80 / 60)
    assert [step for step, _ in of(history, "validation_accuracy")] == [0, 4, 8]


def test_epochs_may_run_out_first(train):
    history = train("sft", epochs=2, max_minutes=10, learning_rate=1e-3)
    rates = [value for _, value in of(history, "learning_rate")]
    assert len(rates) == 8 and of(history, "stopped_by_time_limit") == []
    assert rates[2:] == pytest.approx([1e-3 * (8 - step) / 8 for step in range(2, 8)])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_killed_training_has_no_more_time(train, method):
    limits = {"epochs": 100, "max_minutes": 1.0}
    expected = train(method, "undisturbed", **limits).drop("wall_s").rows()
    with pytest.raises(KilledError):
        train(method, "killed", killed_before=5, every=3, **limits)
    assert_same_rows(train(method, "killed", every=3, **limits).drop("wall_s").rows(), expected)
