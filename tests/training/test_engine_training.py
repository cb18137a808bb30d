"""A training by an engine from start to files, with an engine that samples at random and moves weights by as much."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from byte_models import byte_manifest
from conftest import ROOT
from hidden_rule.core.costs import read_costs
from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import HISTORY, read_table, write_table
from hidden_rule.models.base import BaseModel
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.replies import render_reply
from hidden_rule.task.rewards import reward
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.training.engines.rollouts import read_rollouts
from hidden_rule.training.engines.run import EngineRun, Logged
from hidden_rule.training.engines.training import train_by_engine
from hidden_rule.training.job import CheckpointPlan, TrainingData, TrainingJob, TrainingOutput
from hidden_rule.training.launch import Place

REWARD = {"correct": 100, "wrong": -50, "invalid": -100, "near": {}}
SETTINGS = {
    "epochs": 2, "learning_rate": 0.02, "warmup_steps": 0, "batch_size": 4, "micro_batch_size": 2, "group_size": 3,
    "max_grad_norm": 1.0, "gradient_checkpointing": False, "temperature": 1.0, "max_new_tokens": 40, "beta": 0.0,
    "reward": REWARD,
}  # fmt: skip
N_STEPS = 4  # 8 rows, twice

PROCESS = """
import sys
from pathlib import Path
from hidden_rule.training.engines.reward_door import opened

first, last, folder, replies = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
door = opened()
for step in range(first, last + 1):
    for place in range(4 * (step - 1), 4 * step):
        for reply in replies:
            door.score(reply, place, len(reply), door.rows[place]["tokens"])
    (folder / "saved").write_text(str(step))
print("loss of", step)
sys.exit(0 if step == %d else "Killed: as if")
"""


class Imagined:
    """An engine of one process: the first attempt ends after step 2, in the midst."""

    name = "imagined"

    def __init__(self, replies: list[str], moves: float = 0.5):
        self.replies, self.moves, self.runs = replies, moves, []

    def train(self, run: EngineRun, processes, look) -> int:
        self.runs.append(run)
        first, last = self.saved(run) + 1, 2 if run.attempt == 1 else N_STEPS
        words = [sys.executable, "-c", PROCESS % N_STEPS, str(first), str(last), str(run.folder), *self.replies]
        return processes.wait(processes.start(words, run.variables), look)

    def saved(self, run: EngineRun) -> int:
        path = run.folder / "saved"
        return int(path.read_text()) if path.exists() else 0

    def logged(self, run: EngineRun) -> list[Logged]:
        return [*(Logged(step, "loss", step / 10) for step in range(1, N_STEPS + 1)), Logged(1, "peak_bytes", 7e9)]

    def adapter(self, run: EngineRun) -> Path:
        folder = run.folder / "adapter"
        folder.mkdir()
        weights = load_file(run.start / "adapter_model.safetensors")
        save_file({name: weight + self.moves for name, weight in weights.items()}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text((run.start / "adapter_config.json").read_text())
        return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    folder, ruleset = tmp_path_factory.mktemp("imagined"), load_ruleset(ROOT / "rulesets/fincorp.yaml")
    splits = draw_splits(ruleset, {"train": 8, "validation": 4, "test": 4, "holdout": 4}, seed=0)
    for name in ("train", "validation"):
        write_table(splits[name], folder / f"{name}.parquet", dataset_schema(ruleset))
    base = BaseModel(byte_manifest(folder), "float32", {})

    def job(name: str, **changes) -> TrainingJob:
        root = folder / name
        made = TrainingJob(
            condition=name,
            seed=3,
            base=base,
            start_from=None,
            lora={"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]},
            settings=SETTINGS,
            data=TrainingData(ROOT / "rulesets/fincorp.yaml", folder / "train.parquet", folder / "validation.parquet"),
            output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
            decoding="free",
            checkpoints=CheckpointPlan(root / "checkpoints", "one", steps=1),
        )
        return replace(made, **changes)

    labels = list(ruleset.labels)
    return SimpleNamespace(
        job=job, labels=labels, train=splits["train"], replies=[*map(render_reply, labels[:2]), "no"]
    )


def test_a_training_that_ended_early_goes_on_and_writes_what_every_training_writes(world, tmp_path):
    engine, job, place = Imagined(world.replies), world.job("good"), Place(tmp_path / "rule.log", threads=1)
    with pytest.raises(UserError, match=f"{place.log}: imagined ended with status 1: .*Killed|ended with status 1"):
        train_by_engine(engine, "grpo", job, place)
    assert not job.output.history.exists() and engine.saved(engine.runs[0]) == 2
    rollouts = read_rollouts(engine.runs[0].rollouts)
    train_by_engine(engine, "grpo", job, place)
    assert [run.attempt for run in engine.runs] == [1, 2] and len(rollouts) == 2 * 4 * 3
    history = read_table(job.output.history, HISTORY)
    labels = world.train["label"].to_list()
    expected = sum(reward(reply, label, world.labels, REWARD) for label in labels for reply in world.replies)
    epochs = history.filter(metric="reward").sort("step")["value"].to_list()
    assert len(epochs) == N_STEPS and sum(epochs) * 4 * 3 == pytest.approx(2 * expected)  # each row once an epoch
    assert history.filter(metric="invalid_share")["value"].to_list() == pytest.approx([1 / 3] * N_STEPS)
    shares = history.filter(metric="predicted_share", step=1)
    assert dict(shares.select("label", "value").iter_rows()) == pytest.approx(
        dict.fromkeys(world.labels, 0.0) | dict.fromkeys(world.labels[:2], 1 / 3)
    )
    assert history.filter(metric="loss").sort("step")["value"].to_list() == [0.1, 0.2, 0.3, 0.4]
    assert history.filter(metric="kl_from_start").sort("step")["step"].to_list() == [0, N_STEPS]
    assert history.filter(metric="kl_from_start").sort("step")["value"][0] == 0.0
    assert history["wall_s"].is_finite().all() and history.sort("step")["n_tokens"].is_sorted()
    (cost,) = read_costs(job.output.cost).to_dicts()
    assert cost["n_steps"] == N_STEPS and cost["peak_bytes"] == 7 * 10**9 and cost["gpu_s"] == 0
    assert cost["n_tokens_generated"] == sum(map(len, world.replies)) * 8 * 2
    after = load_file(job.output.adapter / "adapter_model.safetensors")
    assert all(weight.dtype == torch.float32 for weight in after.values())
    assert (job.output.adapter / "chat_template.jinja").is_file() and not job.checkpoints.root.exists()
    assert isinstance(history, pl.DataFrame) and "loss of 4" in place.log.read_text()


def test_a_training_in_which_a_reply_is_missing_fails(world, tmp_path):
    engine, job, place = Imagined(world.replies[:2]), world.job("missing"), Place(tmp_path / "rule.log", threads=1)
    for _ in range(2):
        with pytest.raises(UserError) as error:
            train_by_engine(engine, "grpo", job, place)
    assert "step 1 scored 8 replies where 12 were to be sampled" in str(error.value)
    assert job.checkpoints.root.exists() and not job.output.adapter.exists()
