"""What SFT and GRPO have in common: the examples, the start, the history, the progress bar and the costs."""

import gc
import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from tqdm import tqdm
from transformers import TrainerCallback

from hidden_rule.core import processes
from hidden_rule.core.costs import cost_frame, peak_resident_bytes
from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import COSTS, HISTORY, write_table
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.loading import (
    add_adapter,
    default_device,
    device_name,
    load_adapter,
    load_model,
    load_tokenizer,
)
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.dataset import read_split
from hidden_rule.task.ruleset import Ruleset, load_ruleset

log = logging.getLogger(__name__)

# TRL's names of what it logs -> ours
LOGGED = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "reward": "reward",
    "entropy": "entropy",
    "frac_reward_zero_std": "zero_signal_share",
    "invalid_share": "invalid_share",
}
SHARE_PREFIX = "predicted_share/"


@dataclass
class Split:
    """A split of the data as a trainer needs it."""

    labels: list[str]
    conversations: list[list[dict]]
    prompts: list[list[int]]  # token ids
    fired_rules: list[str] = ()  # the name of the rule that decides, `default` where none does


@dataclass
class Start:
    """Where a training starts from: a model with an adapter to train, and all that is written once for all methods."""

    model: torch.nn.Module
    tokenizer: object
    ruleset: Ruleset
    trie: LabelTrie
    train: Split
    validation: Split
    device: torch.device


def load_start(*, manifest, ruleset, train, validation, model_config, lora, start_from, seed) -> Start:
    """Load model, adapter (new, or the one in folder `start_from`) and data; `seed` draws the new adapter's weights."""
    device = default_device()
    ruleset = load_ruleset(ruleset)
    tokenizer = load_tokenizer(manifest)
    network = load_model(manifest, model_config["dtype"], device)
    torch.manual_seed(seed)
    model = load_adapter(network, start_from, trainable=True) if start_from else add_adapter(network, lora)
    splits = []
    for path in (train, validation):
        frame = read_split(path, ruleset)
        conversations = ruleset.render_prompts(frame)
        prompts = encode_prompts(tokenizer, conversations, model_config["chat_template_kwargs"])
        splits.append(Split(frame["label"].to_list(), conversations, prompts, frame["fired_rule"].to_list()))
    return Start(model, tokenizer, ruleset, label_trie(tokenizer, ruleset.labels), *splits, device)


def micro_batch_size(settings: dict) -> int:
    """How many prompts this process computes at a time: what is asked for, or its share of a batch if that is less."""
    share = settings["batch_size"] // processes.n_processes()
    return max(n for n in range(1, settings["micro_batch_size"] + 1) if share % n == 0)


def common_arguments(settings: dict, seed: int, scratch, device: torch.device, tracking=()) -> dict:
    """Arguments that SFT's and GRPO's trainers take alike; everything else stands in their own scripts."""
    return {
        "output_dir": str(scratch),
        "num_train_epochs": settings["epochs"],
        "gradient_accumulation_steps": settings["batch_size"] // (micro_batch_size(settings) * processes.n_processes()),
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": "linear",
        "warmup_steps": settings["warmup_steps"],
        "max_grad_norm": settings["max_grad_norm"],
        "gradient_checkpointing": settings["gradient_checkpointing"],
        "seed": seed,
        "data_seed": seed,
        "bf16": False,  # the base model's own type computes; no autocast on top of it
        "use_cpu": device.type == "cpu",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",  # `Checkpoints` says when, and deletes old ones
        "report_to": list(tracking),
        "disable_tqdm": True,  # `Watcher` shows progress
        "dataloader_pin_memory": device.type == "cuda",
        "dataloader_num_workers": 0,
        "ddp_broadcast_buffers": False,  # they are constants, and processes differ in how often they call the model
    }


