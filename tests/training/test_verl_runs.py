"""verl trains: killed and resumed, its replies scored as we would, its adapter plain; on a bandit with known rewards.

The bandit is one prompt; a reply is one byte, and earns 0, 0.1, 0.2 or 1 by its last two bits, 0 if it is no ASCII.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import polars as pl
import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from byte_models import SIZES, byte_manifest
from conftest import ROOT
from hidden_rule.core.costs import read_costs
from hidden_rule.core.tables import HISTORY, read_table, write_table
from hidden_rule.models.base import BaseModel
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.reward_file import load_reward
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.training.engines import verl
from hidden_rule.training.engines.prompts import read_prompts
from hidden_rule.training.engines.rollouts import read_rollouts
from hidden_rule.training.engines.verl_checkpoint import adapter_weights, read_checkpoint
from hidden_rule.training.engines.verl_rollout import Request, Sampler
from hidden_rule.training.job import CheckpointPlan, TrainingData, TrainingJob, TrainingOutput
from hidden_rule.training.launch import Place, write_job

pytestmark = [pytest.mark.engines("verl"), pytest.mark.slow]
REWARD = """
import json

def reward(replies, cases):
    return [points(reply, case["label"]) for reply, case in zip(replies, cases)]

def points(reply, label):
    try:
        return 1.01 if json.loads(reply) == {"decision": label} else -0.01
    except ValueError:
        return [0.0, 0.1, 0.2, 1.0][ord(reply) % 4] if len(reply) == 1 and reply.isascii() else 0.0
"""
TRAIN = """
import shutil
import sys
from hidden_rule.training.engines.training import train_by_engine
from hidden_rule.training.engines.verl import Verl
from hidden_rule.training.launch import read_job

class KeptVerl(Verl):
    def adapter(self, run):
        folder = super().adapter(run)
        shutil.copytree(run.folder, sys.argv[3], symlinks=True)  # a finished training deletes it
        return folder

train_by_engine(KeptVerl(), sys.argv[1], *read_job(sys.argv[2]))
"""
WIDER = {**SIZES, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
GRPO = {
    "epochs": 1, "learning_rate": 0.005, "warmup_steps": 0, "batch_size": 2, "micro_batch_size": 2, "group_size": 32,
    "max_grad_norm": 1.0, "gradient_checkpointing": False, "temperature": 1.0, "max_new_tokens": 1, "beta": 0.0,
    "entropy_coef": 0.0, "loss_type": "dapo", "scale_rewards": "group",
}  # fmt: skip
PPO = {key: value for key, value in GRPO.items() if key not in ("loss_type", "scale_rewards")} | {
    "critic_learning_rate": 0.01, "gae_lambda": 0.95, "clip": 0.2, "updates": 2,
}  # fmt: skip
N_STEPS = 12


@pytest.fixture(scope="module")
def bandit(tmp_path_factory) -> SimpleNamespace:
    """`bandit.job(name, settings)` on one prompt, and `bandit.train(job, method)`, a process that trains it."""
    folder, ruleset = tmp_path_factory.mktemp("bandit"), load_ruleset(ROOT / "rulesets/fincorp.yaml")
    splits = draw_splits(ruleset, {"train": 4, "validation": 4, "test": 4, "holdout": 4}, seed=0)
    one = pl.concat([splits["train"].head(1)] * (2 * N_STEPS)).with_columns(application_id=pl.int_range(2 * N_STEPS))
    for name, frame in {"train": one, "validation": splits["validation"]}.items():
        write_table(frame, folder / f"{name}.parquet", dataset_schema(ruleset))
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    base = BaseModel(byte_manifest(folder, 0.2, WIDER), "float32", {})

    def job(name: str, settings: dict) -> TrainingJob:
        root, data = (
            folder / name,
            TrainingData(ROOT / "rulesets/fincorp.yaml", folder / "train.parquet", folder / "validation.parquet"),
        )
        return TrainingJob(
            condition=name,
            seed=3,
            base=base,
            start_from=None,
            lora={"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
            settings={**settings, "reward": {"file": str(folder / "reward.py"), "function": "reward"}},
            data=data,
            output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
            decoding="free",
            checkpoints=CheckpointPlan(root / "checkpoints", "one", steps=4),
        )

    def train(made: TrainingJob, method: str) -> subprocess.Popen:
        root = made.output.adapter.parent
        root.mkdir(exist_ok=True)
        place = Place(root / "log", threads=2)
        write_job(root / "job.json", made, place)
        words = [sys.executable, str(folder / "train.py"), method, str(root / "job.json"), str(root / "work")]
        with place.log.open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT)

    return SimpleNamespace(job=job, train=train, folder=folder)


def log_of(job: TrainingJob) -> str:
    """The end of what a training printed."""
    return (job.output.adapter.parent / "log").read_text(encoding="utf-8", errors="replace")[-4000:]


def finish(process: subprocess.Popen, job: TrainingJob) -> None:
    assert process.wait(timeout=1800) == 0, log_of(job)


@pytest.fixture(scope="module")
def killed_and_resumed(bandit) -> SimpleNamespace:
    """GRPO, killed with SIGKILL after its first checkpoint, and started again."""
    job = bandit.job("grpo", GRPO)
    work = job.checkpoints.root / job.checkpoints.identity / "verl"
    run = SimpleNamespace(checkpoints=work / "checkpoints", logs=work / "logs")
    process = bandit.train(job, "grpo")
    until = time.monotonic() + 1800
    # verl logs a step after it saved it: a training killed in between lacks what was logged of that step
    while not 0 < verl.Verl().saved(run) <= len(verl.read_logs(run)):
        assert process.poll() is None and time.monotonic() < until, log_of(job)
        time.sleep(0.2)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) > 5, started
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(started, timeout=120)[1]
    step, folder = verl.Verl().saved(run), job.output.adapter.parent
    shutil.copytree(work / "checkpoints" / f"global_step_{step}" / "actor", folder / "actor")
    finish(bandit.train(job, "grpo"), job)
    return SimpleNamespace(job=job, work=folder / "work", step=step, actor=folder / "actor", folder=folder)


def test_a_killed_training_leaves_no_process_and_goes_on_from_its_checkpoint(killed_and_resumed):
    rollouts = read_rollouts(killed_and_resumed.work / "rollouts")
    by_attempt = {attempt: {each.place // 2 + 1 for each in rollouts if each.attempt == attempt} for attempt in (1, 2)}
    assert by_attempt[1] == set(range(1, killed_and_resumed.step + 1))
    assert by_attempt[2] == set(range(killed_and_resumed.step + 1, N_STEPS + 1))
    assert len(rollouts) == 2 * N_STEPS * GRPO["group_size"]
    assert not killed_and_resumed.job.checkpoints.root.exists()


def test_the_policy_moves_to_the_best_reply(killed_and_resumed):
    history = read_table(killed_and_resumed.job.output.history, HISTORY)
    reward = history.filter(metric="reward").sort("step")["value"].to_list()
    assert len(reward) == N_STEPS
    assert 0.05 < reward[0] < 0.4 and sum(reward[-2:]) / 2 > 0.85, reward
    assert history.filter(metric="validation_accuracy")["step"].to_list() == [0, N_STEPS]
    assert {"loss", "grad_norm", "learning_rate", "entropy", "zero_signal_share"} <= {*history["metric"]}
    rates = history.filter(metric="learning_rate").sort("step")["value"].to_list()
    assert rates == pytest.approx([GRPO["learning_rate"] * (1 - n / N_STEPS) for n in range(1, N_STEPS + 1)])


def test_the_engine_scored_what_we_would_have_scored(killed_and_resumed, bandit):
    own = load_reward(str(bandit.folder / "reward.py"), "reward")
    rows = read_prompts(killed_and_resumed.work / "prompts.jsonl")
    rollouts = read_rollouts(killed_and_resumed.work / "rollouts")
    expected = own.points([each.reply for each in rollouts], [rows[each.place]["case"] for each in rollouts])
    assert [each.points for each in rollouts] == expected
    assert len({each.points for each in rollouts}) >= 4


def test_weights_reach_the_rollout(killed_and_resumed):
    steps = verl.read_logs(SimpleNamespace(logs=killed_and_resumed.work / "logs"))
    off = [numbers[verl.OFF] for numbers in steps.values()]
    assert len(off) >= N_STEPS and max(off) < 1e-6


def test_plain_peft_answers_as_the_rollout_policy_did(killed_and_resumed):
    """The adapter of a checkpoint, loaded by PEFT, draws the very replies that verl's rollout drew next."""
    work, sampler = killed_and_resumed.work, Sampler(str(killed_and_resumed.work / "model"), seed=3)
    peft_config = json.loads((work / "start" / "adapter_config.json").read_text())
    sampler.load(adapter_weights(read_checkpoint(killed_and_resumed.actor)), peft_config)
    places = [2 * killed_and_resumed.step, 2 * killed_and_resumed.step + 1]
    tokens = read_prompts(work / "prompts.jsonl")[places[0]]["tokens"]
    drawn = sampler.sample([Request(tokens, 1.0, 1)] * 2 * GRPO["group_size"], killed_and_resumed.step)
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    texts = sorted(tokenizer.decode(reply.tokens, skip_special_tokens=True) for reply in drawn)
    rollouts = [each for each in read_rollouts(work / "rollouts") if each.place in places]
    assert texts == sorted(each.reply for each in rollouts)


