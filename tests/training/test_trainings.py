"""Real trainings of the embedded model: what moves, what does not, and that it learns."""

import os

import polars as pl
import pytest
import torch

from hidden_rule.core.tables import COSTS, SAMPLES, read_table
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput, SamplingJob
from hidden_rule.evaluation.sample_start import sample_start
from hidden_rule.training import arguments, structured_grpo
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.job import TrainingOutput
from hidden_rule.training.sft import train_sft
from hidden_rule.training.start import load_start

pytestmark = pytest.mark.slow  # several processes, or a real model


def weights_before(job):
    """Every weight of the model as a training finds it."""
    return {name: weight.detach().clone() for name, weight in load_start(job).model.named_parameters()}


def assert_only_the_adapter_moved(before, model):
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "lora_" in name}


def curve(job, metric):
    return pl.read_parquet(job.output.history).filter(metric=metric).sort("step")["value"].to_list()


@pytest.fixture(scope="module")
def trained_sft(jobs):
    """The job of a training by SFT that has ended, the weights before it, and the model after it."""
    changes = {"epochs": 3, "batch_size": 8, "micro_batch_size": 4, "warmup_steps": 1}
    job = jobs.make("sft", {**jobs.config["sft"], **changes})
    return job, weights_before(job), train_sft(job)


def test_sft_moves_every_lora_weight_and_no_other_and_the_loss_falls(trained_sft):
    job, before, model = trained_sft
    assert_only_the_adapter_moved(before, model)
    loss = curve(job, "loss")
    assert len(loss) == 6 and loss[-1] < 0.7 * loss[0]


def test_grpo_moves_every_lora_weight_and_no_other_and_the_reward_rises(jobs):
    changes = {"epochs": 6, "batch_size": 4, "micro_batch_size": 2, "warmup_steps": 1, "learning_rate": 1.0e-3}
    job = jobs.make("grpo", {**jobs.config["grpo"], **changes}, train="one_label")
    before = weights_before(job)
    assert_only_the_adapter_moved(before, train_grpo(job))
    reward = curve(job, "reward")
    assert reward[-1] > reward[0] + 50


def test_evaluation_repeats_what_training_measured(trained_sft, tmp_path):
    """The adapter that was saved and loaded again gives the validation accuracy of the training's end."""
    job, *_ = trained_sft
    evaluation = EvaluationJob(
        condition="sft",
        seed=3,
        base=job.base,
        adapter=job.output.adapter,
        ruleset=job.data.ruleset,
        splits={"validation": job.data.validation},
        settings={"structured": ["validation"], "free": [], "batch_size": 4, "max_new_tokens": 4},
        output=EvaluationOutput(tmp_path / "predictions.parquet", tmp_path / "cost.parquet"),
    )
    evaluate(evaluation)
    frame = read_table(evaluation.output.predictions)
    accuracy = (frame["label"] == frame["predicted"]).mean()
    assert accuracy == curve(job, "validation_accuracy")[-1]
    assert read_table(evaluation.output.cost, COSTS)["stage"].to_list() == ["evaluate"]


def test_replies_before_training(tiny_jobs, tmp_path):
    """As many to each application as a group has, of all labels alike; a seed draws the same again."""
    job, tables = tiny_jobs.make("free", {}), []
    for name, seed in [("a", 5), ("again", 5), ("other", 6)]:
        sampling = SamplingJob(
            seed=seed,
            base=job.base,
            adapter=None,
            ruleset=job.data.ruleset,
            split=job.data.validation,
            settings={"group_size": 3, "temperature": 1.0, "max_new_tokens": 2},
            applications=4,
            replies=2,
            batch_size=5,
            output=tmp_path / name,
        )
        sample_start(sampling)
        tables.append(read_table(sampling.output, SAMPLES))
    assert tables[0]["application_id"].rle().struct.field("len").to_list() == [3] * 4
    assert tables[0]["label"].n_unique() == 4
    assert tables[0].equals(tables[1])
    assert not tables[0]["reply"].equals(tables[2]["reply"])


def test_grpo_explores_freely(tiny_jobs):
    settings = {**tiny_jobs.config["grpo"], "epochs": 1, "batch_size": 4, "micro_batch_size": 2, "max_new_tokens": 5}
    job = tiny_jobs.make("free", settings, decoding="free")
    train_grpo(job)
    assert curve(job, "invalid_share") == [1.0] * 4  # a random model writes no valid reply
    assert curve(job, "reward") == [float(settings["reward"]["invalid"])] * 4
    cost = pl.read_parquet(job.output.cost).row(0, named=True)
    assert 0 < cost["n_tokens_generated"] <= 16 * settings["group_size"] * 5


