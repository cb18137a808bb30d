"""What a training writes: the adapter, its history and its cost."""

import time

from hidden_rule.core import processes
from hidden_rule.core.costs import Cost, write_costs
from hidden_rule.core.files import read_json
from hidden_rule.core.tables import HISTORY, write_table
from hidden_rule.models.adapters import save_adapter
from hidden_rule.models.hardware import device_name, peak_bytes
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.watcher import Watcher


def gathered_weights(trainer) -> dict | None:
    """The full weights if they are sharded, for which all processes must call this; otherwise None."""
    shared = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if shared else None


def write_training(job: TrainingJob, trainer, watcher: Watcher, began: float, n_tokens_generated: int = 0) -> None:
    """Write everything that `job.output` names; all processes call this, and rank 0 writes.

    `began`: the `time.perf_counter()` at this process's start of the job, loading included.
    """
    state = gathered_weights(trainer)
    if processes.rank() != 0:
        return
    save_adapter(trainer.model, job.output.adapter, read_json(job.base.manifest)["id"], state)
    write_table(watcher.history(), job.output.history, HISTORY)
    device = watcher.start.device
    cost = Cost(
        condition=job.condition,
        seed=job.seed,
        stage="train",
        wall_s=time.perf_counter() - began + watcher.wall_s,
        n_tokens_trained=watcher.n_tokens,
        n_tokens_generated=n_tokens_generated,
        peak_bytes=peak_bytes(device),
        device=device_name(device),
    )
    write_costs(job.output.cost, cost)
