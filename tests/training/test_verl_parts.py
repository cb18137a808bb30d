"""verl's own code on what we hand it, as far as it needs no Ray: configuration, data set, reward, engines, rollout."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from byte_models import byte_manifest, byte_tokenizer
from conftest import ROOT
from hidden_rule.core.tables import write_table
from hidden_rule.models.base import BaseModel
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.training.engines import verl
from hidden_rule.training.engines.preparation import prepare_run
from hidden_rule.training.engines.prompts import read_prompts
from hidden_rule.training.engines.ray_head import free_ports
from hidden_rule.training.engines.rollouts import read_rollouts
from hidden_rule.training.engines.verl_checkpoint import adapter_weights, moved_base_weight, read_checkpoint
from hidden_rule.training.engines.verl_command import train_command
from hidden_rule.training.job import CheckpointPlan, TrainingData, TrainingJob, TrainingOutput
from hidden_rule.training.launch import Place
from hidden_rule.training.start import load_start

pytestmark = pytest.mark.engines("verl")
REWARD = {"correct": 100, "wrong": -50, "invalid": -100, "near": {}}
PPO = {
    "epochs": 1, "learning_rate": 0.02, "warmup_steps": 2, "batch_size": 2, "micro_batch_size": 2, "group_size": 4,
    "max_grad_norm": 1.0, "gradient_checkpointing": False, "temperature": 1.0, "max_new_tokens": 12, "beta": 0.0,
    "entropy_coef": 0.0, "critic_learning_rate": 0.01, "gae_lambda": 0.95, "clip": 0.2, "updates": 2, "reward": REWARD,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> SimpleNamespace:
    """What `verl_parts.py` found in a run's folder."""
    folder, ruleset = tmp_path_factory.mktemp("parts"), load_ruleset(ROOT / "rulesets/fincorp.yaml")
    splits = draw_splits(ruleset, {"train": 8, "validation": 4, "test": 4, "holdout": 4}, seed=0)
    for name in ("train", "validation"):
        write_table(splits[name], folder / f"{name}.parquet", dataset_schema(ruleset))
    job = TrainingJob(
        condition="ppo",
        seed=3,
        base=BaseModel(byte_manifest(folder), "float32", {}),
        start_from=None,
        lora={"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
        settings=PPO,
        data=TrainingData(ROOT / "rulesets/fincorp.yaml", folder / "train.parquet", folder / "validation.parquet"),
        output=TrainingOutput(folder / "adapter", folder / "history.parquet", folder / "cost.parquet"),
        decoding="free",
        checkpoints=CheckpointPlan(folder / "checkpoints", "one"),
    )
    run = prepare_run("verl", "ppo", job, load_start(job), Place(folder / "log", threads=1))
    verl.prepare(run)
    right = read_prompts(run.prompts)[0]["label"]
    wrong = next(label for label in ruleset.labels if label != right)
    tokenizer = byte_tokenizer()
    texts = [render_reply(right), render_reply(wrong), "no JSON"]
    replies = [[*tokenizer.encode(text), 2] for text in texts]
    command = folder / "command.json"
    command.write_text(json.dumps({"words": train_command(run, verl.ENVIRONMENT.python), "replies": replies}))
    (port,) = free_ports(1)
    process = subprocess.run(
        [str(verl.ENVIRONMENT.python), str(Path(__file__).with_name("verl_parts.py")), str(run.folder), str(command)],
        env={
            **os.environ, **verl.variables_of(run),
            "WG_PREFIX": "parts", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
    found = json.loads(process.stdout.rpartition("RESULT")[2])
    return SimpleNamespace(run=run, found=found, texts=texts)


def test_verl_asks_our_tokens_in_our_order(parts):
    rows = read_prompts(parts.run.prompts)
    assert parts.found["data"] == {"n": 8, "tokens": [row["tokens"] for row in rows[:2]], "index": [0, 1]}


def test_replies_are_paid_as_we_pay_and_written_down(parts):
    assert parts.found["scores"] == [1.0, -0.5, -1.0]  # in units of the largest reward
    rollouts = read_rollouts(parts.run.rollouts)
    assert [(each.reply, each.points, each.n_tokens) for each in rollouts] == [
        (text, points, len(text) + 1) for text, points in zip(parts.texts, [100.0, -50.0, -100.0], strict=True)
    ]


def test_the_learning_rate_rises_and_falls_linearly(parts):
    assert parts.found["rates"] == pytest.approx([0.0, 0.01, 0.02, 0.01])


def test_a_checkpoint_of_verls_own_becomes_an_adapter(parts):
    weights = read_checkpoint(parts.run.folder / "saved" / "actor")
    before, after = load_file(parts.run.start / "adapter_model.safetensors"), adapter_weights(weights)
    assert before.keys() == after.keys()
    assert not [name for name, weight in after.items() if torch.equal(weight, before[name])]
    assert moved_base_weight(weights, parts.run.model) is None
    assert len(weights) > len(after)  # the base's are there, and were compared


def test_weights_reach_the_rollout(parts):
    assert parts.found["rollout"]["off"] < 1e-6
    replies = parts.found["rollout"]["replies"]
    assert len(replies) == 6 and len({tuple(reply) for reply in replies}) > 1
    assert parts.found["names"] == ["HFServerAdapter", "HFReplica"]


def test_the_critics_head_is_drawn_and_values_are_not_clipped(parts):
    assert parts.found["head"] > 0 and parts.found["critic"] == [1e6, 2]
