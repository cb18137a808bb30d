"""Reinforcement learning with GRPO: one LoRA adapter from rewards for sampled replies.

Where it departs from TRL's `GRPOTrainer`:
- A micro-batch holds whole groups (`steps_per_generation=1`), and every sample is drawn from the current policy.
- The order of rows depends on the seed and the epoch alone, or on a curriculum (`epoch_order.py`, `curriculum.py`).
- The forward pass shares prefixes (`kernels/shared_prefix.py`).
- LoRA's products run in the base model's type (`kernels/lora.py`).
- Structured decoding: see the top of `structured_grpo.py`; its exact gradient (`estimator: exact`): that of
  `expected_reward.py`; free decoding: that of `free_grpo.py`, or, with vLLM or weights that processes share, TRL's.
- With vLLM each completion is drawn from a seed of its own (`compat_vllm.py`).
"""

import tempfile
import time
from itertools import repeat
from pathlib import Path

from datasets import Dataset
from transformers import PrinterCallback, set_seed
from trl import GRPOConfig

from hidden_rule.core import processes
from hidden_rule.models.finite import naming_run
from hidden_rule.models.free_replies import Sampling
from hidden_rule.models.generation import make_neutral
from hidden_rule.models.tokens import cut_reply, stop_tokens
from hidden_rule.task.dataset import read_split
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.reward_file import TOTAL, added, cases_of, load_reward
from hidden_rule.task.reward_trial import chosen_cases, try_reward
from hidden_rule.task.rewards import OwnRewards, TableRewards
from hidden_rule.training import launch
from hidden_rule.training.arguments import common_arguments, micro_batch_size
from hidden_rule.training.checkpoints import Checkpoints, Counters
from hidden_rule.training.compat_trl import TOKEN_COUNTER
from hidden_rule.training.compat_vllm import seed_rollouts
from hidden_rule.training.curriculum import row_orders
from hidden_rule.training.epoch_order import EpochOrderedGRPOTrainer
from hidden_rule.training.expected_reward import ExpectedRewardTrainer
from hidden_rule.training.free_grpo import FreeGRPOTrainer
from hidden_rule.training.job import CheckpointPlan, TrainingJob
from hidden_rule.training.output import write_training
from hidden_rule.training.shared_forward import add_shared_prefix_forward, keep_known_rows
from hidden_rule.training.start import Start, load_start
from hidden_rule.training.structured_grpo import StructuredGRPOTrainer, row_names
from hidden_rule.training.time_limit import limit_time
from hidden_rule.training.watcher import PART_PREFIX, SHARE_PREFIX, Watcher

TRIED = 32  # training rows of each label that a reward of the user's own is tried on


class WatchedReward:
    """The reward function, which also counts predicted labels and generated tokens, and logs the reward's parts.

    `read` makes a text of a completion's token ids, as evaluation does.
    """

    __name__ = "decision_reward"

    def __init__(self, labels, rewards: TableRewards | OwnRewards, read):
        self.labels, self.rewards, self.read = labels, rewards, read
        self.n_tokens_generated = 0

    def __call__(self, completions, label, completion_ids, log_metric, row=None, **kwargs) -> list[float]:
        replies = [tuple(map(int, ids)) for ids in completion_ids]
        text_of = {reply: self.read(reply) for reply in dict.fromkeys(replies)}
        texts = [text_of[reply] for reply in replies]
        decision = {text: parse_reply(text, self.labels) for text in set(texts)}
        predicted = [decision[text] for text in texts]
        for name in self.labels:
            log_metric(SHARE_PREFIX + name, predicted.count(name) / len(predicted))
        log_metric("invalid_share", predicted.count(None) / len(predicted))
        self.n_tokens_generated += int(processes.reduced([sum(map(len, completion_ids))])[0])
        parts = self.rewards.earned(texts, label, row)
        for name, points in parts.items():
            if name != TOTAL:
                log_metric(PART_PREFIX + name, sum(points) / len(texts))
        return added(parts)


def rewards_of(job: TrainingJob, start: Start) -> TableRewards | OwnRewards:
    """What the replies to the training rows earn; a reward of the user's own is tried on some of them first."""
    labels, reward = start.ruleset.labels, job.settings["reward"]
    if "file" not in reward:
        return TableRewards(labels, reward)
    own, rows = load_reward(reward["file"], reward["function"]), read_split(job.data.train, start.ruleset)
    try_reward(own, labels, chosen_cases(rows, start.ruleset, TRIED))
    return OwnRewards(own, labels, cases_of(rows, start.ruleset))


