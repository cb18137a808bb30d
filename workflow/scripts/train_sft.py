"""Supervised fine-tuning: one LoRA adapter from labelled applications, the loss on the reply alone.

Where it departs from TRL's `SFTTrainer`: prompts and replies are tokenized here, once, as every other step does
(`models/tokens.py`), the forward pass shares prefixes (`kernels/shared_prefix.py`), and LoRA's products run in the
base model's type (`kernels/lora.py`).
"""

if "snakemake" in globals():  # before torch is imported
    from hidden_rule.training import launch

    launch.start(snakemake)

import hidden_rule.models.startup  # noqa: F401, I001 - before the other libraries

import tempfile
import time

import torch
from datasets import Dataset
from transformers import PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from hidden_rule.core import processes
from hidden_rule.models import loading as models
from hidden_rule.training import common as training
from hidden_rule.training.checkpoints import Checkpoints, Counters, for_rule
from hidden_rule.models.tokens import encode_reply
from hidden_rule.core.logs import logged
from hidden_rule.models.shared_forward import add_shared_prefix_forward
from hidden_rule.core.tables import HISTORY, write_table
from hidden_rule.training.time_limit import limit_time


def labelled_tokens(start: training.Start) -> Dataset:
    """`input_ids` and `labels` of each training row: prompt and reply, the prompt's labels -100."""
    replies = {label: encode_reply(start.tokenizer, label) for label in start.ruleset.labels}
    pairs = [(prompt, replies[label]) for prompt, label in zip(start.train.prompts, start.train.labels, strict=True)]
    return Dataset.from_dict(
        {
            "input_ids": [prompt + reply for prompt, reply in pairs],
            "labels": [[-100] * len(prompt) + reply for prompt, reply in pairs],
        }
    )


def train_sft(
    *,
    manifest,
    ruleset,
    train,
    validation,
    start_from,
    model_config,
    lora,
    settings,
    condition,
    seed,
    adapter,
    history,
    cost,
    checkpoints=None,
    tracking=(),
):
    """Train and write the adapter's folder, the training's history and its cost; returns the trained model.

    `checkpoints` says where and how often the training saves itself, None that it does not. `start_from` is the folder
    of the adapter to start from, or None for a new one.
    """
    began = time.perf_counter()
    start = training.load_start(
        manifest=manifest,
        ruleset=ruleset,
        train=train,
        validation=validation,
        model_config=model_config,
        lora=lora,
        start_from=start_from,
        seed=seed,
    )
    watcher = training.Watcher(start, settings["micro_batch_size"])
    set_seed(seed)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = checkpoints or Checkpoints(scratch, "none", steps=0, minutes=0)
        arguments = SFTConfig(
            **training.common_arguments(settings, seed, checkpoints.folder, start.device, tracking),
            per_device_train_batch_size=training.micro_batch_size(settings),
            max_length=None,
        )
        trainer = SFTTrainer(
            model=start.model,
            args=arguments,
            train_dataset=labelled_tokens(start),
            processing_class=start.tokenizer,
            callbacks=[watcher],
        )
        add_shared_prefix_forward(trainer.model.get_base_model())
        trainer.remove_callback(PrinterCallback)
        limit_time(trainer, settings["max_minutes"], watcher)
        checkpoints.train(trainer, {"watcher": watcher, "trainer": Counters(trainer, "_total_train_tokens")})
    state = training.gathered_weights(trainer)
    if processes.rank() == 0:
        models.save_adapter(trainer.model, adapter, training.model_id(manifest), state)
        write_table(watcher.history(), history, HISTORY)
        training.write_cost(
            cost,
            condition=condition,
            seed=seed,
            stage="train",
            began=began - watcher.wall_s,
            n_tokens_trained=watcher.n_tokens,
            n_tokens_generated=0,
            device=start.device,
        )
        checkpoints.clear()
    return trainer.model


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        torch.set_num_threads(max(1, snakemake.threads // processes.n_processes()))
        training.halving(
            train_sft,
            manifest=snakemake.input.model,
            ruleset=snakemake.input.ruleset,
            train=snakemake.input.train,
            validation=snakemake.input.validation,
            start_from=snakemake.params.start_from,
            model_config=snakemake.params.model,
            lora=snakemake.params.lora,
            settings=snakemake.params.settings,
            condition=snakemake.wildcards.condition,
            seed=int(snakemake.wildcards.seed),
            adapter=snakemake.params.adapter,
            history=snakemake.output.history,
            cost=snakemake.output.cost,
            checkpoints=for_rule(snakemake),
            tracking=training.trackers(snakemake),
        )
