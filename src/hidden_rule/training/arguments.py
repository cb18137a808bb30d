"""Trainer arguments that all methods share; the others are in `sft.py` and `grpo.py`."""

import os

import torch

from hidden_rule.core import processes
from hidden_rule.training.job import TrainingJob


def micro_batch_size(settings: dict) -> int:
    """Prompts this process computes at a time: the setting, or its share of a batch if that is smaller."""
    share = settings["batch_size"] // processes.n_processes()
    return max(n for n in range(1, settings["micro_batch_size"] + 1) if share % n == 0)


def common_arguments(job: TrainingJob, scratch, device: torch.device) -> dict:
    """Those of transformers' `TrainingArguments` that methods share; `scratch`: the checkpoints' folder."""
    settings = job.settings
    return {
        "output_dir": str(scratch),
        "num_train_epochs": settings["epochs"],
        "gradient_accumulation_steps": settings["batch_size"] // (micro_batch_size(settings) * processes.n_processes()),
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": "linear",
        "warmup_steps": settings["warmup_steps"],
        "max_grad_norm": settings["max_grad_norm"],
        "gradient_checkpointing": settings["gradient_checkpointing"],
        "seed": job.seed,
        "data_seed": job.seed,
        "bf16": False,  # the base model's own type computes; no autocast on top of it
        "use_cpu": device.type == "cpu",
        "router_aux_loss_coef": 0.0,  # a mixture of experts is not balanced anew, as RL over replies does not either
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",  # `Checkpoints` says when, and deletes old ones
        "report_to": trackers(job),
        "disable_tqdm": True,  # `Watcher` shows progress
        "dataloader_pin_memory": device.type == "cuda",
        "dataloader_num_workers": 0,
        "ddp_broadcast_buffers": False,  # they are constants, and processes differ in how often they call the model
    }


def trackers(job: TrainingJob) -> list[str]:
    """The trackers a training reports to; environment variables give them folder, experiment and run name.

    Variables that the user has set (MLFLOW_TRACKING_URI, WANDB_PROJECT, …) are kept.
    """
    if not job.trackers:
        return []
    folder = job.output.history.parent  # results/<experiment>/training/<condition>/seed<n>
    experiment = folder.absolute().parents[2].name
    for key, value in {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "WANDB_PROJECT": experiment,
        "WANDB_DIR": str(folder),
        "WANDB_NAME": f"{job.condition}-seed{job.seed}",
    }.items():
        os.environ.setdefault(key, value)
    return list(job.trackers)
