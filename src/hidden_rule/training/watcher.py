"""A training's history, its validation, and its progress bar."""

import logging
import sys
import time

import polars as pl
import torch
from tqdm import tqdm
from transformers import TrainerCallback

from hidden_rule.core import processes
from hidden_rule.core.tables import HISTORY
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.finite import check_numbers, dtype_of
from hidden_rule.training.spending import Spending
from hidden_rule.training.start import Start

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
    "kept": "kept",
    "pair_accuracy": "pair_accuracy",
    "reward_margin": "reward_margin",
}
CPU_BATCH = 64  # rows of validation computed at a time, as of evaluation by default
SHARE_PREFIX = "predicted_share/"
PART_PREFIX = "reward/"  # of a reward that has several
IN_WORDS = {"loss": "the loss", "grad_norm": "the gradient norm", "reward": "the mean reward", "entropy": "the entropy"}


def validation_metrics(log_probs: torch.Tensor, first: torch.Tensor, right: list[str], labels) -> dict[str, float]:
    """Accuracy, and mean KL divergence from the start in nats, of a policy over the label set on B cases.

    log_probs, first: (B, L), its own and the start's, columns in the order of `labels`; right: (B,) labels.
    """
    predicted = [labels[i] for i in log_probs.argmax(1).tolist()]
    n_right = sum(p == label for p, label in zip(predicted, right, strict=True))
    drift = (log_probs.exp() * (log_probs - first)).sum(1).mean()
    return {"validation_accuracy": n_right / len(predicted), "kl_from_start": max(0.0, float(drift))}


class Watcher(TrainerCallback):
    """Writes down what a training does, measures it on the validation split, and shows its progress.

    Validation is structured (the exact policy over the valid replies) whatever RL explores with: before the first
    step and after each epoch, accuracy and the mean KL divergence from the start, in nats, over the label set. After
    `patience` consecutive steps (0: never) without a group of unequal rewards it stops the training.
    """

    def __init__(self, start: Start, micro_batch_size: int, patience: int = 0):
        self.start, self.batch_size = start, 4 * micro_batch_size  # without gradients so many fit as well
        if start.device.type == "cpu":  # more rows share more
            self.batch_size = max(self.batch_size, CPU_BATCH)
        self.patience = patience
        self.rows: list[dict] = []
        self.n_tokens = 0
        self.first_log_probs: torch.Tensor | None = None
        self.wall_s = 0.0  # of earlier processes that this training goes on from
        self.began = 0.0  # `time.perf_counter()`; set when training begins
        self.bar = None
        self.spending = Spending(start)

    def clock_s(self) -> float:
        """Seconds of training so far, those of earlier processes included."""
        return time.perf_counter() - self.began

    def progress(self) -> dict:
        """What a checkpoint keeps."""
        return {
            "rows": self.rows,
            "n_tokens": self.n_tokens,
            "wall_s": self.clock_s(),
            "spending": self.spending.progress(),
            "first_log_probs": None if self.first_log_probs is None else self.first_log_probs.tolist(),
        }

    def restore(self, progress: dict) -> None:
        """Go on from what a checkpoint kept."""
        self.rows, self.n_tokens, self.wall_s = progress["rows"], progress["n_tokens"], progress["wall_s"]
        self.spending.restore(progress["spending"])
        if progress["first_log_probs"] is not None:
            self.first_log_probs = torch.tensor(progress["first_log_probs"])

    def add(self, step: int, metric: str, value: float, label: str | None = None) -> None:
        """Add a row of the history."""
        wall_s = self.clock_s()
        row = {"step": step, "wall_s": wall_s, "n_tokens": self.n_tokens, "metric": metric, "label": label}
        self.rows.append({**row, "value": float(value)})

    def validate(self, step: int) -> None:
        """Measure the policy on the validation split."""
        self.spending.pause()
        split, model = self.start.validation, self.start.model
        was_training = model.training
        log_probs = label_log_probs(model.eval(), self.start.trie, split.prompts, self.batch_size, wrapped=True)
        model.train(was_training)
        if self.first_log_probs is None:
            self.first_log_probs = log_probs
        measured = validation_metrics(log_probs, self.first_log_probs, split.labels, self.start.ruleset.labels)
        for metric, value in measured.items():
            self.add(step, metric, value)
        if processes.rank() == 0:
            accuracy = measured["validation_accuracy"]
            tqdm.write(f"step {step}: validation accuracy {accuracy:.3f}", file=sys.stderr)

    def on_train_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter() - self.wall_s
        step = state.global_step
        self.spending.begin(step)
        if self.at_epoch_end(args, state) and not self.is_validated(step):
            self.validate(step)  # the first, or the one that was to follow the checkpoint
        self.bar = tqdm(
            total=state.max_steps, initial=step, unit="step", mininterval=1.0, disable=processes.rank() != 0
        )

    def is_validated(self, step: int) -> bool:
        """Whether the policy was measured after this step."""
        return any(row["step"] == step and row["metric"] == "validation_accuracy" for row in self.rows)

    def on_step_begin(self, args, state, control, **kwargs):
        self.spending.begin_step()

    def on_save(self, args, state, control, **kwargs):
        self.spending.pause()

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.spending.end_step(state.global_step)
        self.n_tokens = int(logs.get("num_tokens", self.n_tokens))
        if "label_entropy" in logs:  # over the label set; TRL's own is a mean over tokens
            logs = {**logs, "entropy": logs["label_entropy"]}
        measured = {ours: logs[theirs] for theirs, ours in LOGGED.items() if logs.get(theirs) is not None}
        in_words = {IN_WORDS.get(name, name): value for name, value in measured.items()}
        check_numbers(in_words, dtype_of(self.start.model), state.global_step)  # alike in all processes, before a save
        for name, value in measured.items():
            self.add(state.global_step, name, value)
        for key, value in logs.items():
            if key.startswith(SHARE_PREFIX):
                self.add(state.global_step, "predicted_share", value, key.removeprefix(SHARE_PREFIX))
            if key.startswith(PART_PREFIX):
                self.add(state.global_step, key, value)
        if "frac_reward_zero_std" in logs and self.is_out_of_signal() and state.global_step < state.max_steps:
            step, patience = state.global_step, self.patience
            log.warning("stopped after step %d: for %d steps the rewards within each group were equal", step, patience)
            self.add(step, "stopped_without_signal", patience)
            control.should_training_stop = True
        shown = {name: f"{logs[name]:.4g}" for name in ("loss", "reward") if logs.get(name) is not None}
        if self.bar is not None and shown:
            self.bar.set_postfix(shown, refresh=False)

    def is_out_of_signal(self) -> bool:
        """Whether no group of the last `patience` steps had unequal rewards."""
        shares = [row["value"] for row in self.rows if row["metric"] == "zero_signal_share"][-self.patience :]
        return self.patience > 0 and len(shares) == self.patience and min(shares) == 1.0

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    @staticmethod
    def at_epoch_end(args, state) -> bool:
        """Whether the step that was done last ends an epoch; true before the first one."""
        return state.global_step % (state.max_steps // round(args.num_train_epochs)) == 0

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.at_epoch_end(args, state):  # a training that is stopped may end within one
            self.validate(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if self.is_out_of_signal() and not self.at_epoch_end(args, state):
            self.validate(state.global_step)
        self.bar.close()

    def history(self) -> pl.DataFrame:
        """The rows so far, in the HISTORY schema."""
        return pl.DataFrame(self.rows, schema=HISTORY)
