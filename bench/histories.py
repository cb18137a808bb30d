"""Made-up histories of trainings by reward of which it is known what happened, to measure the verdict on collapse with.

A policy has a distribution over decisions for each prompt, drawn from a Dirichlet distribution whose mean is planted;
the smaller its concentration, the surer is the policy of each prompt and the more alike are the answers of a group.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.core.tables import HISTORY
from hidden_rule.statistics.collapse import judge

LABELS = ("A", "B", "C", "D")
EVEN = (0.25, 0.25, 0.25, 0.25)
UNEVEN = (0.55, 0.30, 0.10, 0.05)


@dataclass(frozen=True)
class Plan:
    """What is planted: the mean policy at given shares of the training, linear in between, and how sure it is."""

    at: tuple[float, ...]  # of the training, 0 to 1
    policy: tuple[tuple[float, ...], ...]  # share of each label, at each of `at`
    concentration: tuple[float, ...]  # of the Dirichlet distribution, at each of `at`
    accuracy: float = 0.9  # chance that a prompt's right label is the one its policy likes best
    invalid: tuple[float, ...] | None = None  # share of replies, at each of `at`


def plan(*points, **facts) -> Plan:
    """A plan from points (share of the training, policy, concentration)."""
    at, policy, concentration = zip(*points, strict=True)
    return Plan(at, policy, concentration, **facts)


def draw_history(of: Plan, n_steps: int, prompts: int, group: int, generator) -> pl.DataFrame:
    """A table HISTORY with shares, entropy, groups without signal and invalid replies of each step."""
    rows = []
    times = np.linspace(0, 1, n_steps)
    means = np.stack([np.interp(times, of.at, column) for column in zip(*of.policy, strict=True)], axis=1)
    sure = np.exp(np.interp(times, of.at, np.log(of.concentration)))
    invalid = np.interp(times, of.at, of.invalid) if of.invalid else np.zeros(n_steps)
    for step, (mean, concentration, lost) in enumerate(zip(means, sure, invalid, strict=True), 1):
        alive = np.flatnonzero(mean > 1e-12)
        policies = np.zeros((prompts, len(mean)))
        policies[:, alive] = generator.dirichlet(mean[alive] * concentration + 1e-9, prompts) if len(alive) > 1 else 1.0
        answers = np.stack([generator.multinomial(group, p) for p in policies])  # (prompts, labels)
        answers = generator.binomial(answers, 1 - lost)
        likes = policies.argmax(1)
        other = generator.integers(len(mean), size=prompts)
        right = np.where(generator.random(prompts) < of.accuracy, likes, other)
        n_right = answers[np.arange(prompts), right]
        n_valid = answers.sum(1)
        silent = (n_right == group) | ((n_right == 0) & ((n_valid == group) | (n_valid == 0)))
        entropy = -(policies * np.log(np.maximum(policies, 1e-300))).sum(1).mean()
        rows += [
            (step, "predicted_share", name, n / (prompts * group))
            for name, n in zip(LABELS, answers.sum(0), strict=True)
        ]
        values = {"entropy": entropy, "zero_signal_share": silent.mean(), "invalid_share": 1 - n_valid.mean() / group}
        rows += [(step, metric, None, value) for metric, value in values.items()]
    table = [(step, float(step), step * 1000, metric, label, float(value)) for step, metric, label, value in rows]
    return pl.DataFrame(table, schema=HISTORY, orient="row")


def learnt(truth) -> Plan:
    """A policy that is right in the end, and sure of it."""
    return plan((0, EVEN, 4.0), (0.5, truth, 1.0), (1, truth, 0.02), accuracy=0.97)


NULLS = {  # (plan, true shares): nothing was given up
    "right in the end, sure of itself": (learnt(EVEN), EVEN),
    "right, decisions unevenly often right": (learnt(UNEVEN), UNEVEN),
    "right from the start": (plan((0, EVEN, 0.05), (1, EVEN, 0.01), accuracy=0.97), EVEN),
    "unchanged, unsure": (plan((0, EVEN, 20.0), (1, EVEN, 20.0), accuracy=0.3), EVEN),
    "favours one, others at a third of their share": (
        plan((0, EVEN, 4.0), (0.5, (0.75, 0.083, 0.083, 0.084), 0.5), (1, (0.75, 0.083, 0.083, 0.084), 0.5)),
        EVEN,
    ),
    "two decisions just above the limit": (
        plan((0, EVEN, 4.0), (0.5, (0.472, 0.472, 0.028, 0.028), 0.1), (1, (0.472, 0.472, 0.028, 0.028), 0.1)),
        EVEN,
    ),
    "a dip to one decision that recovers": (
        plan((0, EVEN, 4.0), (0.3, EVEN, 2.0), (0.35, (1, 0, 0, 0), 0.5), (0.55, (1, 0, 0, 0), 0.5), (0.6, EVEN, 2.0),
             (1, EVEN, 1.0)),
        EVEN,
    ),
    "nine replies in ten invalid": (
        plan((0, EVEN, 4.0), (1, EVEN, 1.0), invalid=(0.9, 0.9)),
        EVEN,
    ),
}  # fmt: skip
ONE, TWO, ALL_BUT_ONE = (1.0, 0.0, 0.0, 0.0), (0.6, 0.4, 0.0, 0.0), (0.4, 0.3, 0.3, 0.0)
PLANTED = {  # (plan, true shares, labels that are left, share of the training from which on)
    "to one decision, suddenly": (
        plan((0, EVEN, 4.0), (0.5, EVEN, 2.0), (0.51, ONE, 1.0), (1, ONE, 1.0)), EVEN, "A", 0.5,
    ),
    "to one decision, slowly": (plan((0, EVEN, 4.0), (0.7, ONE, 1.0), (1, ONE, 1.0)), EVEN, "A", 0.7),
    "to two decisions, still unsure": (
        plan((0, EVEN, 4.0), (0.5, TWO, 10.0), (1, TWO, 10.0), accuracy=0.5), EVEN, "AB", 0.5,
    ),
    "to two decisions, sure of itself": (
        plan((0, EVEN, 4.0), (0.5, TWO, 0.5), (1, TWO, 0.01), accuracy=0.4), EVEN, "AB", 0.5,
    ),
    "one decision of four lost": (
        plan((0, EVEN, 4.0), (0.6, ALL_BUT_ONE, 1.0), (1, ALL_BUT_ONE, 0.5)), EVEN, "ABC", 0.6,
    ),
    "a rare decision lost, others unevenly often right": (
        plan((0, EVEN, 4.0), (0.3, UNEVEN, 1.0), (0.4, (0.6, 0.4, 0, 0), 1.0), (1, (0.6, 0.4, 0, 0), 0.5)),
        UNEVEN, "AB", 0.4,
    ),
}  # fmt: skip
DESIGNS = [  # recorded steps, prompts a step, answers a prompt
    (120, 16, 8),
    (120, 16, 64),
    (60, 16, 8),
    (400, 4, 8),
]


def verdicts(name: str, n_steps: int, prompts: int, group: int, n_worlds: int) -> list[dict]:
    """The verdict on each of `n_worlds` histories of one world; always the same ones."""
    of, truth = (NULLS | PLANTED)[name][:2]
    number = list(NULLS | PLANTED).index(name)
    generator = np.random.default_rng([number, n_steps, prompts, group])
    shares = dict(zip(LABELS, truth, strict=True))
    return [judge(draw_history(of, n_steps, prompts, group, generator), shares, prompts) for _ in range(n_worlds)]


def rates(name: str, n_steps: int, prompts: int, group: int, n_worlds: int) -> dict[str, float]:
    """Share of worlds judged `pass`, `warn` and `collapsed`; of planted ones also `named`: into the right decisions."""
    found = verdicts(name, n_steps, prompts, group, n_worlds)
    shares = {word: float(np.mean([one["verdict"] == word for one in found])) for word in ("pass", "warn", "collapsed")}
    if name in PLANTED:
        kept = [{row["label"] for row in one["labels"] if row["fate"] not in ("lost", "absent")} for one in found]
        shares["named"] = float(np.mean([labels == set(PLANTED[name][2]) for labels in kept]))
    return shares
