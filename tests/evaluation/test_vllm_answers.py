"""Answers by vLLM: those of our own code within bounds, and one line where it is missing or fails."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from conftest import ROOT
from hidden_rule.core import engines
from hidden_rule.core.costs import read_costs
from hidden_rule.core.errors import SettingError, UserError
from hidden_rule.core.tables import read_table, write_table
from hidden_rule.evaluation import vllm_answers, vllm_worker
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
from hidden_rule.experiment.engine_checks import check_installed
from hidden_rule.models.adapters import add_adapter, save_adapter
from hidden_rule.models.base import BaseModel
from hidden_rule.models.loading import load_model
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.ruleset import load_ruleset
from stand_ins import stand_in

LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
QUESTIONS = vllm_worker.Job("folder", "float32", [[1, 2]], [], [0], [0], 4, 8)


def test_vllm_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "FOLDER", tmp_path)
    check_installed({"conditions": {}, "evaluation": {"engine": "transformers"}})
    with pytest.raises(UserError) as error:
        check_installed({"conditions": {}, "evaluation": {"engine": "vllm"}})
    assert str(error.value) == "config.yaml: evaluation.engine: vllm is not installed; run make setup-vllm"


@pytest.mark.parametrize(
    ("grpo", "condition", "key"),
    [
        ({"use_vllm": True}, {"method": "grpo"}, "grpo.use_vllm"),
        ({"use_vllm": False}, {"method": "grpo", "with": {"use_vllm": True}}, "conditions.a.with.use_vllm"),
        ({"use_vllm": True}, {"method": "grpo", "with": {"use_vllm": False}}, None),
        ({"use_vllm": True}, {"method": "sft"}, None),
    ],
)
def test_rollouts_by_vllm_need_it_in_the_trainings_own_environment(grpo, condition, key):
    config = {"conditions": {"a": condition}, "evaluation": {"engine": "transformers"}, "grpo": grpo, "sft": {}}
    if key is None:
        check_installed(config)
        return
    with pytest.raises(UserError) as error:
        check_installed(config)
    assert str(error.value) == (
        f"config.yaml: {key}: generates with vLLM in the training's own process, and it is not installed there; "
        "run in an environment made from envs/vllm.txt, or set use_vllm: false"
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'Traceback (most recent call last):'; echo 'ValueError: long'; exit 1",
            "failed (ValueError: long)",
        ),
        (
            "echo '(Engine pid=7) ERROR torch.OutOfMemoryError: no' >&2; exit 3",
            "failed (torch.OutOfMemoryError: no)",
        ),
        ("echo 'ValueError: of before'; kill -9 $$", "was killed by signal 9"),
        ("exit 2", "failed"),
    ],
)
def test_a_failure_is_one_line_that_names_the_log(tmp_path, monkeypatch, script, said):
    stand_in("vllm", tmp_path / "engines", monkeypatch, script)
    with pytest.raises(SettingError) as error:
        vllm_answers.run_worker(QUESTIONS, tmp_path, Path("logs/evaluate/sft_seed0.log"))
    line = str(error.value)
    assert line.startswith(f"config.yaml: evaluation.engine: vLLM {said}")
    assert line.endswith("; see logs/evaluate/sft_seed0.log, or take transformers") and "\n" not in line


def test_what_the_worker_prints_is_passed_on(tmp_path, monkeypatch, capfd):
    answers = vllm_worker.Answers([], [[5]], 2, 1, 3, {"vllm": "9"})
    (tmp_path / "made.json").write_text(json.dumps(asdict(answers)))
    script = f'echo loading; cp {tmp_path}/made.json "$5"; echo "$3 $OMP_NUM_THREADS"'
    stand_in("vllm", tmp_path / "engines", monkeypatch, script)
    assert vllm_answers.run_worker(QUESTIONS, tmp_path, None) == answers
    printed = capfd.readouterr().err.splitlines()
    assert printed == ["loading", f"hidden_rule.evaluation.vllm_worker {torch.get_num_threads()}", "answered by vllm 9"]


def test_probabilities_that_are_not_of_the_valid_replies_alone_are_refused():
    vllm_answers.check_sums(torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log())
    with pytest.raises(SettingError, match=r"probabilities of the valid replies sum to 1 ± 0\.5; take transformers"):
        vllm_answers.check_sums(torch.tensor([[0.25, 0.75], [0.25, 0.25]]).log())


@pytest.mark.parametrize("program", ["evaluation.vllm_worker", "deployment.vllm_service"])
def test_a_worker_needs_the_standard_library_alone(program):
    """vLLM's environment has none of our other packages."""
    command = [sys.executable, "-S", "-P", "-c", f"import hidden_rule.{program}"]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(ROOT / "src")})


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a child with its parent on Linux alone")
def test_the_worker_ends_with_the_process_that_started_it():
    child = (
        "import time; from hidden_rule.evaluation.vllm_worker import end_with_parent; end_with_parent();"
        "print('ready', flush=True); time.sleep(600)"
    )
    parent = (
        f"import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-S', '-c', {child!r}], "
        "stdout=subprocess.PIPE, text=True); child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", parent], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT / "src")}
    ) as started:
        pid = int(started.stdout.readline())
        os.kill(started.pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def predictions(job: EvaluationJob, engine: str, folder: Path):
    """Predictions by an engine, and what they cost."""
    output = EvaluationOutput(folder / f"{engine}.parquet", folder / f"{engine}.cost.parquet")
    evaluate(EvaluationJob(**{**vars(job), "settings": {**job.settings, "engine": engine}, "output": output}))
    return read_table(output.predictions), read_costs(output.cost).row(0, named=True)


def random_adapter(manifest, folder):
    """An adapter that changes a model's answers: random, and not small."""
    torch.manual_seed(0)
    model = add_adapter(load_model(manifest, "float32", torch.device("cpu")), LORA)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    save_adapter(model, folder, "base")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [True, False])