def trackers(snakemake) -> list[str]:
    """The trackers that a rule's training reports to, told where to write and what to call it.

    What the user's environment says (MLFLOW_TRACKING_URI, WANDB_PROJECT, …) stands.
    """
    condition, seed, names = snakemake.wildcards.condition, snakemake.wildcards.seed, snakemake.resources.tracking
    folder = Path(snakemake.output.history).parent  # results/<experiment>/training/<condition>/seed<n>
    experiment = folder.parents[2].name
    for key, value in {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "WANDB_PROJECT": experiment,
        "WANDB_DIR": str(folder),
        "WANDB_NAME": f"{condition}-seed{seed}",
    }.items():
        os.environ.setdefault(key, value)
    return [] if names == "none" else names.split(",")


def gathered_weights(trainer) -> dict | None:
    """The model's weights where processes share them, which all have to call this; None where each has its own."""
    shared = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if shared else None


class Watcher(TrainerCallback):
    """Writes down what a training does, measures it on the validation split, and shows its progress.

    Validation is structured (the exact policy over the valid replies) whatever RL explores with: before the first
    step and after each epoch, accuracy and the mean KL divergence from the start, in nats, over the label set. After
    `patience` steps in a row (0: never) in which no group carried a signal it stops the training.
    """

    def __init__(self, start: Start, micro_batch_size: int, patience: int = 0):
        self.start, self.batch_size = start, 4 * micro_batch_size  # without gradients so many fit as well
        self.patience = patience
        self.rows: list[dict] = []
        self.n_tokens = 0
        self.first_log_probs = None
        self.wall_s = 0.0  # of earlier processes that this training goes on from
        self.began = self.bar = None

    def clock_s(self) -> float:
        """Seconds of training so far, those of earlier processes included."""
        return time.perf_counter() - self.began

    def progress(self) -> dict:
        """What a checkpoint keeps."""
        return {
            "rows": self.rows,
            "n_tokens": self.n_tokens,
            "wall_s": self.clock_s(),
            "first_log_probs": self.first_log_probs.tolist(),
        }

    def restore(self, progress: dict) -> None:
        """Go on from what a checkpoint kept."""
        self.rows, self.n_tokens, self.wall_s = progress["rows"], progress["n_tokens"], progress["wall_s"]
        self.first_log_probs = torch.tensor(progress["first_log_probs"])

    def add(self, step: int, metric: str, value: float, label: str | None = None) -> None:
        """Add a row of the history."""
        wall_s = self.clock_s()
        row = {"step": step, "wall_s": wall_s, "n_tokens": self.n_tokens, "metric": metric, "label": label}
        self.rows.append({**row, "value": float(value)})

    def validate(self, step: int) -> None:
        """Measure the policy on the validation split."""
        split, model = self.start.validation, self.start.model
        was_training = model.training
        log_probs = label_log_probs(model.eval(), self.start.trie, split.prompts, self.batch_size, wrapped=True)
        model.train(was_training)
        if self.first_log_probs is None:
            self.first_log_probs = log_probs
        predicted = [self.start.ruleset.labels[i] for i in log_probs.argmax(1).tolist()]
        right = sum(p == label for p, label in zip(predicted, split.labels, strict=True))
        drift = (log_probs.exp() * (log_probs - self.first_log_probs)).sum(1).mean()
        self.add(step, "validation_accuracy", right / len(predicted))
        self.add(step, "kl_from_start", max(0.0, float(drift)))
        if processes.rank() == 0:
            tqdm.write(f"step {step}: validation accuracy {right / len(predicted):.3f}", file=sys.stderr)

    def on_train_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter() - self.wall_s
        step = state.global_step
        if self.at_epoch_end(args, state) and not self.is_validated(step):
            self.validate(step)  # the first, or the one that was to follow the checkpoint
        self.bar = tqdm(
            total=state.max_steps, initial=step, unit="step", mininterval=1.0, disable=processes.rank() != 0
        )

    def is_validated(self, step: int) -> bool:
        """Whether the policy was measured after this step."""
        return any(row["step"] == step and row["metric"] == "validation_accuracy" for row in self.rows)

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.n_tokens = int(logs.get("num_tokens", self.n_tokens))
        if "label_entropy" in logs:  # over the label set; TRL's own is a mean over tokens
            logs = {**logs, "entropy": logs["label_entropy"]}
        for theirs, ours in LOGGED.items():
            if logs.get(theirs) is not None:
                self.add(state.global_step, ours, logs[theirs])
        for key, value in logs.items():
            if key.startswith(SHARE_PREFIX):
                self.add(state.global_step, "predicted_share", value, key.removeprefix(SHARE_PREFIX))
        if "frac_reward_zero_std" in logs and self.is_out_of_signal() and state.global_step < state.max_steps:
            step, patience = state.global_step, self.patience
            log.warning("stopped after step %d: no group carried a signal for %d steps", step, patience)
            self.add(step, "stopped_without_signal", patience)
            control.should_training_stop = True
        shown = {name: f"{logs[name]:.4g}" for name in ("loss", "reward") if logs.get(name) is not None}
        if self.bar is not None and shown:
            self.bar.set_postfix(shown, refresh=False)

    def is_out_of_signal(self) -> bool:
        """Whether the last `patience` steps had no group with a signal."""
        shares = [row["value"] for row in self.rows if row["metric"] == "zero_signal_share"][-self.patience :]
        return self.patience > 0 and len(shares) == self.patience and min(shares) == 1.0

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    @staticmethod
    def at_epoch_end(args, state) -> bool:
        """Whether the step that was done last ends an epoch; true before the first one."""
        return state.global_step % (state.max_steps // round(args.num_train_epochs)) == 0

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.at_epoch_end(args, state):  # a training that was told to stop may end within
            self.validate(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if self.is_out_of_signal() and not self.at_epoch_end(args, state):
            self.validate(state.global_step)
        self.bar.close()

    def history(self) -> pl.DataFrame:
        """The rows so far, in the HISTORY schema."""
        return pl.DataFrame(self.rows, schema=HISTORY)


def halving(method, /, settings: dict, **arguments):
    """`method(settings=…, **arguments)`, a training; where a GPU's memory runs out, again with a smaller micro-batch.

    The micro-batch is halved (to the next divisor of the batch) and gradients are accumulated the more: a step trains
    on the same rows. Raises UserError where one prompt at a time does not fit.
    """
    while True:
        try:
            return method(settings=settings, **arguments)
        except torch.OutOfMemoryError:  # dealt with below: this clause keeps the failed step's tensors alive
            pass
        batch, size = settings["batch_size"], settings["micro_batch_size"]
        if size == 1:
            raise UserError(
                "config.yaml", "micro_batch_size", "one prompt at a time does not fit the GPU's memory",
                "turn gradient_checkpointing on, lower group_size, or take a larger GPU",
            )  # fmt: skip
        if processes.n_processes() > 1:  # the others wait for this one's share of the step, and have to end too
            raise UserError(
                "config.yaml", "micro_batch_size", f"{size} prompts a process do not fit the GPU's memory", "lower it"
            )
        smaller = max(n for n in range(1, size // 2 + 1) if batch % n == 0)
        log.warning("out of GPU memory: %d prompts at a time instead of %d, %d a step as before", smaller, size, batch)
        settings = {**settings, "micro_batch_size": smaller}
        gc.collect()
        torch.cuda.empty_cache()


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process: the GPU's where there is one, else what was resident."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_bytes()


def write_cost(path, *, condition, seed, stage, began, n_tokens_trained, n_tokens_generated, device) -> None:
    """Write one row of costs; `began` is the `time.perf_counter()` at the stage's start, loading included."""
    frame = cost_frame(
        condition=condition,
        seed=seed,
        stage=stage,
        began=began,
        device=device_name(device),
        peak_bytes=peak_bytes(device),
        n_tokens_trained=n_tokens_trained,
        n_tokens_generated=n_tokens_generated,
    )
    write_table(frame, path, COSTS)


def model_id(manifest) -> str:
    """The id that a manifest gives its model."""
    return json.loads(Path(manifest).read_text(encoding="utf-8"))["id"]
