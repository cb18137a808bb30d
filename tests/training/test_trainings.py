"""Real trainings of the embedded model: what moves, what does not, and that it learns."""

import os
from types import SimpleNamespace

import polars as pl
import pytest
import torch

import evaluate
import train_grpo
import train_sft
from hidden_rule.core.tables import SAMPLES, read_table
from hidden_rule.training import common as training
from hidden_rule.training import structured_grpo
from sample_start import sample_start


def weights_before(arguments):
    """Every weight of the model as a training with these arguments finds it."""
    names = ("manifest", "ruleset", "train", "validation", "model_config", "lora", "start_from", "seed")
    start = training.load_start(**{name: arguments[name] for name in names})
    return {name: weight.detach().clone() for name, weight in start.model.named_parameters()}


def assert_only_the_adapter_moved(before, model):
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "lora_" in name}


def curve(path, metric):
    history = pl.read_parquet(path)
    return history.filter(pl.col("metric") == metric).sort("step")["value"].to_list()


def test_sft_moves_every_lora_weight_and_no_other_and_the_loss_falls(job):
    settings = {**job.config["sft"], "epochs": 3, "batch_size": 8, "micro_batch_size": 4, "warmup_steps": 1}
    arguments = job("sft", settings=settings)
    before = weights_before(arguments)
    model = train_sft.train_sft(**arguments)
    assert_only_the_adapter_moved(before, model)
    loss = curve(arguments["history"], "loss")
    assert len(loss) == 6 and loss[-1] < 0.7 * loss[0]


def test_grpo_moves_every_lora_weight_and_no_other_and_the_reward_rises(job):
    settings = {**job.config["grpo"], "epochs": 6, "batch_size": 4, "micro_batch_size": 2, "warmup_steps": 1}
    settings["learning_rate"] = 1.0e-3
    arguments = job("grpo", settings=settings, train=job.folder / "one_label.parquet", decoding="structured")
    before = weights_before(arguments)
    model = train_grpo.train_grpo(**arguments)
    assert_only_the_adapter_moved(before, model)
    reward = curve(arguments["history"], "reward")
    assert reward[-1] > reward[0] + 50


def test_evaluation_repeats_what_training_measured(job):
    """The adapter that was saved and loaded again gives the validation accuracy of the training's end."""
    predictions = job.folder / "predictions.parquet"
    evaluate.evaluate(
        manifest=job("sft")["manifest"],
        ruleset=job("sft")["ruleset"],
        splits={"validation": job.folder / "validation.parquet"},
        adapter=job.folder / "adapters/sft",
        model_config=job.config["model"],
        settings={"structured": ["validation"], "free": [], "batch_size": 4, "max_new_tokens": 4},
        condition="sft",
        seed=3,
        predictions=predictions,
        cost=job.folder / "cost.parquet",
    )
    frame = read_table(predictions)
    accuracy = (frame["label"] == frame["predicted"]).mean()
    assert accuracy == curve(job.folder / "sft.history.parquet", "validation_accuracy")[-1]


def test_replies_before_training(job, tiny_manifest, tmp_path):
    """As many to each application as a group has, of all labels alike; a seed draws the same again."""
    given = job("free")
    tables = []
    for name, seed in [("a", 5), ("again", 5), ("other", 6)]:
        sample_start(
            manifest=tiny_manifest,
            ruleset=given["ruleset"],
            split=given["validation"],
            adapter=None,
            model_config=job.config["model"],
            settings={"group_size": 3, "temperature": 1.0, "max_new_tokens": 2},
            applications=4,
            replies=2,
            batch_size=5,
            seed=seed,
            output=tmp_path / name,
        )
        tables.append(read_table(tmp_path / name, SAMPLES))
    assert tables[0]["application_id"].rle().struct.field("len").to_list() == [3] * 4
    assert tables[0]["label"].n_unique() == 4
    assert tables[0].equals(tables[1])
    assert not tables[0]["reply"].equals(tables[2]["reply"])


def test_grpo_explores_freely(job, tiny_manifest):
    settings = {**job.config["grpo"], "epochs": 1, "batch_size": 4, "micro_batch_size": 2, "max_new_tokens": 5}
    model_config = {**job.config["model"], "dtype": "float32"}
    arguments = job("free", settings=settings, manifest=tiny_manifest, model_config=model_config, decoding="free")
    train_grpo.train_grpo(**arguments)
    assert curve(arguments["history"], "invalid_share") == [1.0] * 4  # a random model writes no valid reply
    assert curve(arguments["history"], "reward") == [float(settings["reward"]["invalid"])] * 4
    cost = pl.read_parquet(arguments["cost"]).row(0, named=True)
    assert 0 < cost["n_tokens_generated"] <= 16 * settings["group_size"] * 5


