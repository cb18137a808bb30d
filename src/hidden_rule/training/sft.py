"""Supervised fine-tuning: one LoRA adapter from labelled applications, the loss on the reply alone.

Where it departs from TRL's `SFTTrainer`:
- Prompts and replies are tokenized here, once, as every other step does (`models/tokens.py`).
- The forward pass shares prefixes (`kernels/shared_prefix.py`).
- LoRA's products run in the base model's type (`kernels/lora.py`).
"""

import tempfile
import time
from pathlib import Path

from datasets import Dataset
from transformers import PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from hidden_rule.models.finite import naming_run
from hidden_rule.models.tokens import encode_reply
from hidden_rule.training import launch
from hidden_rule.training.arguments import common_arguments, micro_batch_size
from hidden_rule.training.checkpoints import Checkpoints, Counters
from hidden_rule.training.compat_trl import TOKEN_COUNTER
from hidden_rule.training.job import CheckpointPlan, TrainingJob
from hidden_rule.training.output import write_training
from hidden_rule.training.shared_forward import add_shared_prefix_forward, keep_known_rows
from hidden_rule.training.start import Start, load_start
from hidden_rule.training.time_limit import ClockedSchedule, limit_time
from hidden_rule.training.watcher import Watcher


class ClockedSFTTrainer(ClockedSchedule, SFTTrainer):
    """`SFTTrainer` whose learning rate may follow a clock."""


def labelled_tokens(start: Start) -> Dataset:
    """`input_ids` and `labels` of each training row: prompt and reply, the prompt's labels -100."""
    replies = {label: encode_reply(start.tokenizer, label, start.ruleset.labels) for label in start.ruleset.labels}
    pairs = [(prompt, replies[label]) for prompt, label in zip(start.train.prompts, start.train.labels, strict=True)]
    return Dataset.from_dict(
        {
            "input_ids": [prompt + reply for prompt, reply in pairs],
            "labels": [[-100] * len(prompt) + reply for prompt, reply in pairs],
        }
    )


def make_trainer(job: TrainingJob, start: Start, watcher: Watcher, folder) -> ClockedSFTTrainer:
    """The trainer of a job; `folder` is where its checkpoints go."""
    arguments = SFTConfig(
        **common_arguments(job, folder, start.device),
        per_device_train_batch_size=micro_batch_size(job.settings),
        max_length=None,
    )
    trainer = ClockedSFTTrainer(
        model=start.model,
        args=arguments,
        train_dataset=labelled_tokens(start),
        processing_class=start.tokenizer,
        callbacks=[watcher],
    )
    add_shared_prefix_forward(trainer.model.get_base_model())
    stem_of = dict(zip(start.ruleset.labels, start.trie.stems, strict=True))
    keep_known_rows(start, ([stem_of[label]] for label in start.train.labels))
    trainer.remove_callback(PrinterCallback)
    limit_time(trainer, job.settings["max_minutes"], watcher)
    return trainer


@naming_run
def train_sft(job: TrainingJob, start: Start | None = None, make_watcher=Watcher):
    """Train, and write the adapter's folder, the training's history and its cost; returns the trained model.

    `start`: one that is loaded already; `make_watcher`: what is called for the watcher. Both are for benchmarks.
    """
    began = time.perf_counter()
    start = start or load_start(job)
    watcher = make_watcher(start, job.settings["micro_batch_size"])
    set_seed(job.seed)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(job.checkpoints or CheckpointPlan(Path(scratch), "none"))
        trainer = make_trainer(job, start, watcher, checkpoints.folder)
        checkpoints.train(trainer, {"watcher": watcher, "trainer": Counters(trainer, TOKEN_COUNTER)})
    write_training(job, trainer, watcher, began)
    checkpoints.clear()
    return trainer.model


if __name__ == "__main__":
    launch.run_rank(train_sft)
