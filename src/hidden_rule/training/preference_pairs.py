"""Preference pairs of training rows: the right reply over wrong ones, of all labels or of the start's errors."""

from dataclasses import dataclass

import numpy as np

from hidden_rule.training.job import TrainingJob
from hidden_rule.training.sampling import Sampling, sample_replies
from hidden_rule.training.start import Start

STREAM = 30  # of random numbers for a seed, apart from those of data


@dataclass(frozen=True)
class Pairs:
    """The pairs of one training row: one reply is preferred to each of the others; token ids with the turn's end."""

    chosen: tuple[int, ...]
    rejected: tuple[tuple[int, ...], ...]


def preference_pairs(job: TrainingJob, start: Start) -> tuple[dict[int, Pairs], int]:
    """The pairs of each training row that has any, by the row's number, and how many tokens were sampled for them.

    `pairs: labels`: the right reply over every wrong one; `errors`: over each different wrong reply among
    `samples` that the start gives to the row. `rejected: one` keeps one of a row's, drawn with the job's seed.
    """
    labels, n_tokens = start.ruleset.labels, 0
    reply_of = dict(zip(labels, map(tuple, start.trie.replies), strict=True))
    if job.settings["pairs"] == "labels":
        wrong = [[reply for label, reply in reply_of.items() if label != right] for right in start.train.labels]
    else:
        sampled, n_tokens = sample_replies(start, Sampling.of(job))
        wrong = [
            list(dict.fromkeys(reply.tokens for reply in of_row if reply.label != right))
            for of_row, right in zip(sampled, start.train.labels, strict=True)
        ]
    if job.settings["rejected"] == "one":
        drawn = np.random.default_rng([job.seed, STREAM]).random(len(wrong))
        wrong = [[of[int(u * len(of))]] if of else [] for of, u in zip(wrong, drawn, strict=True)]
    return {
        row: Pairs(reply_of[right], tuple(of_row))
        for row, (right, of_row) in enumerate(zip(start.train.labels, wrong, strict=True))
        if of_row
    }, n_tokens
