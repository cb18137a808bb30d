"""A training that was killed goes on from its newest whole checkpoint, and ends where it would have ended."""

import json
import logging
import os
import signal
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load

from hidden_rule.core.errors import UserError
from hidden_rule.training.checkpoints import Checkpoints, is_whole
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.job import CheckpointPlan, TrainingJob, TrainingOutput, training_identity
from hidden_rule.training.memory import retry_with_smaller_batch
from hidden_rule.training.sft import train_sft
from hidden_rule.training.watcher import Watcher
from repeated import assert_same_rows, assert_same_weights


class KilledError(Exception):
    pass


VARIANTS = {
    "free": {"max_new_tokens": 4, "group_size": 2, "entropy_coef": 0.1},
    "exact": {"estimator": "exact", "entropy_coef": 0.1},
    "curriculum": {"curriculum": {"by": "probability", "epochs": 1, "share": 0.5}},
}


def train(tiny_jobs, root, start_from=None, method="sft", **checkpoint):
    """A training of 8 steps in two epochs of 4, in float32; its history without seconds, and its adapter's bytes."""
    decoding = "free" if method == "free" else "structured"
    method, _, last = method.partition(", ")
    lora = {**tiny_jobs.config["lora"], "last_layers": 1 if last else 0}
    variant, method = VARIANTS.get(method, {}), "grpo" if method in VARIANTS else method
    changes = {"epochs": 2, "batch_size": 4, "micro_batch_size": 2, "warmup_steps": 1, **variant}
    job = tiny_jobs.make(
        root.name,
        {**tiny_jobs.config[method], **changes},
        output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
        start_from=start_from,
        checkpoints=CheckpointPlan(root / "checkpoints", "a", **checkpoint),
        decoding=decoding,
        lora=lora,
    )
    (train_grpo if method == "grpo" else train_sft)(job)
    weights = (root / "adapter" / "adapter_model.safetensors").read_bytes()
    return pl.read_parquet(root / "history.parquet").drop("wall_s").rows(), weights


def assert_same(found, expected):
    """The same training: history and the adapter's bytes."""
    assert_same_rows(found[0], expected[0])
    assert_same_weights(load(found[1]), load(expected[1]))
    assert torch.cuda.is_available() or found[1] == expected[1]


def kill_after(monkeypatch, step):
    """Let a training die right after a step, its checkpoint written if one is due."""
    plain = Watcher.on_step_begin

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == step:
            raise KilledError
        return plain(self, args, state, control, **kwargs)

    monkeypatch.setattr(Watcher, "on_step_begin", on_step_begin)


def train_killed(monkeypatch, after, *arguments, **options):
    """`train`, killed after a step."""
    with monkeypatch.context() as patch:
        kill_after(patch, after)
        with pytest.raises(KilledError):
            train(*arguments, **options)


@pytest.fixture
def bare_job():
    """A job that only its settings are read of."""
    return lambda settings: TrainingJob("bare", 0, None, None, {}, settings, None, None)


