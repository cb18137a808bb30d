"""A training in two processes is the training in one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from hidden_rule.training import launch
from hidden_rule.training.job import CheckpointPlan, TrainingOutput

pytestmark = [
    pytest.mark.slow,  # several processes, or a real model
    pytest.mark.skipif(torch.cuda.device_count() == 1, reason="each process takes a GPU of its own"),
]

SCRIPT = Path(__file__).parents[1] / "launched.py"
CURRICULUM = {"by": "probability", "epochs": 1, "share": 0.5}
VARIANTS = {  # of grpo
    "exact": {"estimator": "exact", "entropy_coef": 0.1, "curriculum": CURRICULUM},
    "free": {"max_new_tokens": 4, "group_size": 2, "entropy_coef": 0.1},
}


def prepare(tiny_jobs, root, method, processes, steps=0):
    """The command of a training of 4 steps an epoch, 4 prompts a step, in float32."""
    root.mkdir()
    decoding = "free" if method == "free" else "structured"
    variant, method = VARIANTS.get(method, {}), "grpo" if method in VARIANTS else method
    changes = {"epochs": 2, "batch_size": 4, "micro_batch_size": 2, "warmup_steps": 1, **variant}
    job = tiny_jobs.make(
        root.name,
        {**tiny_jobs.config[method], **changes},
        output=TrainingOutput(*(root / name for name in ("adapter", "history", "cost"))),
        checkpoints=CheckpointPlan(root / "checkpoints", "a", steps=steps, at_sigterm=True),
        decoding=decoding,
    )
    place = launch.Place(root / "log", threads=processes, processes=processes)
    launch.write_job(root / "job.json", job, place)
    assert launch.read_job(root / "job.json") == (job, place)
    return [sys.executable, str(SCRIPT), method, str(root / "job.json")]


def train(*arguments, **options):
    """Run `prepare`'s command to its end; the history without seconds, and the adapter's weights."""
    done = subprocess.run(prepare(*arguments, **options), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return read(arguments[1])


def read(root):
    history = pl.read_parquet(root / "history").drop("wall_s").sort("step", "metric", "label")
    return history, load_file(root / "adapter" / "adapter_model.safetensors")


def assert_alike(found, expected):
    """The same steps, tokens and metrics, numbers and weights equal up to the order of float32 sums."""
    assert found[0].drop("value").equals(expected[0].drop("value"))
    for row, other in zip(found[0].rows(named=True), expected[0].rows(named=True), strict=True):
        assert row["value"] == pytest.approx(other["value"], rel=1e-3, abs=1e-5), (row, other)
    assert found[1].keys() == expected[1].keys()
    for name, weight in expected[1].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["sft", "grpo", *VARIANTS])
def test_two_processes_train_what_one_trains(tiny_jobs, tmp_path, method):
    expected = train(tiny_jobs, tmp_path / "one", method, 1)
    assert_alike(train(tiny_jobs, tmp_path / "two", method, 2), expected)


def test_two_processes_stop_at_sigterm_and_go_on(tiny_jobs, tmp_path):
    root = tmp_path / "stopped"
    command = prepare(tiny_jobs, root, "sft", 2, steps=2)
    held = {**os.environ, "HOLD_AT_STEP": "3"}
    process = subprocess.Popen(command, env=held, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (root / "checkpoints/a/checkpoint-2/whole.json").exists():  # from here on both take SIGTERM
        assert process.poll() is None, process.stderr.read()[-4000:]
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert not (root / "adapter").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert "checkpoint-3" in (root / "log").read_text()  # one that SIGTERM wrote: due were those of steps 2, 4, 6
    assert_alike(read(root), train(tiny_jobs, tmp_path / "undisturbed", "sft", 2))


@pytest.mark.parametrize("strategy", launch.STRATEGIES)
def test_accelerate_knows_every_option(strategy):
    from accelerate.commands.launch import launch_command_parser

    words = launch.command(4, strategy, 2)
    parsed = launch_command_parser().parse_args([*words[3:], "script.py"])
    assert (parsed.num_processes, parsed.num_machines, parsed.training_script) == (4, 1, "script.py")
    assert (parsed.use_fsdp, parsed.use_deepspeed) == (strategy == "fsdp", strategy == "deepspeed_zero3")