def test_a_tracker_gets_what_a_training_logs(tiny_jobs, tmp_path, monkeypatch):
    """TensorBoard's events, read by its own reader, beside the history."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "results/mine/training/sft/seed3"
    job = tiny_jobs.make(
        "tracked",
        {**tiny_jobs.config["sft"], "epochs": 1, "batch_size": 8},
        output=TrainingOutput(tmp_path / "adapter", folder / "history.parquet", folder / "cost.parquet"),
        trackers=("tensorboard",),
    )
    monkeypatch.setattr(arguments.os, "environ", dict(os.environ))
    assert arguments.trackers(job) == ["tensorboard"]
    assert arguments.os.environ["WANDB_NAME"] == "tracked-seed3"
    assert arguments.os.environ["MLFLOW_EXPERIMENT_NAME"] == "mine"
    monkeypatch.undo()
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard"))
    for name in ("MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT", "WANDB_DIR", "WANDB_NAME"):
        monkeypatch.setenv(name, "")  # put back at the end
    train_sft(job)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    logged = [event.value for event in events.Scalars("train/loss")]
    assert logged == pytest.approx(curve(job, "loss"))


def test_a_training_without_any_signal_stops(tiny_jobs, caplog, monkeypatch):
    """Every reply earns the same reward; three of the four steps are done, of which only replies are computed."""
    passes, plain = [], structured_grpo.StructuredGRPOTrainer.policy

    def counted(self, model, prompts):
        passes.append(len(set(prompts)))
        return plain(self, model, prompts)

    monkeypatch.setattr(structured_grpo.StructuredGRPOTrainer, "policy", counted)
    settings = {**tiny_jobs.config["grpo"], "epochs": 1, "batch_size": 4, "micro_batch_size": 2, "patience": 3}
    settings["entropy_coef"] = 0.0  # a bonus is a signal
    job = tiny_jobs.make("still", {**settings, "reward": {"correct": 1, "wrong": 1, "invalid": 1}})
    train_grpo(job)
    assert passes == [2, 2] * 3  # prompts of a micro-batch
    assert curve(job, "grad_norm") == [0.0] * 3
    assert curve(job, "zero_signal_share") == [1.0] * 3
    assert curve(job, "stopped_without_signal") == [3.0]
    validated = pl.read_parquet(job.output.history).filter(metric="validation_accuracy")["step"].to_list()
    assert validated == [0, 3]
    assert "stopped after step 3: for 3 steps the rewards within each group were equal" in caplog.text


def test_groups_without_a_signal_need_no_gradient(tiny_jobs, monkeypatch):
    """Leaving them out of the backward pass trains the same adapter; in groups of two about half have no signal."""
    settings = {**tiny_jobs.config["grpo"], "epochs": 2, "batch_size": 8, "micro_batch_size": 8, "group_size": 2}
    settings["entropy_coef"] = 0.0  # a bonus is a signal
    rows, plain = [], structured_grpo.StructuredGRPOTrainer.policy

    def counted(self, model, prompts):
        rows[-1].append(len(set(prompts)))
        return plain(self, model, prompts)

    monkeypatch.setattr(structured_grpo.StructuredGRPOTrainer, "policy", counted)
    models_and_norms = []
    for share in (0.0, 2.0):  # never left out; always
        monkeypatch.setattr(structured_grpo, "SIGNAL_SHARE", share)
        rows.append([])
        job = tiny_jobs.make(f"share{share:.0f}", settings)
        models_and_norms.append((train_grpo(job), curve(job, "grad_norm")))
    assert set(rows[0]) == {8}
    assert min(rows[1]) < 8  # some groups had no signal, and were left out
    (every, with_all), (signal, with_some) = models_and_norms
    assert with_some == pytest.approx(with_all, rel=1e-4)
    for name, weight in every.named_parameters():
        torch.testing.assert_close(dict(signal.named_parameters())[name], weight, rtol=1e-3, atol=1e-6)


def test_structured_grpo_counts_labels_and_signal(tiny_jobs):
    settings = {**tiny_jobs.config["grpo"], "epochs": 1, "batch_size": 8, "micro_batch_size": 8, "beta": 0.1}
    job = tiny_jobs.make("tiny", settings)
    train_grpo(job)
    history = pl.read_parquet(job.output.history)
    shares = history.filter(pl.col("metric") == "predicted_share").group_by("step").agg(pl.col("value").sum())
    assert (shares["value"] - 1).abs().max() < 1e-6
    entropy = curve(job, "entropy")
    assert all(1.3 < value <= 1.3863 for value in entropy)  # a random model is near uniform over 4 labels: ln 4
    assert all(0 <= share <= 1 for share in curve(job, "zero_signal_share"))