def prompts_with_labels(start: Start, decoding: str, *, numbered: bool = False, named: bool | None = None) -> Dataset:
    """`prompt` and `label` of each training row, and, numbered, `row`, its place.

    A prompt is a conversation, or, named, the row's name; by default named if structured.
    """
    named = decoding == "structured" if named is None else named
    prompts = row_names(start.train.prompts) if named else start.train.conversations
    numbers = {"row": list(range(len(prompts)))} if numbered else {}
    return Dataset.from_dict({"prompt": prompts, "label": start.train.labels, **numbers})


def grpo_arguments(job: TrainingJob, folder, device, stops: list[int]) -> GRPOConfig:
    """TRL's arguments of a job; `folder` is where its checkpoints go, `stops` are the tokens that end a completion."""
    settings = job.settings
    return GRPOConfig(
        **common_arguments(job, folder, device),
        per_device_train_batch_size=micro_batch_size(settings) * settings["group_size"],
        shuffle_dataset=False,  # `EpochOrderedGRPOTrainer` does
        steps_per_generation=1,
        num_generations=settings["group_size"],
        temperature=settings["temperature"],
        max_completion_length=settings["max_new_tokens"],
        chat_template_kwargs=job.base.chat_template_kwargs,
        beta=settings["beta"],
        loss_type=settings["loss_type"],
        scale_rewards=settings["scale_rewards"],
        entropy_coef=settings["entropy_coef"],
        use_vllm=settings["use_vllm"],
        generation_kwargs={"stop_token_ids": stops} if settings["use_vllm"] else None,  # vLLM's name
    )


def trainer_class(
    job: TrainingJob, start: Start, rewards: TableRewards | OwnRewards
) -> tuple[type[EpochOrderedGRPOTrainer], dict]:
    """The trainer for a job's decoding and estimator, and its additional arguments."""
    if job.decoding == "free" and (job.settings["use_vllm"] or processes.share_weights()):
        return EpochOrderedGRPOTrainer, {}
    if job.decoding == "free":
        sampling = Sampling.of(start.tokenizer, start.model.get_base_model(), job.settings)
        return FreeGRPOTrainer, {"rows": start.train.prompts, "sampling": sampling}
    policy = {"trie": start.trie, "rows": start.train.prompts}
    if job.settings["estimator"] != "exact":
        return StructuredGRPOTrainer, policy
    return ExpectedRewardTrainer, {**policy, "labels": start.ruleset.labels, "rewards": rewards}


def make_trainer(job: TrainingJob, start: Start, watcher: Watcher, folder) -> EpochOrderedGRPOTrainer:
    """The trainer of a job; `folder` is where its checkpoints go."""
    settings = job.settings
    network = start.model.get_base_model()
    make_neutral(network)  # TRL takes what it does not set itself from there, and generates and masks by its eos
    stops = stop_tokens(start.tokenizer, network)
    network.generation_config.eos_token_id = stops
    arguments = grpo_arguments(job, folder, start.device, stops)
    rewards = rewards_of(job, start)
    kind, extra = trainer_class(job, start, rewards)
    trainer = kind(
        model=start.model,
        reward_funcs=WatchedReward(
            start.ruleset.labels, rewards, lambda ids: cut_reply(start.tokenizer, ids, stops)[0]
        ),
        args=arguments,
        train_dataset=prompts_with_labels(
            start, job.decoding, numbered=isinstance(rewards, OwnRewards), named="rows" in extra
        ),
        processing_class=start.tokenizer,
        callbacks=[watcher],
        orders=row_orders(start, settings, job.seed),
        **extra,
    )
    if job.decoding == "free":
        with_gradient = settings["entropy_coef"] != 0
        add_shared_prefix_forward(network, temperature=trainer.temperature, entropy_gradient=with_gradient)
    if settings["use_vllm"]:
        seed_rollouts(trainer, job.seed, processes.rank())
    if job.decoding == "structured":
        keep_known_rows(start, repeat(start.trie.paths, len(start.train.prompts)))
    trainer.remove_callback(PrinterCallback)
    limit_time(trainer, settings["max_minutes"], watcher)
    return trainer


@naming_run
def train_grpo(job: TrainingJob, start: Start | None = None, make_watcher=Watcher):
    """Train, and write the adapter's folder, the training's history and its cost; returns the trained model.

    `start`: one that is loaded already; `make_watcher`: what is called for the watcher. Both are for benchmarks.
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
    launch.run_rank(train_grpo)
