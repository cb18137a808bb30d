"""No job asks a network, whatever the user's environment says; the one that fetches a model may."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hidden_rule.core.logs import logged
from hidden_rule.core.offline import OFFLINE, SILENT, restrict_network
from hidden_rule.training.job import CheckpointPlan, TrainingOutput

ROOT = Path(__file__).parents[2]
STEPS = {"epochs": 1, "batch_size": 4, "micro_batch_size": 4, "warmup_steps": 0}  # of 4


@pytest.fixture
def environment(monkeypatch):
    """An environment that asks for the network, put back at the end."""
    for name in (*SILENT, *OFFLINE):
        monkeypatch.setenv(name, "0")
    return os.environ


def test_jobs_are_offline_and_silent(environment, tmp_path):
    with logged(tmp_path / "log"):
        assert {environment[name] for name in (*SILENT, *OFFLINE)} == {"1"}


def test_the_job_that_fetches_a_model_is_silent_alone(environment, tmp_path):
    with logged(tmp_path / "log", hub=True):
        assert {environment[name] for name in SILENT} == {"1"}
        assert {environment[name] for name in OFFLINE} == {"0"}  # as the user has them
    restrict_network()


def test_only_the_script_that_fetches_asks_for_the_hub():
    frames = {
        path.name: re.findall(r"with logged\((.*)\):", path.read_text()) for path in ROOT.glob("workflow/scripts/*.py")
    }
    assert all(len(of) == 1 for of in frames.values())
    asking = {name for name, (arguments,) in frames.items() if "hub" in arguments}
    assert asking == {"fetch_model.py"}


def training_jobs(tiny_jobs, folder: Path) -> dict:
    """SFT, GRPO from its adapter, and free GRPO, each with a checkpoint after each step."""
    jobs = {}
    for name, section, changes in [
        ("sft", "sft", {}),
        ("sft_then_grpo", "grpo", {"start_from": folder / "sft/adapter"}),
        ("free", "grpo", {"decoding": "free"}),
    ]:
        root, limits = folder / name, {"group_size": 2, "max_new_tokens": 2} if section == "grpo" else {}
        jobs[name] = tiny_jobs.make(
            name,
            {**tiny_jobs.config[section], **STEPS, **limits},
            output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
            checkpoints=CheckpointPlan(root / "checkpoints", "a", steps=1),
            **changes,
        ).as_json()
    return jobs


@pytest.mark.slow
def test_no_job_tries_to_reach_a_network(tiny_jobs, tmp_path):
    jobs = {"trainings": training_jobs(tiny_jobs, tmp_path), "texts": str(ROOT / "workflow/texts/ordinary.yaml")}
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    user = {name: value for name, value in os.environ.items() if name not in (*SILENT, *OFFLINE)}
    script = Path(__file__).with_name("offline_jobs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False,
        env={**user, "HF_ENDPOINT": "https://hub.example", "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "attempts.json").read_text())
    assert found["attempts"] == []
    assert set(OFFLINE) <= found["environment"].keys()
    assert (tmp_path / "leaks.parquet").exists() and (tmp_path / "replies.parquet").exists()
    assert "hub" not in (tmp_path / "log").read_text().lower()  # nor a warning that it could not be asked
    assert_modules_are_sorted(tmp_path)


def assert_modules_are_sorted(folder: Path) -> None:
    for path in folder.glob("*/adapter/adapter_config.json"):
        modules = json.loads(path.read_text())["target_modules"]
        assert modules == sorted(modules), path
