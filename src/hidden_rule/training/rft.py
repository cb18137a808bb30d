"""Rejection sampling fine-tuning (Yuan et al. 2023): supervised fine-tuning on the policy's own right replies.

Training has rounds. Before each, `samples` replies to every training prompt are sampled from the policy as it is then;
those that decide the right label are kept. A prompt without one contributes nothing in that round.

    keep: all_right   every right sample; the loss is their sum / `samples`
    keep: best        of the right samples the one with the highest reward, the first of equal ones

The loss is that of SFT, the mean negative log-probability of a kept reply's tokens, as a mean over a step's prompts.
Steps, and passes over the prompts, are as many whatever is kept, so that a learning rate's schedule is laid out.
"""

import logging
from itertools import repeat

import torch
from transformers import TrainerCallback

from hidden_rule.models.finite import naming_run
from hidden_rule.models.generation import make_neutral
from hidden_rule.task.reward_file import TOTAL, added
from hidden_rule.task.rewards import OwnRewards, TableRewards
from hidden_rule.training import launch
from hidden_rule.training.grpo import rewards_of
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.reply_trainer import ReplyTrainer, train_replies
from hidden_rule.training.sampling import SampledReply, Sampling, sample_replies
from hidden_rule.training.shared_forward import add_shared_prefix_forward, keep_known_rows
from hidden_rule.training.start import Start
from hidden_rule.training.watcher import PART_PREFIX, SHARE_PREFIX, Watcher

log = logging.getLogger(__name__)


class RejectionTrainer(ReplyTrainer):
    """Trains on what is kept of a round's samples: of each row, replies with their weights."""

    def __init__(self, job, start, watcher, folder, rewards: TableRewards | OwnRewards):
        n_rows = len(start.train.labels)
        super().__init__(job, start, watcher, folder, list(range(n_rows)))
        self.sampling, self.rewards = Sampling.of(job), rewards
        self.round = -1  # the last one that was sampled for
        self.kept: list[list[tuple[list[int], float]]] = [[] for _ in range(n_rows)]
        self.n_tokens_generated = 0
        self.round_logs: dict[str, float] = {}  # of the samples, until they are logged
        self.add_callback(Rounds(self, watcher))

    def sample(self, number: int) -> None:
        """Sample for a round, and keep what is right."""
        replies, n_tokens = sample_replies(self.start, self.sampling, number)
        labels = self.start.train.labels
        parts = self.rewards.earned(
            [reply.text for of_row in replies for reply in of_row],
            [label for label in labels for _ in range(self.sampling.n)],
            [row for row in range(len(labels)) for _ in range(self.sampling.n)],
        )
        points = torch.tensor(added(parts)).view(-1, self.sampling.n).tolist()
        self.kept = [
            kept_replies(of_row, earned, label, self.settings["keep"])
            for of_row, earned, label in zip(replies, points, labels, strict=True)
        ]
        self.round = number
        self.n_tokens_generated += n_tokens
        self.round_logs = self.described([reply for of_row in replies for reply in of_row], parts)

    def described(self, replies: list[SampledReply], parts: dict[str, list[float]]) -> dict[str, float]:
        """What is logged of a round's samples; parts: of what they earned."""
        given = [reply.label for reply in replies]
        return {
            "kept": sum(map(bool, self.kept)) / len(self.kept),
            "reward": sum(added(parts)) / len(given),
            "invalid_share": given.count(None) / len(given),
            **{SHARE_PREFIX + label: given.count(label) / len(given) for label in self.start.ruleset.labels},
            **{PART_PREFIX + name: sum(of) / len(given) for name, of in parts.items() if name != TOTAL},
        }

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        rows = inputs["row"].tolist()
        kept = [(row, tuple(reply), weight) for row in rows for reply, weight in self.kept[row]]
        if not kept:  # a loss without a graph would have no backward pass
            right = self.start.ruleset.labels.index(self.start.train.labels[rows[0]])
            kept = [(rows[0], tuple(self.start.trie.replies[right]), 0.0)]
        log_probs = self.scored(model, [(row, reply) for row, reply, _ in kept])
        lengths = log_probs.new_tensor([len(reply) for _, reply, _ in kept])
        return (log_probs.new_tensor([weight for *_, weight in kept]) * -log_probs / lengths).sum() / len(rows)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With what a round's samples were, once."""
        if "loss" in logs:
            logs, self.round_logs = {**logs, **self.round_logs}, {}
        super().log(logs, start_time)


def kept_replies(
    replies: list[SampledReply], points: list[float], label: str, keep: str
) -> list[tuple[list[int], float]]:
    """Token ids and weights of what is kept of the n samples to one row, whose right label is `label`.

    points: what each earns. Equal right samples are kept once, with their weights added.
    """
    right = [i for i, reply in enumerate(replies) if reply.label == label]
    if keep == "best":
        return [(list(replies[max(right, key=lambda i: points[i])].tokens), 1.0)] if right else []
    counts: dict[tuple[int, ...], int] = {}
    for i in right:
        counts[replies[i].tokens] = counts.get(replies[i].tokens, 0) + 1
    return [(list(tokens), count / len(replies)) for tokens, count in counts.items()]


class Rounds(TrainerCallback):
    """Samples anew where a round begins, and ends a training for which a round keeps nothing."""

    def __init__(self, trainer: RejectionTrainer, watcher: Watcher):
        self.trainer, self.watcher = trainer, watcher

    def on_epoch_begin(self, args, state, control, **kwargs):
        n_epochs = round(args.num_train_epochs)
        epoch = state.global_step // (state.max_steps // n_epochs)
        number = epoch * self.trainer.settings["rounds"] // n_epochs
        if number != self.trainer.round:
            self.watcher.spending.pause()
            self.trainer.sample(number)

    def on_step_end(self, args, state, control, **kwargs):
        if not any(self.trainer.kept) and state.global_step < state.max_steps:
            log.warning("stopped after step %d: no sample of this round was right", state.global_step)
            self.watcher.add(state.global_step, "stopped_without_samples", self.trainer.sampling.n)
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        if not any(self.trainer.kept) and not self.watcher.is_validated(state.global_step):
            self.watcher.validate(state.global_step)


def make_trainer(job: TrainingJob, start: Start, watcher: Watcher, folder) -> RejectionTrainer:
    """The trainer of a job; `folder` is where its checkpoints go."""
    network = start.model.get_base_model()
    make_neutral(network)
    add_shared_prefix_forward(network)
    keep_known_rows(start, repeat(start.trie.stems, len(start.train.prompts)))
    return RejectionTrainer(job, start, watcher, folder, rewards_of(job, start))


@naming_run
def train_rft(job: TrainingJob, start: Start | None = None, make_watcher=Watcher):
    """Train, and write the adapter's folder, the training's history and its cost; returns the trained model.

    `start`: one that is loaded already; `make_watcher`: what is called for the watcher.
    """
    return train_replies(job, start, make_watcher, make_trainer, "round", "kept")


if __name__ == "__main__":
    launch.run_rank(train_rft)
