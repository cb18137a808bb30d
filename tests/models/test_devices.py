"""GPU jobs on one machine never share a device, whatever becomes of them."""

import itertools
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.models import devices

SOURCES = Path(__file__).resolve().parents[2] / "src"
JOB = """
import os, signal, sys, time
from hidden_rule.models.devices import lease_devices
names, end = lease_devices(int(sys.argv[1]), poll_s=0.01), sys.argv[2]
assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(names)
with open(sys.argv[3], "a", buffering=1) as record:
    began = time.monotonic()
    time.sleep(0.02)
    record.write("".join(f"{name} {began} {time.monotonic()}\\n" for name in names))
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "raises":
    raise RuntimeError
"""


@pytest.fixture
def environment(tmp_path):
    return {
        **os.environ,
        "PYTHONPATH": str(SOURCES),
        "TMPDIR": str(tmp_path),
        devices.SIMULATED: "GPU-a,GPU-b,GPU-c,GPU-d",
    }


@pytest.mark.slow
def test_two_hundred_jobs_on_four_devices(environment, tmp_path):
    """Eight at a time; one in ten is killed, one in ten fails, one in five asks for two or three devices."""
    rng = random.Random(0)
    jobs = [
        (rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 2, 3]), rng.choice(["ends"] * 8 + ["killed", "raises"]))
        for _ in range(200)
    ]
    record = tmp_path / "record"

    def run(job):
        command = [sys.executable, "-c", JOB, str(job[0]), job[1], str(record)]
        return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False).returncode

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(run, jobs))
    expected = {"ends": 0, "killed": -signal.SIGKILL, "raises": 1}
    assert statuses == [expected[end] for _, end in jobs]
    spans = {}
    for line in record.read_text().splitlines():
        name, began, ended = line.split()
        spans.setdefault(name, []).append((float(began), float(ended)))
    assert sum(map(len, spans.values())) == sum(n for n, _ in jobs)
    assert len(spans) == 4
    for one in spans.values():
        one.sort()
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(one))


def test_more_devices_than_there_are(environment, monkeypatch):
    monkeypatch.setenv(devices.SIMULATED, "GPU-a,GPU-b")
    with pytest.raises(UserError, match="a job asks for 3 GPUs where 2 are visible"):
        devices.lease_devices(3)


def test_a_machine_without_gpus_leases_nothing(monkeypatch):
    monkeypatch.delenv(devices.SIMULATED, raising=False)
    monkeypatch.setenv("PATH", "")  # no nvidia-smi
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.lease_devices(1) == []
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, ["GPU-x", "GPU-y", "GPU-z"]),
        ("1,2", ["GPU-y", "GPU-z"]),  # as Slurm sets it
        ("GPU-z", ["GPU-z"]),
        ("", []),  # a job that was given none
    ],
)
def test_a_scheduler_narrows_the_devices_down(monkeypatch, tmp_path, wanted, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'GPU-x\\nGPU-y\\nGPU-z\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv(devices.SIMULATED, raising=False)
    if wanted is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert devices.visible_devices() == expected