KILLS = [  # (steps between checkpoints, last step done)
    (3, 3),  # in the middle of the first epoch, nothing lost
    (2, 5),  # at an epoch's end, before its validation was kept; a step is done again
    (3, 7),  # in the middle of the second epoch
]
RESUMED = [(*kill, method) for kill in KILLS for method in ("sft", "grpo", "exact", "curriculum")] + [
    (2, 5, "free"),
    (3, 7, "sft, last layer"),  # whose frozen layers' states are computed once more
    (3, 3, "grpo, last layer"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("every", "killed_after", "method"), RESUMED)
def test_a_resumed_training_is_the_undisturbed_one(tiny_jobs, tmp_path, monkeypatch, every, killed_after, method):
    expected = train(tiny_jobs, tmp_path / "undisturbed", method=method)
    train_killed(monkeypatch, killed_after, tiny_jobs, tmp_path / "killed", method=method, steps=every)
    assert not (tmp_path / "killed" / "adapter").exists()
    assert_same(train(tiny_jobs, tmp_path / "killed", method=method, steps=every), expected)
    assert not (tmp_path / "killed" / "checkpoints").exists()  # done: nothing to go on from


@pytest.mark.slow
def test_a_training_that_starts_from_an_adapter_resumes_too(tiny_jobs, tmp_path, monkeypatch):
    train(tiny_jobs, tmp_path / "sft")
    start = {"start_from": tmp_path / "sft" / "adapter", "method": "grpo"}
    expected = train(tiny_jobs, tmp_path / "undisturbed", **start)
    train_killed(monkeypatch, 6, tiny_jobs, tmp_path / "killed", **start, steps=5)
    assert_same(train(tiny_jobs, tmp_path / "killed", **start, steps=5), expected)


def damage_newest(root, how):
    folder = max(root.glob("checkpoints/a/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    if how == "cut":
        os.truncate(folder / "adapter_model.safetensors", 100)
    elif how == "altered":
        content = bytearray((folder / "optimizer.pt").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "optimizer.pt").write_bytes(content)
    else:
        (folder / "whole.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "altered", "unfinished"])
def test_a_damaged_checkpoint_is_skipped(tiny_jobs, tmp_path, monkeypatch, caplog, how):
    expected = train(tiny_jobs, tmp_path / "undisturbed")
    train_killed(monkeypatch, 6, tiny_jobs, tmp_path / "killed", steps=3)
    damage_newest(tmp_path / "killed", how)
    with caplog.at_level(logging.WARNING, logger="hidden_rule.training.checkpoints"):
        assert_same(train(tiny_jobs, tmp_path / "killed", steps=3), expected)
    lines = [record.getMessage() for record in caplog.records if record.name == "hidden_rule.training.checkpoints"]
    assert lines[0].endswith("checkpoint-6 is damaged or unfinished: skipped")
    assert lines[1].startswith("resuming from") and lines[1].endswith("checkpoint-3")


@pytest.mark.slow
def test_damaged_checkpoints_alone_do_not_start_afresh_in_silence(tiny_jobs, tmp_path, monkeypatch):
    train_killed(monkeypatch, 4, tiny_jobs, tmp_path / "killed", steps=3)
    damage_newest(tmp_path / "killed", "cut")
    line = "checkpoint-3: is damaged, and this training has no other whole checkpoint.*delete .* from the start"
    with pytest.raises(UserError, match=line):
        train(tiny_jobs, tmp_path / "killed", steps=3)


@pytest.mark.slow
def test_a_kill_within_the_first_checkpoint_needs_no_hand(tiny_jobs, tmp_path, monkeypatch, caplog):
    expected = train(tiny_jobs, tmp_path / "undisturbed")
    train_killed(monkeypatch, 4, tiny_jobs, tmp_path / "killed", steps=3)
    damage_newest(tmp_path / "killed", "unfinished")
    with caplog.at_level(logging.WARNING, logger="hidden_rule.training.checkpoints"):
        assert_same(train(tiny_jobs, tmp_path / "killed", steps=3), expected)
    assert "no checkpoint was finished before the training was killed" in caplog.text


def test_a_clock_set_back_deletes_no_new_checkpoint(tmp_path):
    checkpoints = Checkpoints(CheckpointPlan(tmp_path, "a", steps=1))
    for step in (2, 3, 10, 11):  # the newest has the oldest time; 11 is of a run that was killed later
        (checkpoints.folder / f"checkpoint-{step}").mkdir(parents=True)
        os.utime(checkpoints.folder / f"checkpoint-{step}", (1e9 - step, 1e9 - step))
    checkpoints.delete_old(10)
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        "checkpoint-10",
        "checkpoint-11",
        "checkpoint-3",
    ]


def test_sigterm_leaves_a_checkpoint(tiny_jobs, tmp_path, monkeypatch):
    expected = train(tiny_jobs, tmp_path / "undisturbed")
    plain = Watcher.on_step_begin

    def terminate(self, args, state, control, **kwargs):
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, args, state, control, **kwargs)

    before = signal.getsignal(signal.SIGTERM)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Watcher, "on_step_begin", terminate)
            with pytest.raises(SystemExit) as stopped:
                train(tiny_jobs, tmp_path / "killed", at_sigterm=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert [path.name for path in (tmp_path / "killed/checkpoints/a").glob("checkpoint-*")] == ["checkpoint-5"]
    assert_same(train(tiny_jobs, tmp_path / "killed"), expected)


def test_a_checkpoint_is_whole_or_not(tmp_path):
    (tmp_path / "a").write_text("a")
    entry = {"bytes": 1, "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}  # of "a"
    assert not is_whole(tmp_path)
    for content, whole in [({"a": entry}, True), ({"a": entry, "b": entry}, False), (["a"], False), ({"a": 1}, False)]:
        (tmp_path / "whole.json").write_text(json.dumps(content))
        assert is_whole(tmp_path) == whole
    (tmp_path / "whole.json").write_text('{"a": {"by')
    assert not is_whole(tmp_path)


def test_another_training_has_another_identity(tmp_path):
    data = tmp_path / "data"
    data.write_text("rows")
    one = training_identity([data], seed=0, settings={"a": 1, "b": 2})
    assert one == training_identity([data], settings={"b": 2, "a": 1}, seed=0)
    assert one != training_identity([data], seed=1, settings={"a": 1, "b": 2})
    Path(data).write_text("other rows")
    assert one != training_identity([data], seed=0, settings={"a": 1, "b": 2})


def test_out_of_memory_halves_the_micro_batch(caplog, bare_job):
    tried = []

    def train(job):
        tried.append(job.settings["micro_batch_size"])
        if job.settings["micro_batch_size"] > 3:
            raise torch.OutOfMemoryError
        return job.condition

    with caplog.at_level(logging.WARNING, logger="hidden_rule.training.memory"):
        assert retry_with_smaller_batch(train, bare_job({"batch_size": 24, "micro_batch_size": 24})) == "bare"
    assert tried == [24, 12, 6, 3]
    assert caplog.records[0].getMessage() == (
        "out of GPU memory: 12 prompts at a time instead of 24, 24 a step as before"
    )


def test_one_prompt_that_does_not_fit_ends_with_one_line(bare_job):
    def train(job):
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="micro_batch_size: one prompt at a time does not fit the GPU's memory"):
        retry_with_smaller_batch(train, bare_job({"batch_size": 9, "micro_batch_size": 9}))  # 9, 3, 1


@pytest.mark.slow
def test_accumulated_micro_batches_train_the_same(tiny_jobs):
    """The loss of each step, in float32, whatever the micro-batch."""
    losses = []
    for size in (4, 2, 1):
        settings = {**tiny_jobs.config["sft"], "epochs": 1, "batch_size": 4, "micro_batch_size": size}
        job = tiny_jobs.make(f"micro{size}", settings)
        train_sft(job)
        history = pl.read_parquet(job.output.history)
        losses.append(history.filter(metric="loss").sort("step")["value"].to_list())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[2] == pytest.approx(losses[0], rel=1e-4)
