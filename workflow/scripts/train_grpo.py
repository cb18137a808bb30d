"""Reinforcement learning with GRPO: one LoRA adapter from rewards for sampled replies.

Where it departs from TRL's `GRPOTrainer`: rollouts are made for each micro-batch (`steps_per_generation=1`), so that
every sample is drawn from the very policy it trains and a micro-batch holds whole groups; the forward pass shares
prefixes (`kernels/shared_prefix.py`), and LoRA's products run in the base model's type (`kernels/lora.py`).
Structured decoding: see the top of `training/structured_grpo.py`; its exact gradient (`estimator: exact`): that of
`training/expected_reward.py`.
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
from trl import GRPOConfig

from hidden_rule.core import processes
from hidden_rule.models import loading as models
from hidden_rule.training import common as training
from hidden_rule.training.checkpoints import Checkpoints, Counters, for_rule
from hidden_rule.training.curriculum import row_orders
from hidden_rule.training.expected_reward import ExpectedRewardTrainer
from hidden_rule.training.epoch_order import EpochOrderedGRPOTrainer
from hidden_rule.core.logs import logged
from hidden_rule.models.shared_forward import add_shared_prefix_forward
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.rewards import make_reward_function, reply_texts, reward_matrix
from hidden_rule.training.structured_grpo import StructuredGRPOTrainer, row_names
from hidden_rule.core.tables import HISTORY, write_table
from hidden_rule.training.time_limit import limit_time


def prompts_with_labels(start: training.Start, decoding: str) -> Dataset:
    """`prompt` and `label` of each training row; a prompt is a conversation, or names one that is read structured."""
    prompts = row_names(start.train.prompts) if decoding == "structured" else start.train.conversations
    return Dataset.from_dict({"prompt": prompts, "label": start.train.labels})


class WatchedReward:
    """The reward function, which also counts what the rollouts decide and how many tokens they have."""

    __name__ = "decision_reward"

    def __init__(self, labels, scale: dict):
        self.labels, self.score = labels, make_reward_function(labels, scale)
        self.n_tokens_generated = 0

    def __call__(self, completions, label, completion_ids, log_metric, **kwargs) -> list[float]:
        texts = reply_texts(completions)
        decision = {text: parse_reply(text, self.labels) for text in set(texts)}
        predicted = [decision[text] for text in texts]
        for name in self.labels:
            log_metric(training.SHARE_PREFIX + name, predicted.count(name) / len(predicted))
        log_metric("invalid_share", predicted.count(None) / len(predicted))
        self.n_tokens_generated += int(processes.reduced([sum(map(len, completion_ids))])[0])
        return self.score(texts, label)


def train_grpo(
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
    decoding,
    checkpoints=None,
    tracking=(),
):
    """Train and write the adapter's folder, the training's history and its cost; returns the trained model.

    `checkpoints` says where and how often the training saves itself, None that it does not. `start_from` is the folder
    of the adapter to start from, or None for a new one; `decoding` is what the policy explores with: `structured` or
    `free`.
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
    watcher = training.Watcher(start, settings["micro_batch_size"], settings["patience"])
    reward = WatchedReward(start.ruleset.labels, settings["reward"])
    set_seed(seed)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = checkpoints or Checkpoints(scratch, "none", steps=0, minutes=0)
        arguments = GRPOConfig(
            **training.common_arguments(settings, seed, checkpoints.folder, start.device, tracking),
            per_device_train_batch_size=training.micro_batch_size(settings) * settings["group_size"],
            steps_per_generation=1,
            num_generations=settings["group_size"],
            temperature=settings["temperature"],
            max_completion_length=settings["max_new_tokens"],
            chat_template_kwargs=model_config["chat_template_kwargs"],
            beta=settings["beta"],
            loss_type=settings["loss_type"],
            scale_rewards=settings["scale_rewards"],
            entropy_coef=settings["entropy_coef"],
            use_vllm=settings["use_vllm"],
        )
        make_trainer, extra, counted = EpochOrderedGRPOTrainer, {}, ["_total_train_tokens"]
        if decoding == "structured":
            make_trainer, extra = StructuredGRPOTrainer, {"trie": start.trie, "rows": start.train.prompts}
            counted.append("n_tokens_rolled_out")
        if settings["estimator"] == "exact":
            make_trainer = ExpectedRewardTrainer
            extra |= {"labels": reward.labels, "points": reward_matrix(reward.labels, settings["reward"])}
        trainer = make_trainer(
            model=start.model,
            reward_funcs=reward,
            args=arguments,
            train_dataset=prompts_with_labels(start, decoding),
            processing_class=start.tokenizer,
            callbacks=[watcher],
            orders=row_orders(start, settings, seed),
            **extra,
        )
        if decoding == "free":
            add_shared_prefix_forward(
                trainer.model.get_base_model(),
                temperature=trainer.temperature,
                entropy_gradient=settings["entropy_coef"] != 0,
            )
        trainer.remove_callback(PrinterCallback)
        limit_time(trainer, settings["max_minutes"], watcher)
        counters = {"watcher": watcher, "reward": Counters(reward, "n_tokens_generated")}
        counters["trainer"] = Counters(trainer, *counted)
        checkpoints.train(trainer, counters)
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
            n_tokens_generated=reward.n_tokens_generated,
            device=start.device,
        )
        checkpoints.clear()
    return trainer.model


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        torch.set_num_threads(max(1, snakemake.threads // processes.n_processes()))
        training.halving(
            train_grpo,
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
            decoding=snakemake.params.decoding,
            checkpoints=for_rule(snakemake),
            tracking=training.trackers(snakemake),
        )
