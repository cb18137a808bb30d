"""Direct preference optimization (Rafailov et al. 2023): the right reply is made likelier than wrong ones.

The losses are TRL's (`preference_loss.py`). Where it departs from TRL's `DPOTrainer`:
- Pairs are made here (`preference_pairs.py`), tokenized as every other step does.
- The reference is the policy that training starts from; its log-probabilities are computed once, before the first step.
- A row with several pairs counts as much as one with a single pair: the loss is the mean over rows of the mean over a
  row's pairs. The chosen reply, and what all replies share, is computed once (`kernels/shared_prefix.py`).
- LoRA's products run in the base model's type (`kernels/lora.py`).
"""

import logging
from itertools import repeat

import torch

from hidden_rule.models.decoding import batches_by
from hidden_rule.models.finite import check_values, dtype_of, naming_run
from hidden_rule.models.generation import make_neutral
from hidden_rule.training import launch
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.preference_loss import Ratios, preference_loss
from hidden_rule.training.preference_pairs import Pairs, preference_pairs
from hidden_rule.training.reply_trainer import ReplyTrainer, reply_log_probs, train_replies
from hidden_rule.training.shared_forward import add_shared_prefix_forward, keep_known_rows
from hidden_rule.training.start import Start
from hidden_rule.training.watcher import Watcher

log = logging.getLogger(__name__)


class PreferenceTrainer(ReplyTrainer):
    """Trains on the rows that have `pairs`; `reference`: of each row, log-probabilities of `replies_of` its pairs."""

    def __init__(self, job, start, watcher, folder, pairs: dict[int, Pairs]):
        super().__init__(job, start, watcher, folder, list(pairs))
        self.pairs = pairs
        self.reference = reference_log_probs(start, pairs, 4 * job.settings["micro_batch_size"])
        self.n_tokens_generated = 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        rows = inputs["row"].tolist()
        log_probs = self.scored(model, [(row, reply) for row in rows for reply in replies_of(self.pairs[row])])
        reference = [value for row in rows for value in self.reference[row]]
        ratios, weights = paired(log_probs - log_probs.new_tensor(reference), [self.pairs[row] for row in rows])
        settings = self.settings
        loss = preference_loss(ratios, settings["loss_type"], settings["beta"], settings["label_smoothing"])
        self.measure("pair_accuracy", (ratios.margin > 0).float())
        self.measure("reward_margin", settings["beta"] * ratios.margin)
        return (loss * weights).sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the share of training rows that have a pair, once."""
        if self.state.global_step == 1 and "loss" in logs:
            logs = {**logs, "kept": len(self.pairs) / len(self.start.train.labels)}
        super().log(logs, start_time)


def replies_of(pairs: Pairs) -> list[tuple[int, ...]]:
    """The replies of a row's pairs, the chosen one first."""
    return [pairs.chosen, *pairs.rejected]


@torch.no_grad()
def reference_log_probs(start: Start, pairs: dict[int, Pairs], batch_size: int) -> dict[int, list[float]]:
    """Of each row, the log-probabilities of `replies_of` its pairs under the model as it is."""
    was_training = start.model.training
    start.model.eval()
    found: dict[int, list[float]] = {}
    rows = list(pairs)
    for batch in batches_by(list, [start.train.prompts[row] for row in rows], batch_size):
        replies = [(rows[i], reply) for i in batch for reply in replies_of(pairs[rows[i]])]
        scored = reply_log_probs(start.model, [(start.train.prompts[r], reply) for r, reply in replies], start.device)
        check_values(scored, "a log-probability of a reply", dtype_of(start.model))
        for (row, _), value in zip(replies, scored.tolist(), strict=True):
            found.setdefault(row, []).append(value)
    start.model.train(was_training)
    return found


def paired(log_ratios: torch.Tensor, rows: list[Pairs]) -> tuple[Ratios, torch.Tensor]:
    """The log-ratios of all pairs of B rows, and each pair's weight, which sum to 1.

    log_ratios: of `replies_of` each of the rows, side by side.
    """
    chosen, rejected, lengths, weights = [], [], [], []
    place = 0
    for pairs in rows:
        for i, reply in enumerate(pairs.rejected, 1):
            chosen.append(place)
            rejected.append(place + i)
            lengths.append((len(pairs.chosen), len(reply)))
            weights.append(1 / (len(pairs.rejected) * len(rows)))
        place += 1 + len(pairs.rejected)
    n_chosen, n_rejected = log_ratios.new_tensor(lengths).unbind(1)
    return Ratios(log_ratios[chosen], log_ratios[rejected], n_chosen, n_rejected), log_ratios.new_tensor(weights)


def make_trainer(job: TrainingJob, start: Start, watcher: Watcher, folder) -> PreferenceTrainer:
    """The trainer of a job; `folder` is where its checkpoints go."""
    network = start.model.get_base_model()
    make_neutral(network)
    add_shared_prefix_forward(network)
    keep_known_rows(start, repeat(start.trie.stems, len(start.train.prompts)))
    pairs, n_tokens = preference_pairs(job, start)
    trainer = PreferenceTrainer(job, start, watcher, folder, pairs)
    trainer.n_tokens_generated = n_tokens
    if not pairs:
        log.warning("nothing to train on: no sampled reply to a training row was wrong")
    return trainer


@naming_run
def train_dpo(job: TrainingJob, start: Start | None = None, make_watcher=Watcher):
    """Train, and write the adapter's folder, the training's history and its cost; returns the trained model.

    `start`: one that is loaded already; `make_watcher`: what is called for the watcher.
    """
    return train_replies(job, start, make_watcher, make_trainer)


if __name__ == "__main__":
    launch.run_rank(train_dpo)
