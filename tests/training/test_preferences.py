"""Pairs and losses of direct preference optimization, worked out by hand."""

from math import exp, log
from types import SimpleNamespace

import pytest
import torch

from hidden_rule.models.trie import LabelTrie
from hidden_rule.training import preference_pairs as pairs_of
from hidden_rule.training.dpo import paired
from hidden_rule.training.preference_loss import Ratios, preference_loss
from hidden_rule.training.preference_pairs import Pairs, preference_pairs
from hidden_rule.training.rft import kept_replies
from hidden_rule.training.sampling import SampledReply
from hidden_rule.training.start import Split
from hidden_rule.training.structured_rloo import leave_one_out, less_mean_of_others

A, B, C = (3, 10, 2), (3, 11, 2), (3, 12, 13, 2)
REPLIES = [SampledReply(*of) for of in [("a", A, "A"), ("b", B, "B"), ("c", C, "C"), ("?", (9, 2), None)]]


def minus_log_sigmoid(x):
    return log(1 + exp(-x))


@pytest.mark.parametrize(
    ("loss_type", "smoothing", "expected"),
    [  # of log-ratios 2 and −1, in replies of 4 and 2 tokens, at a beta of 0.5
        ("sigmoid", 0.0, minus_log_sigmoid(1.5)),
        ("ipo", 0.0, (2 / 4 + 1 / 2 - 1) ** 2),
        ("robust", 0.0, minus_log_sigmoid(1.5)),
        ("robust", 0.1, (0.9 * minus_log_sigmoid(1.5) - 0.1 * minus_log_sigmoid(-1.5)) / 0.8),
    ],
)
def test_losses_by_hand(loss_type, smoothing, expected):
    ratios = Ratios(*(torch.tensor([value]) for value in (2.0, -1.0, 4.0, 2.0)))
    assert preference_loss(ratios, loss_type, 0.5, smoothing).tolist() == pytest.approx([expected], rel=1e-6)


def test_a_row_counts_as_much_however_many_pairs_it_has():
    """Log-ratios of a row's chosen reply and two rejected ones, and of a row with one pair."""
    rows = [Pairs(A, (B, C)), Pairs(C, (A,))]
    ratios, weights = paired(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), rows)
    assert ratios.chosen.tolist() == [1, 1, 4]
    assert ratios.rejected.tolist() == [2, 3, 5]
    assert ratios.n_chosen.tolist() == [3, 3, 4]
    assert ratios.n_rejected.tolist() == [3, 4, 3]
    assert weights.tolist() == [0.25, 0.25, 0.5]


def start_of(labels):
    """A start with as many rows, of the labels A, B and C."""
    trie = LabelTrie([list(A), list(B), list(C)])
    return SimpleNamespace(ruleset=SimpleNamespace(labels=["A", "B", "C"]), trie=trie, train=Split(labels, [], []))


def job_with(**settings):
    settings = {"samples": 3, "temperature": 1.0, "max_new_tokens": 4, "micro_batch_size": 2, **settings}
    return SimpleNamespace(settings=settings, seed=0, decoding="structured")


def test_pairs_of_labels():
    found, n_tokens = preference_pairs(job_with(pairs="labels", rejected="each"), start_of(["B", "A"]))
    assert (found, n_tokens) == ({0: Pairs(B, (A, C)), 1: Pairs(A, (B, C))}, 0)
    found, _ = preference_pairs(job_with(pairs="labels", rejected="one"), start_of(["B"] * 60))
    drawn = [of.rejected for of in found.values()]
    assert set(drawn) == {(A,), (C,)}  # each of the wrong ones, for some row
    again, _ = preference_pairs(job_with(pairs="labels", rejected="one"), start_of(["B"] * 60))
    assert again == found


@pytest.mark.parametrize(("rejected", "n_pairs"), [("each", 2), ("one", 1)])
def test_pairs_of_errors(monkeypatch, rejected, n_pairs):
    """The same mistake made twice is one pair, an invalid reply is a mistake, and a row without mistakes has none."""
    a, b, _, invalid = REPLIES
    sampled = [[a, a, invalid], [b, b, b], [b, invalid, a]]
    monkeypatch.setattr(pairs_of, "sample_replies", lambda start, sampling: (sampled, 25))
    found, n_tokens = preference_pairs(job_with(pairs="errors", rejected=rejected), start_of(["B", "B", "C"]))
    assert list(found) == [0, 2] and n_tokens == 25
    assert {of.chosen for of in found.values()} == {B, C}
    assert [len(of.rejected) for of in found.values()] == [n_pairs, min(n_pairs + (n_pairs > 1), 3)]
    assert set(found[0].rejected) <= {A, (9, 2)}
    assert set(found[2].rejected) <= {A, B, (9, 2)}


@pytest.mark.parametrize(
    ("keep", "right", "points", "kept"),
    [
        ("best", "A", [5.0, 7.0, 7.0, 9.0], [([3, 10, 2], 1.0)]),  # the highest reward is another label's
        ("best", "B", [0.0, 0.0, 0.0, 0.0], []),  # none is right
        ("all_right", "A", [1.0, 1.0, 1.0, 1.0], [([3, 10, 2], 0.5), ([3, 10, 20, 2], 0.25)]),
        ("all_right", "C", [1.0, 1.0, 1.0, 1.0], [([3, 12, 13, 2], 0.25)]),
        ("all_right", "B", [1.0, 1.0, 1.0, 1.0], []),
    ],
)
def test_what_is_kept_of_samples(keep, right, points, kept):
    """A in two spellings, one of them twice, and C."""
    other = SampledReply("a ", (3, 10, 20, 2), "A")
    assert kept_replies([REPLIES[0], REPLIES[0], other, REPLIES[2]], points, right, keep) == kept


def test_the_best_right_reply_is_the_first_of_equal_ones():
    other = SampledReply("a ", (3, 10, 20, 2), "A")
    assert kept_replies([other, REPLIES[0]], [1.0, 1.0], "A", "best") == [([3, 10, 20, 2], 1.0)]
    assert kept_replies([other, REPLIES[0]], [1.0, 2.0], "A", "best") == [([3, 10, 2], 1.0)]


def test_leave_one_out_is_the_plain_formula():
    rewards = torch.tensor([1.0, 2.0, 6.0, -4.0, 0.0, 0.0, 3.0, 3.0])
    groups = rewards.view(2, 4)
    plain = [r - (sum(group) - r) / 3 for group in groups.tolist() for r in group]
    centred = (groups - groups.mean(1, keepdim=True)).flatten()
    assert leave_one_out(centred, 4).tolist() == pytest.approx(plain, abs=1e-6)
    shuffled = [3, 6, 0, 5, 1, 7, 2, 4]
    found = less_mean_of_others(rewards[shuffled], ["ab"[i // 4] for i in shuffled])
    assert found.tolist() == pytest.approx([plain[i] for i in shuffled], abs=1e-6)
