"""Machines: this one's free disk and memory, and one that is described."""

import os
from types import SimpleNamespace

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import free_bytes
from hidden_rule.planning import machine
from hidden_rule.planning.machine import described_machine, memory_limit, peak_tflops, write_speed

H100 = '{"gpus": 2, "gpu": "H100", "gpu_gb": 80, "memory_gb": 512, "disk_gb": 900, "cores": 32}'


def test_a_described_machine():
    found = described_machine(H100)
    assert [gpu.gb for gpu in found.gpus] == [80, 80]
    assert found.gpus[0].tflops == 989 and found.computes_bfloat16
    assert (found.memory, found.free_disk, found.cores, found.real) == (512 * 10**9, 900 * 10**9, 32, False)


def test_a_described_machine_in_a_file(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_text("gpus: 1\ngpu_gb: 40\ngpu_tflops: 300\n", encoding="utf-8")
    found = described_machine(str(path))
    assert (len(found.gpus), found.gpus[0].gb, found.gpus[0].tflops) == (1, 40, 300)
    assert found.memory is found.free_disk is None


def test_a_described_machine_without_gpu():
    assert described_machine('{"gpus": 0, "cores": 4, "memory_gb": 8}').gpus == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"gpu_gb": 80, "gpu": "H100", "gpus": -1}', "MACHINE: gpus: is -1; give a whole number"),
        ('{"gpu_gb": 80, "gpu": "H100", "gpus": 1.5}', "MACHINE: gpus: is 1.5; give a whole number"),
        ('{"gpu_gb": 80, "gpu": "H100", "gpus": 1000000000}', "MACHINE: gpus: is 1000000000"),
        ('{"gpu_gb": "80 GB", "gpu": "H100"}', 'MACHINE: gpu_gb: is "80 GB"; give a number'),
        ('{"gpu_gb": .nan, "gpu": "H100"}', "MACHINE: gpu_gb: is NaN; give a number"),
        ('{"gpu_gb": .inf, "gpu": "H100"}', "MACHINE: gpu_gb: is Infinity; give a number"),
        ('{"gpu_gb": true, "gpu": "H100"}', "MACHINE: gpu_gb: is true; give a number"),
        ('{"gpu_gb": 80, "gpu": 100}', "MACHINE: gpu: is 100; give a name"),
        ('{"gpu_gb": 80, "gpu": "a\\nb"}', 'MACHINE: gpu: is "a\\nb"; give a name'),
        ('{"gpu": "H100"}', "MACHINE: gpu_gb: is missing"),
        ('{"gpu_gb": 80}', 'MACHINE: gpu_tflops: the speed of "GPU" is not known'),
        ('{"gpu_gb": 80, "gpu": "H1000"}', 'MACHINE: gpu_tflops: the speed of "H1000" is not known'),
        ('{"gpu_gbs": 80}', "MACHINE: gpu_gbs: unknown key; the keys are gpus, gpu,"),
        ('{"cores": 0, "gpus": 0}', "MACHINE: cores: is 0"),
        ("{}", "MACHINE: describes no machine"),
        ("{1, 2", "MACHINE: line 1: is not valid YAML"),
        ("no/such/file.yaml", "no/such/file.yaml: no such file"),
    ],
)
def test_what_describes_no_machine_is_one_line(text, said):
    with pytest.raises(UserError) as error:
        described_machine(text)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.0),
        ("Tesla V100-SXM2-16GB", 125.0),
        ("AMD Instinct MI300X", None),
    ],
)
def test_peaks_by_name(name, tflops):
    assert peak_tflops(name) == tflops


def test_free_disk_is_what_this_user_may_write(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=10, f_bfree=99, f_frsize=4096))
    assert free_bytes(tmp_path / "not" / "yet" / "there") == 40960


def test_memory_is_limited_by_group_and_job(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    assert memory_limit(100 * 2**20, tmp_path) == 100 * 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit(100 * 2**20, tmp_path) == 100 * 2**20
    (tmp_path / "memory.max").write_text(f"{50 * 2**20}\n")
    assert memory_limit(100 * 2**20, tmp_path) == 50 * 2**20
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "20")
    assert memory_limit(100 * 2**20, tmp_path) == 20 * 2**20


def test_gpus_are_those_that_may_be_used(monkeypatch):
    listed = "GPU-a, NVIDIA A100-SXM4-40GB, 40960, 535.1, 8.0\nGPU-b, Tesla V100-SXM2-16GB, 16384, 535.1, 7.0\n"
    listed += "GPU-c, NVIDIA A100, [N/A], 535.1, 8.0\nUnable to determine the device handle\n"  # out of order
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/bin/nvidia-smi")
    monkeypatch.setattr(machine.subprocess, "run", lambda *args, **kwargs: SimpleNamespace(stdout=listed))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first, second = machine.found_gpus()
    assert (first.tflops, first.bfloat16, first.driver) == (312.0, True, "535.1")
    assert first.gb == pytest.approx(42.9, abs=0.1) and second.bfloat16 is False
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    assert [gpu.name for gpu in machine.found_gpus()] == ["Tesla V100-SXM2-16GB"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 0")
    assert [gpu.name[:4] for gpu in machine.found_gpus()] == ["Tesl", "NVID"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.found_gpus() == ()


def test_write_speed_leaves_nothing(tmp_path):
    assert write_speed(tmp_path / "results" / "mine") > 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written to \(No space left on device\)"):
        write_speed(tmp_path)
    assert list(tmp_path.iterdir()) == []
