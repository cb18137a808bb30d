"""A curriculum changes when a row is met and nothing else."""

import numpy as np
import pytest
import torch

from hidden_rule.models.decoding import label_log_probs
from hidden_rule.task.dataset import read_split
from hidden_rule.training import structured_grpo
from hidden_rule.training.curriculum import easy_rows, epoch_orders, most_probable
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.start import load_start

EASY = np.array([True, False, True, True, False, True, True, False])


@pytest.mark.parametrize(
    ("easy", "epochs", "first", "expected"),
    [
        (EASY, 4, 1, 8),
        (EASY, 4, 2, 16),
        (EASY, 3, 2, 15),  # five easy rows, three times each, are fewer than two epochs of eight
        (~EASY, 2, 1, 6),
        (np.ones(8, bool), 3, 1, 24),  # all easy: each epoch goes through the rows
        (np.zeros(8, bool), 3, 1, 0),
    ],
)
def test_easy_rows_come_first_and_every_row_as_often(easy, epochs, first, expected):
    orders = epoch_orders(easy, epochs, first, seed=0)
    assert orders.shape == (epochs, 8)
    assert np.bincount(orders.ravel()).tolist() == [epochs] * 8
    leading = easy[orders.ravel()]
    assert (leading.argmin() if not leading.all() else leading.size) >= expected
    assert np.array_equal(orders, epoch_orders(easy, epochs, first, seed=0))
    assert not np.array_equal(orders, epoch_orders(easy, epochs, first, seed=1))


def test_the_first_epochs_are_passes_and_the_rest_is_even():
    rng = np.random.default_rng(0)
    easy = rng.random(640) < 0.75
    orders = epoch_orders(easy, 4, 1, seed=0)
    passes = orders[0][: easy.sum()]
    assert sorted(passes) == np.flatnonzero(easy).tolist()
    hard = [(~easy[order]).sum() for order in orders]
    share = 4 * (~easy).sum() / 3  # the hard rows' times over the three epochs that are left
    assert hard[0] == 0 and max(abs(n - share) for n in hard[1:]) < 0.1 * share
    twice = [len(batch) - len({*batch}) for batch in orders.reshape(-1, 16)]
    assert max(twice) <= 1  # a row's times are spread, not side by side


def test_the_most_probable_of_each_label():
    log_probs = np.log([0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.5])
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    assert most_probable(log_probs, labels, 0.5).tolist() == [True, True, False, False, True, True, True]
    assert most_probable(log_probs, labels, 0.01).tolist() == [True, False, False, False, False, True, True]
    assert most_probable(log_probs, labels, 1.0).all()


def test_what_is_easy(tiny_jobs):
    job = tiny_jobs.make("easy", {})
    start = load_start(job)
    frame = read_split(job.data.train, start.ruleset)
    hidden = easy_rows(start, {"by": "hidden_rule"}, 4)
    assert hidden.tolist() == (frame["fired_rule"] != "vip_override").to_list() and 0 < hidden.sum() < 16
    easy = easy_rows(start, {"by": "probability", "share": 0.5}, 4)
    chances = label_log_probs(start.model.get_base_model(), start.trie, start.train.prompts, 16)
    for i, label in enumerate(start.ruleset.labels):
        rows = np.flatnonzero(frame["label"] == label)
        best = sorted(rows, key=lambda row: -float(chances[row, i]))[: len(rows) // 2]
        assert sorted(np.flatnonzero(easy & (frame["label"] == label).to_numpy())) == sorted(best)


@pytest.mark.parametrize("estimator", ["sampled", "exact"])
def test_a_training_follows_it(tiny_jobs, monkeypatch, estimator):
    seen, plain = [], structured_grpo.StructuredGRPOTrainer.policy

    def watched(self, model, prompts):
        if torch.is_grad_enabled():
            seen.append(list(dict.fromkeys(prompts)))
        return plain(self, model, prompts)

    monkeypatch.setattr(structured_grpo.StructuredGRPOTrainer, "policy", watched)
    monkeypatch.setattr(structured_grpo, "SIGNAL_SHARE", 0.0)  # one forward pass a step
    settings = {**tiny_jobs.config["grpo"], "epochs": 3, "batch_size": 4, "micro_batch_size": 4, "estimator": estimator}
    settings["curriculum"] = {"by": "hidden_rule", "epochs": 1, "share": 0.5}
    job = tiny_jobs.make("curriculum", settings)
    start = load_start(job)
    train_grpo(job)
    orders = epoch_orders(easy_rows(start, settings["curriculum"], 4), 3, 1, job.seed)
    rows = {tuple(prompt): i for i, prompt in enumerate(start.train.prompts)}
    expected = [list(dict.fromkeys(batch)) for batch in orders.reshape(-1, 4).tolist()]
    assert [[rows[prompt] for prompt in batch] for batch in seen] == expected