def test_what_another_process_answers_becomes_the_same_predictions(
    tiny_manifest, few_rows, tmp_path, monkeypatch, adapted
):
    """Questions and answers pass the files whole: by a stand-in that makes plain forward passes."""
    worker = ROOT / "tests/evaluation/plain_worker.py"
    stand_in("vllm", tmp_path / "engines", monkeypatch, f'exec "{sys.executable}" "{worker}" "$4" "$5"')
    (folder := tmp_path / "predictions").mkdir()
    job = EvaluationJob(
        condition="sft", seed=0, base=BaseModel(tiny_manifest, "float32"), ruleset=ROOT / "rulesets/fincorp.yaml",
        adapter=random_adapter(tiny_manifest, tmp_path / "adapter") if adapted else None,
        splits={"validation": few_rows / "validation.parquet", "test": few_rows / "test.parquet"},
        settings={"structured": ["validation", "test"], "free": ["test"], "batch_size": 4, "max_new_tokens": 6},
        output=EvaluationOutput(tmp_path / "x", tmp_path / "y"),
    )  # fmt: skip
    (ours, our_cost), (theirs, their_cost) = (predictions(job, name, folder) for name in ("transformers", "vllm"))
    columns = [name for name in ours.columns if name.startswith("p_")]
    np.testing.assert_allclose(ours[columns].to_numpy(), theirs[columns].to_numpy(), atol=2e-6)
    assert ours.drop(columns).equals(theirs.drop(columns)) and len(ours) == 24
    assert their_cost["n_tokens_generated"] == our_cost["n_tokens_generated"] > 8
    assert their_cost["cpu_s"] > 0 and their_cost["device"] == our_cost["device"]
    shape = {"n": 0, "lora": 0, "head": 0} | vllm_answers.sizes_of(vllm_answers.outline(tiny_manifest.parent / "model"))
    assert shape["lora"] == 0
    assert their_cost["flops"] == 2 * (shape["n"] * their_cost["n_positions"] + shape["head"] * 8)
    assert len(list(folder.iterdir())) == 4  # the merged model is gone


# --- with vLLM --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(manifest, tmp_path_factory):
    return random_adapter(manifest, tmp_path_factory.mktemp("adapter") / "adapter")


@pytest.mark.engines("vllm")
@pytest.mark.parametrize(
    ("policy", "dtype", "adapted", "furthest"),
    [
        ("fincorp", "float32", True, 1e-4),
        ("claims", "float32", False, 1e-4),  # labels branch three times
        ("fincorp", "bfloat16", False, 0.1),  # logits have 8 significant bits
    ],
)
def test_vllm_answers_as_our_own_code_does(manifest, adapter, tmp_path, policy, dtype, adapted, furthest):
    path = ROOT / "rulesets" / f"{policy}.yaml"
    ruleset = load_ruleset(path)
    rows = draw_splits(ruleset, {"train": 8, "validation": 8, "test": 24, "holdout": 8}, seed=0)["test"]
    write_table(rows, tmp_path / "test.parquet", dataset_schema(ruleset))
    settings = {"structured": ["test"], "free": ["test"], "batch_size": 16, "max_new_tokens": 8}
    job = EvaluationJob(
        "sft", 0, BaseModel(manifest, dtype), adapter if adapted else None, path, {"test": tmp_path / "test.parquet"},
        settings, EvaluationOutput(tmp_path / "x", tmp_path / "y"),
    )  # fmt: skip
    (ours, our_cost), (theirs, their_cost) = (predictions(job, name, tmp_path) for name in ("transformers", "vllm"))
    columns = [f"p_{label}" for label in ruleset.labels]
    assert ours.schema == theirs.schema and ours["application_id"].equals(theirs["application_id"])
    assert np.abs(ours[columns].to_numpy() - theirs[columns].to_numpy()).max() < furthest
    same = (ours["reply"] == theirs["reply"]).to_numpy()
    assert same.all() if dtype == "float32" else same.mean() > 0.75
    assert their_cost["n_positions"] > 24 * 100 and their_cost["flops"] > 0 and their_cost["peak_bytes"] > 1e8
    if dtype == "float32":
        assert their_cost["n_tokens_generated"] == our_cost["n_tokens_generated"]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("test.parquet", "transformers.parquet", "transformers.cost.parquet", "vllm.parquet", "vllm.cost.parquet")
    }
