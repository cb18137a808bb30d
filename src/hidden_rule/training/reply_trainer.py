"""A trainer whose loss is one of the log-probabilities of whole replies to numbered prompts: that of DPO and RFT.

It is transformers' `Trainer` with the forward pass of TRL's trainers (`shared_forward.py`): what the replies of a
micro-batch share, their prompts and first tokens, is computed once.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from hidden_rule.core import processes
from hidden_rule.kernels.shared_prefix import pad_right
from hidden_rule.training.arguments import common_arguments, micro_batch_size
from hidden_rule.training.checkpoints import Checkpoints, Counters
from hidden_rule.training.job import CheckpointPlan, TrainingJob
from hidden_rule.training.output import write_training
from hidden_rule.training.start import Start, load_start
from hidden_rule.training.time_limit import ClockedSchedule, limit_time
from hidden_rule.training.watcher import Watcher

TRL_ALONE = ("router_aux_loss_coef",)  # of the common arguments, those that transformers does not have

Reply = tuple[int, ...]  # token ids, with the end of the turn


def padded(pairs: list[tuple[list[int], Reply]], device) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels` (N, T) of prompts with replies; labels are -100 but at the replies."""
    ids = pad_right([[*prompt, *reply] for prompt, reply in pairs], 0)
    mask = pad_right([[1] * (len(prompt) + len(reply)) for prompt, reply in pairs], 0)
    labels = pad_right([[-100] * len(prompt) + list(reply) for prompt, reply in pairs], -100)
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
        "labels": torch.tensor(labels, device=device),
    }


def reply_log_probs(model, pairs: list[tuple[list[int], Reply]], device) -> torch.Tensor:
    """Log-probability (N,) of each reply after its prompt, over the whole vocabulary, summed over its tokens."""
    return model(**padded(pairs, device), fused_lm_head=True).log_probs.sum(1)


def row_numbers(examples: list[dict]) -> dict[str, torch.Tensor]:
    """A micro-batch of the data set: the numbers of its rows (B,)."""
    return {"row": torch.tensor([example["row"] for example in examples])}


class ReplyTrainer(ClockedSchedule, Trainer):
    """`Trainer` over the rows `numbers` of the training split; what `measure` is given is logged as a step's mean."""

    def __init__(self, job: TrainingJob, start: Start, watcher: Watcher, folder, numbers: list[int]):
        arguments = common_arguments(job, folder, start.device)
        super().__init__(
            model=start.model,
            args=TrainingArguments(
                **{key: value for key, value in arguments.items() if key not in TRL_ALONE},
                per_device_train_batch_size=micro_batch_size(job.settings),
                remove_unused_columns=False,
            ),
            data_collator=row_numbers,
            train_dataset=Dataset.from_dict({"row": numbers}),
            callbacks=[watcher],
        )
        self.start, self.settings = start, job.settings
        self.n_tokens_trained = 0
        self._sums: dict[str, list[float]] = {}  # of what is measured: sum and count
        self.remove_callback(PrinterCallback)
        limit_time(self, job.settings["max_minutes"], watcher)

    def scored(self, model, replies: list[tuple[int, Reply]]) -> torch.Tensor:
        """Log-probabilities (N,) of replies to rows of the training split, whose tokens are counted as trained on."""
        pairs = [(self.start.train.prompts[row], reply) for row, reply in replies]
        self.n_tokens_trained += int(processes.reduced([sum(len(p) + len(r) for p, r in pairs)])[0])
        return reply_log_probs(model, pairs, self.args.device)

    def measure(self, name: str, values: torch.Tensor) -> None:
        """Have the mean of `values` logged with those that other micro-batches of the step measure."""
        total = self._sums.setdefault(name, [0.0, 0.0])
        total[0] += float(values.detach().double().sum())
        total[1] += values.numel()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """What transformers logs, the tokens trained on, and what was measured since, over all processes."""
        names = sorted(self._sums)
        flat = processes.reduced([number for name in names for number in self._sums[name]])
        means = {name: flat[2 * i] / flat[2 * i + 1] for i, name in enumerate(names) if flat[2 * i + 1]}
        self._sums = {}
        super().log({**logs, **means, "num_tokens": self.n_tokens_trained}, start_time)


def train_replies(
    job: TrainingJob, start: Start | None, make_watcher, make_trainer: Callable, *counted: str
) -> torch.nn.Module:
    """Train with the trainer of `make_trainer(job, start, watcher, folder)`, and write what `job.output` names.

    counted: attributes of the trainer that a resumed training goes on with. Returns the trained model.
    """
    began = time.perf_counter()
    start = start or load_start(job)
    watcher = make_watcher(start, job.settings["micro_batch_size"])
    set_seed(job.seed)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(job.checkpoints or CheckpointPlan(Path(scratch), "none"))
        trainer = make_trainer(job, start, watcher, checkpoints.folder)
        counters = Counters(trainer, "n_tokens_trained", "n_tokens_generated", *counted)
        if len(trainer.train_dataset):
            checkpoints.train(trainer, {"watcher": watcher, "trainer": counters})
        else:
            watcher.began = time.perf_counter()
            watcher.validate(0)
            watcher.add(0, "stopped_without_samples", job.settings["samples"])
    write_training(job, trainer, watcher, began, trainer.n_tokens_generated)
    checkpoints.clear()
    return trainer.model
