"""What trainings and evaluations report of their cost: positions, steps, and both halves of a resumed training."""

import pytest
import torch

from hidden_rule.core.costs import read_costs
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.job import CheckpointPlan, TrainingOutput
from hidden_rule.training.sft import train_sft
from hidden_rule.training.watcher import Watcher

pytestmark = pytest.mark.slow


class KilledError(Exception):
    pass


def train(tiny_jobs, root, method="sft", **checkpoint):
    """The cost of a training of 8 steps in two epochs, on 16 rows."""
    changes = {"epochs": 2, "batch_size": 4, "micro_batch_size": 2, "warmup_steps": 1}
    job = tiny_jobs.make(
        root.name,
        {**tiny_jobs.config[method], **changes},
        output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
        checkpoints=CheckpointPlan(root / "checkpoints", "a", **checkpoint),
    )
    {"sft": train_sft, "grpo": train_grpo}[method](job)
    return read_costs(job.output.cost).row(0, named=True), job


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_resumed_training_counts_each_step_once(tiny_jobs, tmp_path, monkeypatch, method):
    whole, _ = train(tiny_jobs, tmp_path / "whole", method)
    with monkeypatch.context() as patch:
        plain = Watcher.on_step_begin

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KilledError
            return plain(self, args, state, control, **kwargs)

        patch.setattr(Watcher, "on_step_begin", on_step_begin)
        with pytest.raises(KilledError):
            train(tiny_jobs, tmp_path / "killed", method, steps=3)
    resumed, _ = train(tiny_jobs, tmp_path / "killed", method, steps=3)
    counted = ["n_steps", "n_positions", "flops", "n_tokens_trained", "n_tokens_generated"]
    assert [resumed[name] for name in counted] == [whole[name] for name in counted]
    assert whole["n_steps"] == 8 and (whole["gpu_s"] > 0) == torch.cuda.is_available()
    for cost in (whole, resumed):
        assert 8 * cost["step_s"] < cost["idle_s"] <= cost["wall_s"] * 1.5
        assert cost["cpu_s"] > 0 and cost["cores"] > 0


def test_positions_of_an_evaluation_are_those_of_its_prompts(tiny_jobs, tmp_path):
    _, job = train(tiny_jobs, tmp_path / "sft")
    evaluation = EvaluationJob(
        condition="sft",
        seed=3,
        base=job.base,
        adapter=job.output.adapter,
        ruleset=job.data.ruleset,
        splits={"validation": job.data.validation},
        settings={"structured": ["validation"], "free": ["validation"], "batch_size": 4, "max_new_tokens": 3},
        output=EvaluationOutput(tmp_path / "predictions.parquet", tmp_path / "cost.parquet"),
    )
    evaluate(evaluation)
    cost = read_costs(evaluation.output.cost).row(0, named=True)
    assert cost["n_steps"] is None and cost["step_s"] is None
    assert cost["idle_s"] > 0 and cost["flops"] > 0
