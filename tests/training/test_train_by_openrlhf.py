"""Trainings by OpenRLHF itself, in its environment, of a tiny random model: make test-engines.

A bandit: replies of one token, of which the first character decides among four rewards. (A right label, which no such
reply holds, earns one more: a reward has to pay most for it.)
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import polars as pl
import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from byte_models import SIZES, byte_manifest
from hidden_rule.models.base import BaseModel
from hidden_rule.training.engines import openrlhf
from hidden_rule.training.engines.openrlhf import OpenRLHF, new_start, read_logs
from hidden_rule.training.engines.openrlhf_replies import sample_seed
from hidden_rule.training.engines.prompts import read_prompts
from hidden_rule.training.engines.rollouts import read_rollouts
from hidden_rule.training.engines.training import train_by_engine
from hidden_rule.training.job import CheckpointPlan, TrainingJob
from hidden_rule.training.launch import Place

pytestmark = [pytest.mark.engines("openrlhf"), pytest.mark.slow]

POINTS = [0.0, 1.0, 2.0, 10.0]
REWARD = f"""
import json


def reward(replies, cases):
    points = [{POINTS}[sum(map(ord, reply[:1])) % 4] for reply in replies]
    right = [json.dumps({{"decision": case["label"]}}) for case in cases]
    return [own + (reply == its) for own, reply, its in zip(points, replies, right)]
"""
HEADS_FOR_VLLM = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}  # at least 32
SETTINGS = {
    "epochs": 2,
    "batch_size": 4,
    "micro_batch_size": 2,
    "group_size": 8,
    "max_new_tokens": 1,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "entropy_coef": 0.0,
}
KILLED = """
import json, sys
from pathlib import Path
from hidden_rule.training.engines.openrlhf import OpenRLHF
from hidden_rule.training.engines.training import train_by_engine
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.launch import Place
job = TrainingJob.from_json(json.loads(Path(sys.argv[1]).read_text()))
train_by_engine(OpenRLHF(), "grpo", job, Place(Path(sys.argv[2]), threads=2))
"""


class Watched(OpenRLHF):
    """The engine, which has each checkpoint's adapter saved too, and keeps what a run's folder held at its end."""

    def train(self, run, processes, look):
        with pytest.MonkeyPatch.context() as patch:
            compose = openrlhf.train_command
            patch.setattr(openrlhf, "train_command", lambda *given: [*compose(*given), "--ckpt.save_hf"])
            return super().train(run, processes, look)

    def adapter(self, run):
        folder = super().adapter(run)
        self.logs, self.rollouts, self.run = read_logs(run), read_rollouts(run.rollouts), run
        self.prompts = read_prompts(run.prompts)
        self.saved = run.place.log.with_suffix("")  # global_step<n>_hf of each
        for each in run.checkpoints.glob("*_hf"):
            shutil.copytree(each, self.saved / each.name)
        self.before = load_file(new_start(run) / "adapter_model.safetensors")
        self.after = load_file(run.folder / "adapter" / "adapter_model.safetensors")
        return folder


@pytest.fixture(scope="module")
def bandit(jobs, tmp_path_factory) -> SimpleNamespace:
    """`bandit.make(name, method, settings, dtype)`: the job of the tiny model."""
    folder = tmp_path_factory.mktemp("bandit")
    manifest = byte_manifest(folder, 0.2, {**SIZES, **HEADS_FOR_VLLM})
    (folder / "reward.py").write_text(REWARD)

    def make(name: str, method: str, settings: dict | None = None, dtype: str = "bfloat16", **changes) -> TrainingJob:
        reward = {"file": str(folder / "reward.py"), "function": "reward"}
        own = {**jobs.config[method], **SETTINGS, "reward": reward, **(settings or {})}
        plan = CheckpointPlan(folder / name / "checkpoints", "bandit", steps=2)
        base = BaseModel(manifest, dtype)
        return jobs.make(name, own, base=base, decoding="free", checkpoints=plan, **changes)

    return SimpleNamespace(make=make, folder=folder)


def train(job: TrainingJob, method: str, log: Path) -> Watched:
    engine = Watched()
    train_by_engine(engine, method, job, Place(log, threads=2))
    return engine


def history_of(job: TrainingJob, metric: str) -> list[float]:
    rows = pl.read_parquet(job.output.history).filter(pl.col("metric") == metric)
    return rows.sort("step")["value"].to_list()


@pytest.fixture(scope="module")
def grpo(bandit) -> SimpleNamespace:
    """A finished training by GRPO, in float32: log-probabilities of bfloat16 differ by the bound on `vllm_kl`."""
    job = bandit.make("grpo", "grpo", dtype="float32")
    job = replace(job, checkpoints=replace(job.checkpoints, steps=1))
    return SimpleNamespace(job=job, engine=train(job, "grpo", bandit.folder / "grpo.log"))


def test_the_policy_moves_to_the_best_reply(grpo):
    rewards = history_of(grpo.job, "reward")
    assert len(rewards) == 8
    assert sum(rewards[-2:]) / 2 > 6.0 > 4.5 > rewards[0]


def test_weights_reach_vllm(grpo):
    assert len(grpo.engine.logs) == 8
    assert max(abs(numbers["vllm_kl"]) for numbers in grpo.engine.logs.values()) < 1e-5
    assert grpo.engine.logs[1]["actor_grad_norm"] > 0  # later ones are 0 where all replies are the best one


def test_weights_reach_vllm_in_bfloat16(bandit):
    """Rounding moves a log-probability by 0.01, up or down: over the 1,024 replies of a step that averages out."""
    job = bandit.make("rounded", "grpo", {"epochs": 1, "batch_size": 8, "group_size": 128})
    engine = train(job, "grpo", bandit.folder / "rounded.log")
    off = [abs(numbers["vllm_kl"]) for numbers in engine.logs.values()]
    assert len(off) == 2 and max(off) < 1e-3, off
    rewards = history_of(job, "reward")
    assert rewards[1] > rewards[0] + 2, rewards  # the policy moved, and vLLM's with it


def test_every_weight_of_the_adapter_moved(grpo):
    before, after = grpo.engine.before, grpo.engine.after
    assert before.keys() == after.keys() and len(after) == 2 * 4 * 2  # layers, q k v o, A and B
    assert not any(torch.equal(before[name], after[name]) for name in after)
    assert all(weight.dtype == torch.float32 for weight in after.values())


def test_openrlhf_scores_what_we_would(grpo):
    assert len(grpo.engine.rollouts) == 8 * 4 * 8
    for each in grpo.engine.rollouts:
        assert each.points == POINTS[sum(map(ord, each.reply[:1])) % 4], each
        assert 0 <= each.n_tokens <= 1


def test_plain_peft_loads_the_adapter(grpo, bandit):
    network = AutoModelForCausalLM.from_pretrained(bandit.folder / "model", dtype=torch.float32)
    model = PeftModel.from_pretrained(network, grpo.job.output.adapter)
    weights = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
    trained = load_file(grpo.job.output.adapter / "adapter_model.safetensors")
    assert len(weights) == len(trained)
    assert all(torch.equal(weights[name.replace(".weight", ".default.weight")], trained[name]) for name in trained)


def replies_of(adapter: Path, prompt: list[int], seeds: list[int], base: Path) -> list[str]:
    """Replies of one token as vLLM draws them on a CPU: the largest ratio of probability to the seed's noise."""
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(network, adapter).eval()
    with torch.no_grad():
        probabilities = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = [torch.empty_like(probabilities).exponential_(generator=each) for each in generators]
    tokenizer = AutoTokenizer.from_pretrained(base)
    return [tokenizer.decode([int((probabilities / each).argmax())], skip_special_tokens=True) for each in noise]


