"""The device that a process computes on, its number type, and how costs name and measure it."""

import torch

from hidden_rule.core import processes
from hidden_rule.core.costs import peak_resident_bytes
from hidden_rule.kernels.compat_torch import cpu_computes_bfloat16
from hidden_rule.models.devices import held


def default_device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    return torch.device("cuda", processes.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def device_name(device: torch.device) -> str:
    """How costs name a device: `cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def n_gpus(device: torch.device) -> int:
    """GPUs that a job on this device holds, all its processes together."""
    return max(processes.n_processes(), len(held)) if device.type == "cuda" else 0


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process: the GPU's where there is one, else what was resident."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_bytes()


def compute_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The type weights and activations have: `auto` is bfloat16 where the hardware computes in it, else float32."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = cpu_computes_bfloat16()
    return torch.bfloat16 if native else torch.float32


def use_threads(n: int) -> None:
    """Let this process compute with so many CPU threads."""
    torch.set_num_threads(max(1, n))
