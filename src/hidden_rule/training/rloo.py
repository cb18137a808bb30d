"""Reinforcement learning with RLOO, REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024).

Where it departs from TRL's `RLOOTrainer`:
- The order of rows depends on the seed and the epoch alone (`epoch_order.py`).
- The forward pass shares prefixes (`kernels/shared_prefix.py`).
- LoRA's products run in the base model's type (`kernels/lora.py`).
- Structured decoding: see the top of `structured_rloo.py`.
"""

import tempfile
import time
from itertools import repeat
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, set_seed
from trl import GRPOConfig, RLOOConfig

from hidden_rule.models.finite import naming_run
from hidden_rule.models.generation import make_neutral
from hidden_rule.models.tokens import cut_reply, stop_tokens
from hidden_rule.task.rewards import OwnRewards
from hidden_rule.training import launch
from hidden_rule.training.arguments import common_arguments, micro_batch_size
from hidden_rule.training.checkpoints import Checkpoints, Counters
from hidden_rule.training.compat_trl import TOKEN_COUNTER
from hidden_rule.training.epoch_order import EpochOrderedRLOOTrainer
from hidden_rule.training.grpo import WatchedReward, prompts_with_labels, rewards_of
from hidden_rule.training.job import CheckpointPlan, TrainingJob
from hidden_rule.training.output import write_training
from hidden_rule.training.shared_forward import add_shared_prefix_forward, keep_known_rows
from hidden_rule.training.start import Start, load_start
from hidden_rule.training.structured_rloo import StructuredRLOOTrainer
from hidden_rule.training.time_limit import limit_time
from hidden_rule.training.watcher import Watcher


def rloo_arguments(job: TrainingJob, folder, device) -> GRPOConfig | RLOOConfig:
    """TRL's arguments of a job; `folder` is where its checkpoints go."""
    settings = job.settings
    shared = {
        **common_arguments(job, folder, device),
        "per_device_train_batch_size": micro_batch_size(settings) * settings["group_size"],
        "shuffle_dataset": False,  # `EpochOrder` does
        "steps_per_generation": 1,  # every sample is drawn from the current policy
        "num_generations": settings["group_size"],
        "temperature": settings["temperature"],
        "max_completion_length": settings["max_new_tokens"],
        "beta": settings["beta"],
    }
    if job.decoding == "free":
        return RLOOConfig(**shared, chat_template_kwargs=job.base.chat_template_kwargs)
    return GRPOConfig(**shared, scale_rewards="none")


def make_trainer(job: TrainingJob, start: Start, watcher: Watcher, folder):
    """The trainer of a job; `folder` is where its checkpoints go."""
    network = start.model.get_base_model()
    make_neutral(network)  # TRL takes what it does not set itself from there, and generates and masks by its eos
    stops = stop_tokens(start.tokenizer, network)
    network.generation_config.eos_token_id = stops
    rewards = rewards_of(job, start)
    free = job.decoding == "free"
    extra: dict[str, Any] = {} if free else {"trie": start.trie, "rows": start.train.prompts}
    trainer = (EpochOrderedRLOOTrainer if free else StructuredRLOOTrainer)(
        model=start.model,
        reward_funcs=WatchedReward(
            start.ruleset.labels, rewards, lambda ids: cut_reply(start.tokenizer, ids, stops)[0]
        ),
        args=rloo_arguments(job, folder, start.device),
        train_dataset=prompts_with_labels(start, job.decoding, numbered=isinstance(rewards, OwnRewards)),
        processing_class=start.tokenizer,
        callbacks=[watcher],
        **extra,
    )
    if free:
        add_shared_prefix_forward(network, temperature=trainer.temperature)
    if job.decoding == "structured":
        keep_known_rows(start, repeat(start.trie.paths, len(start.train.prompts)))
    trainer.remove_callback(PrinterCallback)
    limit_time(trainer, job.settings["max_minutes"], watcher)
    return trainer


@naming_run
def train_rloo(job: TrainingJob, start: Start | None = None, make_watcher=Watcher):
    """Train, and write the adapter's folder, the training's history and its cost; returns the trained model.

    `start`: one that is loaded already; `make_watcher`: what is called for the watcher.
    """
    began = time.perf_counter()
    start = start or load_start(job)
    watcher = make_watcher(start, job.settings["micro_batch_size"], job.settings["patience"])
    set_seed(job.seed)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(job.checkpoints or CheckpointPlan(Path(scratch), "none"))
        trainer = make_trainer(job, start, watcher, checkpoints.folder)
        (reward,) = trainer.reward_funcs
        counted = [TOKEN_COUNTER] + ["n_tokens_rolled_out"] * (job.decoding == "structured")
        counters = {"reward": Counters(reward, "n_tokens_generated"), "trainer": Counters(trainer, *counted)}
        checkpoints.train(trainer, {"watcher": watcher, **counters})
    write_training(job, trainer, watcher, began, reward.n_tokens_generated)
    checkpoints.clear()
    return trainer.model


if __name__ == "__main__":
    launch.run_rank(train_rloo)