def test_plain_peft_answers_as_the_rollout_policy_did(grpo, bandit):
    """The adapter saved before a step, loaded by PEFT, draws the very replies that vLLM drew in that step."""
    engine, drawn = grpo.engine, {}
    for place in range(4, 8 * 4):
        seeds = [sample_seed(grpo.job.seed, place, sample) for sample in range(8)]
        expected = sorted(each.reply for each in engine.rollouts if each.place == place)
        for step in {1, place // 4}:
            adapter = engine.saved / f"global_step{step}_hf"
            drawn[step, place] = sorted(
                replies_of(adapter, engine.prompts[place]["tokens"], seeds, bandit.folder / "model")
            )
        assert drawn[place // 4, place] == expected, place
    assert all(drawn[1, place] != drawn[7, place] for place in range(28, 32))  # the first step's would not do


def children_of(folder: Path) -> list[str]:
    """Processes that name a folder in their command or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(str(folder) in word for word in words) and process.pid != os.getpid():
            found.append(process.name())
    return found


def test_a_killed_training_goes_on_and_leaves_nothing_behind(bandit, grpo, tmp_path):
    job = bandit.make("killed", "grpo", dtype="float32")
    (tmp_path / "job.json").write_text(json.dumps(job.as_json()))
    log = bandit.folder / "killed.log"
    words = [sys.executable, "-c", KILLED, str(tmp_path / "job.json"), str(log)]
    process = subprocess.Popen(words)
    saved = job.checkpoints.root / job.checkpoints.identity / "openrlhf" / "checkpoints" / "_actor"
    until = time.monotonic() + 1200
    while not list(saved.glob("*/metric.json")):
        assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 60
    while (left := children_of(job.checkpoints.root)) and time.monotonic() < until:
        time.sleep(0.5)
    assert not left
    engine = train(job, "grpo", log)
    assert engine.run.attempt == 2
    assert {each.attempt for each in engine.rollouts} == {1, 2}
    assert len(engine.rollouts) == 8 * 4 * 8 and sorted(engine.logs) == list(range(1, 9))
    expected = {(each.place, each.reply) for each in grpo.engine.rollouts if each.place < 8}
    assert {(each.place, each.reply) for each in engine.rollouts if each.place < 8} == expected  # the same seeds


def test_ppos_value_approaches_the_expected_reward(bandit):
    settings = {"updates": 2, "critic_learning_rate": 3e-3, "epochs": 3, "learning_rate": 1e-3}
    job = bandit.make("ppo", "ppo", settings)
    engine = train(job, "ppo", bandit.folder / "ppo.log")
    rewards, values, losses = (history_of(job, name) for name in ("reward", "value", "value_loss"))
    assert len(rewards) == len(values) == 12
    assert rewards[0] < 4.5 and sum(rewards[-2:]) / 2 > 8, rewards
    assert values[0] < 5 and abs(values[-1] - rewards[-1]) < 1.5, values  # a step's value is the mean over its updates
    assert losses[-1] < losses[0] / 2
    assert median(abs(numbers["vllm_kl"]) for numbers in engine.logs.values()) < 1e-3


def test_a_training_goes_on_from_an_adapter(bandit, grpo):
    job = bandit.make("again", "grpo", {"epochs": 1, "learning_rate": 5e-3}, start_from=grpo.job.output.adapter)
    train(replace(job, seed=4), "grpo", bandit.folder / "again.log")
    config = json.loads((job.output.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (32, 64)
    rewards, before = history_of(job, "reward"), history_of(grpo.job, "reward")
    assert rewards[0] > 6.0 > before[0]  # it begins where the other one ended
