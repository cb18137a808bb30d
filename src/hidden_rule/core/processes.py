"""Which process of a training this is, and sums over all of them; one process is rank 0 of one."""

import os

LAUNCHED = "HIDDEN_RULE_LAUNCHED"  # distinguishes our ranks from other programs that set RANK


def rank() -> int:
    """This process's number; 0 is the one that writes files."""
    return int(os.environ["RANK"]) if LAUNCHED in os.environ else 0


def local_rank() -> int:
    """This process's number on its machine: the GPU that it uses."""
    return int(os.environ["LOCAL_RANK"]) if LAUNCHED in os.environ else 0


def n_processes() -> int:
    """How many processes this training has."""
    return int(os.environ["WORLD_SIZE"]) if LAUNCHED in os.environ else 1


def share_weights() -> bool:
    """Whether each process holds a part of the model's weights alone (FSDP, ZeRO-3), as accelerate was told."""
    flags = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return LAUNCHED in os.environ and any(os.environ.get(flag, "").lower() == "true" for flag in flags)


def reduced(values: list[float], largest: bool = False) -> list[float]:
    """The sum, or the largest, of each value over all processes, which all have to call this."""
    if n_processes() == 1:
        return values
    import torch  # later than `training.launch.start`

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    operation = torch.distributed.ReduceOp.MAX if largest else torch.distributed.ReduceOp.SUM
    torch.distributed.all_reduce(tensor, operation)
    return tensor.tolist()


def wait() -> None:
    """Wait until every process is here."""
    reduced([0.0])
