"""What a training writes: the adapter, its history and its cost."""

from pathlib import Path

from hidden_rule.core import processes
from hidden_rule.core.costs import Cost, write_costs
from hidden_rule.core.files import read_json
from hidden_rule.core.tables import HISTORY, write_table
from hidden_rule.models.adapters import AdapterBase, save_adapter
from hidden_rule.models.base import BaseModel
from hidden_rule.models.files import model_folder
from hidden_rule.models.hardware import device_name, n_gpus, peak_bytes
from hidden_rule.models.loading import load_tokenizer
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.watcher import Watcher


def gathered_weights(trainer) -> dict | None:
    """The full weights if they are sharded, for which all processes must call this; otherwise None."""
    shared = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if shared else None


def adapter_base(base: BaseModel) -> AdapterBase:
    """What an adapter says of its base: a Hub model by id and revision, another one by the folder of its files.

    The tokenizer is a fresh one, for trainers change settings of theirs.
    """
    manifest = read_json(base.manifest)
    tokenizer = load_tokenizer(base.manifest, base.chat_template_kwargs)
    if manifest["source"] == "hub":
        return AdapterBase(manifest["id"], manifest["revision"], tokenizer)
    return AdapterBase(folder_name(model_folder(manifest, base.manifest)), None, tokenizer)


def folder_name(folder: Path) -> str:
    """A folder as others may resolve it: relative to where the command runs, if it lies there.

    With `./` before it: a name such as `models/mine` would be looked up on the Hub where there is no such folder.
    """
    if folder.is_absolute() and folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    return str(folder) if folder.is_absolute() else f"./{folder.as_posix()}"


def write_training(job: TrainingJob, trainer, watcher: Watcher, began: float, n_tokens_generated: int = 0) -> None:
    """Write everything that `job.output` names; all processes call this, and rank 0 writes.

    `began`: the `time.perf_counter()` at this process's start of the job; a `Start` loaded before costs nothing.
    """
    state, spending = gathered_weights(trainer), watcher.spending
    spent = spending.spent(began)
    computed = spending.computed(job.settings["gradient_checkpointing"])
    if processes.rank() != 0:
        return
    save_adapter(trainer.model, job.output.adapter, adapter_base(job.base), state)
    write_table(watcher.history(), job.output.history, HISTORY)
    device = watcher.start.device
    cost = Cost(
        condition=job.condition,
        seed=job.seed,
        stage="train",
        n_tokens_trained=watcher.n_tokens,
        n_tokens_generated=n_tokens_generated,
        peak_bytes=peak_bytes(device),
        device=device_name(device),
        n_gpus=n_gpus(device),
        **computed,
    )
    write_costs(job.output.cost, cost.row(spent))