def test_a_tracker_gets_what_a_training_logs(job, tiny_manifest, monkeypatch):
    """TensorBoard's events, read by its own reader, beside the history."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    arguments = job("tracked", settings={**job.config["sft"], "epochs": 1, "batch_size": 8}, manifest=tiny_manifest)
    resources, wildcards = SimpleNamespace(tracking="tensorboard"), SimpleNamespace(condition="sft", seed="3")
    output = SimpleNamespace(history=str(job.folder / "results/mine/training/sft/seed3/history.parquet"))
    monkeypatch.setattr(training.os, "environ", dict(os.environ))
    trackers = training.trackers(SimpleNamespace(resources=resources, wildcards=wildcards, output=output))
    assert trackers == ["tensorboard"] and training.os.environ["WANDB_NAME"] == "sft-seed3"
    assert training.os.environ["MLFLOW_EXPERIMENT_NAME"] == "mine"
    monkeypatch.undo()
    folder = job.folder / "tensorboard"
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder))
    train_sft.train_sft(**arguments, tracking=trackers)
    events = EventAccumulator(str(folder)).Reload()
    logged = [event.value for event in events.Scalars("train/loss")]
    assert logged == pytest.approx(curve(arguments["history"], "loss"))


def test_a_training_without_any_signal_stops(job, tiny_manifest, caplog):
    """Every reply earns the same, so no group ever carries a signal; three of the four steps are done."""
    settings = {**job.config["grpo"], "epochs": 1, "batch_size": 4, "micro_batch_size": 2, "patience": 3}
    settings["reward"] = {"correct": 1, "wrong": 1, "invalid": 1}
    arguments = job("still", settings=settings, manifest=tiny_manifest, decoding="structured")
    train_grpo.train_grpo(**arguments)
    assert curve(arguments["history"], "zero_signal_share") == [1.0] * 3
    assert curve(arguments["history"], "stopped_without_signal") == [3.0]
    validated = pl.read_parquet(arguments["history"]).filter(metric="validation_accuracy")["step"].to_list()
    assert validated == [0, 3]
    assert "stopped after step 3: no group carried a signal for 3 steps" in caplog.text


def test_groups_without_a_signal_need_no_gradient(job, tiny_manifest, monkeypatch):
    """Leaving them out of the backward pass trains the same adapter; in groups of two about half have no signal."""
    settings = {**job.config["grpo"], "epochs": 2, "batch_size": 8, "micro_batch_size": 8, "group_size": 2}
    model_config = {**job.config["model"], "dtype": "float32"}
    rows, plain = [], structured_grpo.StructuredGRPOTrainer.policy

    def counted(self, model, prompts):
        rows[-1].append(len(set(prompts)))
        return plain(self, model, prompts)

    monkeypatch.setattr(structured_grpo.StructuredGRPOTrainer, "policy", counted)
    models_and_norms = []
    for share in (0.0, 2.0):  # never left out; always
        monkeypatch.setattr(structured_grpo, "SIGNAL_SHARE", share)
        rows.append([])
        arguments = job(
            f"share{share:.0f}",
            settings=settings,
            manifest=tiny_manifest,
            model_config=model_config,
            decoding="structured",
        )
        model = train_grpo.train_grpo(**arguments)
        models_and_norms.append((model, curve(arguments["history"], "grad_norm")))
    assert set(rows[0]) == {8}
    assert min(rows[1]) < 8  # some groups had no signal, and were left out
    (every, with_all), (signal, with_some) = models_and_norms
    assert with_some == pytest.approx(with_all, rel=1e-4)
    for name, weight in every.named_parameters():
        torch.testing.assert_close(dict(signal.named_parameters())[name], weight, rtol=1e-3, atol=1e-6)


def test_structured_grpo_counts_labels_and_signal(job, tiny_manifest):
    settings = {**job.config["grpo"], "epochs": 1, "batch_size": 8, "micro_batch_size": 8, "beta": 0.1}
    model_config = {**job.config["model"], "dtype": "float32"}
    arguments = job("tiny", settings=settings, manifest=tiny_manifest, model_config=model_config, decoding="structured")
    train_grpo.train_grpo(**arguments)
    history = pl.read_parquet(arguments["history"])
    shares = history.filter(pl.col("metric") == "predicted_share").group_by("step").agg(pl.col("value").sum())
    assert (shares["value"] - 1).abs().max() < 1e-6
    entropy = curve(arguments["history"], "entropy")
    assert all(1.3 < value <= 1.3863 for value in entropy)  # a random model is near uniform over 4 labels: ln 4
    assert all(0 <= share <= 1 for share in curve(arguments["history"], "zero_signal_share"))
