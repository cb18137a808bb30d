"""The record of a run holds facts; one that cannot be found out stops it."""

import hashlib
import json
import subprocess
from pathlib import Path

import polars as pl
import pytest
import yaml

from conftest import ROOT
from hidden_rule.core import engines
from hidden_rule.core.costs import with_nulls
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256, write_text
from hidden_rule.core.tables import COSTS, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.report import provenance
from hidden_rule.task.dataset import SPLITS
from record_run import record_run


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A checkout with one commit, and small stand-ins for what a run leaves behind."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "lock.txt": "polars==0.1 \\\n    --hash=sha256:00\nno-such-package==1\n",
        "manifest.json": '{"id": "tiny", "licence": null, "inspection": {"settings": {}}}',
        "inspection.json": '{"facts": {"context length": 64}, "warnings": []}',
        "ruleset.yaml": (ROOT / "rulesets" / "fincorp.yaml").read_text(encoding="utf-8"),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    config = {"seeds": [0], "experiment": "x", "ruleset": "ruleset.yaml", "conditions": {"sft": {"method": "sft"}}}
    config |= {"sft": {}, "evaluation": {"structured": ["test"], "free": []}}
    results = Results(tmp_path / "results", config)
    (tmp_path / "results" / "data").mkdir(parents=True)
    for split in SPLITS:
        pl.DataFrame({"application_id": [1, 2, 3]}).write_parquet(results.layout.split(split))
    costs = {"condition": "sft", "seed": 0, "stage": "train", "wall_s": 1.5, "device": "cpu"}
    costs |= {"n_tokens_trained": 1, "n_tokens_generated": 0, "peak_bytes": 1}
    write_table(with_nulls(pl.DataFrame([costs])), results.layout.table("costs"), COSTS)
    write_text("weights", results.layout.adapter(results.trained[0]) / "adapter_model.safetensors")
    return {
        "results": results,
        "lock": "lock.txt",
        "model": ("manifest.json", "inspection.json"),
        "provenance_path": "provenance.json",
        "config_path": "config.resolved.yaml",
    }


def commit():
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "all"], check=True)


def test_the_record_holds_what_the_result_came_from(inputs):
    commit()
    record_run(**inputs)
    record = json.loads(Path("provenance.json").read_text(encoding="utf-8"))
    assert len(record["git"]["commit"]) == 40 and record["git"]["dirty"] is False
    assert record["packages"] == {"polars": pl.__version__}  # what is installed, not what the lock says
    train = inputs["results"].layout.split("train")
    assert record["data"]["train"] == {"sha256": file_sha256(train), "rows": 3} and len(record["data"]) == 4
    assert record["adapters"] == {"sft/seed0": hashlib.sha256(b"weights").hexdigest()}
    assert record["timings"] == [{"condition": "sft", "seed": 0, "stage": "train", "wall_s": 1.5}]
    assert record["hardware"]["cpu"] and record["hardware"]["memory_bytes"] > 2**20
    found = {"facts": {"context length": 64}, "warnings": []}
    assert record["model"] == {"id": "tiny", "licence": None, "inspection": found}
    assert yaml.safe_load(Path("config.resolved.yaml").read_text(encoding="utf-8")) == inputs["results"].config


def test_engines_are_recorded_with_what_they_did(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "FOLDER", tmp_path)
    for name, lock in {"verl": "envs/verl.txt", "vllm": "envs/vllm-cpu.txt"}.items():
        write_text(json.dumps({"lock": lock, "sha256": name[0] * 64}), tmp_path / name / "installed.json")
    conditions = {"sft": {"method": "sft"}, "grpo": {"method": "grpo", "engine": "verl"}, "constant": {}}
    config = {"conditions": conditions, "evaluation": {"engine": "vllm"}}
    assert provenance.engine_locks(config) == {
        "engines": {
            "verl": {"lock": "envs/verl.txt", "sha256": "v" * 64, "for": ["grpo"]},
            "vllm": {"lock": "envs/vllm-cpu.txt", "sha256": "v" * 64, "for": ["evaluation"]},
        }
    }
    assert provenance.engine_locks({"conditions": {"sft": {"engine": "trl"}}, "evaluation": {}}) == {}


def test_a_changed_file_makes_the_checkout_dirty(inputs):
    commit()
    Path("ruleset.yaml").write_text("name: y\n", encoding="utf-8")
    assert provenance.git_state()["dirty"] is True


def test_no_commit_is_an_error_with_a_remedy(inputs):
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(UserError, match="the code has no version .*; run in a git checkout with a commit"):
        record_run(**inputs)
    assert not Path("provenance.json").exists()


def test_an_unknown_fact_is_an_error(inputs, monkeypatch):
    commit()
    monkeypatch.setattr(provenance, "_cpu", lambda: "unknown")
    with pytest.raises(UserError, match="provenance.json: hardware.cpu: could not be found out"):
        record_run(**inputs)


def test_the_date_can_be_fixed(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert provenance.creation_time() == "1970-01-01T00:00:00+00:00"