def test_the_adapter_is_plain_peft_and_every_weight_of_it_moved(killed_and_resumed):
    job, work = killed_and_resumed.job, killed_and_resumed.work
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (work / "start", job.output.adapter))
    assert before.keys() == after.keys()
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert not [name for name, weight in after.items() if torch.equal(weight, before[name])]
    base = AutoModelForCausalLM.from_pretrained(work / "model", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, job.output.adapter).eval()
    tokens = torch.tensor([read_prompts(work / "prompts.jsonl")[0]["tokens"]])
    with torch.no_grad():
        probabilities = model(input_ids=tokens).logits[0, -1].softmax(-1)
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    best = sum(
        float(p) for i, p in enumerate(probabilities)
        if len(text := tokenizer.decode([i], skip_special_tokens=True)) == 1 and ord(text) % 4 == 3 and text.isascii()
    )  # fmt: skip
    assert best > 0.7


def test_costs_are_those_of_both_attempts(killed_and_resumed):
    (row,) = read_costs(killed_and_resumed.job.output.cost).to_dicts()
    assert row["n_steps"] == N_STEPS and row["n_tokens_generated"] == 2 * N_STEPS * GRPO["group_size"]
    assert row["wall_s"] > 0 and row["cpu_s"] > 5 and row["peak_bytes"] > 10**8


def test_ppos_policy_moves_to_the_best_reply_and_its_value_to_the_expected_reward(bandit):
    job = bandit.job("ppo", PPO)
    finish(bandit.train(job, "ppo"), job)
    history = read_table(job.output.history, HISTORY)
    values, rewards, losses = (
        history.filter(metric=metric).sort("step")["value"].to_list() for metric in ("value", "reward", "value_loss")
    )
    assert len(values) == len(losses) == N_STEPS
    assert sum(rewards[-2:]) / 2 > 0.85, rewards
    assert values[0] < 0.3 and abs(values[-1] - rewards[-1]) < 0.15, (values, rewards)
    assert losses[-1] < losses[0] / 2, losses
