"""Decisions on cases and what the stated rules say about them: the input of a search for rules.

A rule that decides `label` with priority over the stated ones changes decisions only where they say something else. So
it is looked for among those cases alone, and its cases are the right ones where decisions depart to that label.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from hidden_rule.statistics.rule_columns import Column, Target
from hidden_rule.statistics.rule_learner import Found, RuleLearner
from hidden_rule.statistics.selectors import Selector

MAX_DEPTH = 2  # of searching on within and beside cases among which a label is frequent and not the rule


@dataclass(frozen=True)
class Decisions:
    """N cases: columns of features, (N,) the label of each, and (N,) what the stated rules say."""

    columns: list[Column]
    label: np.ndarray
    stated: np.ndarray

    @classmethod
    def of(cls, columns: list[Column], label: pl.Series, stated: pl.Series) -> "Decisions":
        """stated: null where no rule says anything; there it is taken to be the most frequent label of such cases."""
        unstated = label.filter(stated.is_null())
        usual = unstated.mode().sort()[0] if len(unstated) else ""
        return cls(columns, label.to_numpy().astype(str), stated.fill_null(usual).to_numpy().astype(str))

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def departs(self) -> np.ndarray:
        """(N,) where the label is not the stated one."""
        return self.label != self.stated

    def take(self, rows: np.ndarray) -> "Decisions":
        """Some of the cases; rows: (N,) booleans."""
        return Decisions([column.take(rows) for column in self.columns], self.label[rows], self.stated[rows])

    def shuffled(self, rng: np.random.Generator) -> "Decisions":
        """The labels in random order among the cases about which the stated rules say the same.

        As many decisions depart, to the same labels; no feature says where, beyond what the stated rules say.
        """
        label = self.label.copy()
        for said in np.unique(self.stated):
            rows = np.flatnonzero(self.stated == said)
            label[rows] = self.label[rng.permutation(rows)]
        return replace(self, label=label)

    def cover(self, selectors) -> np.ndarray:
        """(N,) where all selectors hold."""
        columns = {column.name: column for column in self.columns}
        mask = np.ones(len(self), dtype=bool)
        for selector in selectors:
            mask &= columns[selector.feature].mask(selector)
        return mask

    def corrects(self, label: str, covered: np.ndarray) -> bool:
        """Whether most of the decisions that a rule for `label` changes among the covered cases become right."""
        changed = covered & (self.stated != label)
        return bool(2 * (self.label[changed] == label).sum() > changed.sum())

    def labels(self) -> list[str]:
        """The labels that decisions depart to."""
        return sorted(set(self.label[self.departs].tolist()))


@dataclass(frozen=True)
class Candidate:
    """A rule that was found: its selectors, the label, its score (nats), and how many predicates were tried."""

    selectors: tuple[Selector, ...]
    label: str
    score: float
    n_tried: int


def best_for(decisions: Decisions, label: str, depth: int = 0) -> Found | None:
    """The best rule for one label, of those that make most of the decisions right that they change.

    Where the best one only finds where the label is frequent, the search goes on among its cases, and among the others.
    """
    changed = decisions.stated != label
    if (decisions.label[changed] == label).sum() == 0:
        return None
    of = decisions.take(changed)
    learner = RuleLearner(of.columns, Target(of.label == label))
    found = learner.best()
    if found is None or decisions.corrects(label, decisions.cover(found.selectors)):
        return found
    if depth == MAX_DEPTH:
        return None
    covered = decisions.cover(found.selectors)
    within, beside = (best_for(decisions.take(rows), label, depth + 1) for rows in (covered, ~covered))
    rules = [(*found.selectors, *within.selectors)] if within else []
    rules += [beside.selectors] if beside else []
    n_tried = found.n_tried + sum(of.n_tried for of in (within, beside) if of)
    scored = [Found(rule, learner.score(rule), n_tried) for rule in rules]
    right = [of for of in scored if of.score > 0 and decisions.corrects(label, decisions.cover(of.selectors))]
    return max(right, key=lambda of: of.score, default=None)


def best_rule(decisions: Decisions, labels) -> Candidate | None:
    """The rule with the highest score among those for each of `labels`; of equal ones that for the first label."""
    best: Candidate | None = None
    n_tried = 0
    for label in labels:
        if found := best_for(decisions, label):
            n_tried += found.n_tried
            if best is None or found.score > best.score + 1e-9:
                best = Candidate(found.selectors, label, found.score, 0)
    return replace(best, n_tried=n_tried) if best else None


def rules_in_turn(decisions: Decisions, labels, most: int) -> Iterator[Candidate]:
    """Rules one after the other, each found among the cases that those before it leave."""
    left = decisions
    for _ in range(most):
        found = best_rule(left, labels)
        if found is None:
            return
        yield found
        left = left.take(~left.cover(found.selectors))
