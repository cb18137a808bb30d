"""The rule learner: which cases are positive, as a conjunction of selectors.

A decision tree (scikit-learn's CART) proposes: each of its nodes is a rule, read from the root. The best of them, and
the empty rule, are improved one selector at a time: one is dropped, replaced by the best of its feature, or added, as
long as the score rises. The score is the log-likelihood gained over a single share for all cases, less the nats that it
takes to write the rule down (minimum description length: Rissanen 1978, Automatica 14:465), so that a rule is no longer
than its cases warrant.
"""

import math
from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from hidden_rule.statistics.rule_columns import (
    MIN_COVERED,
    ChoiceColumn,
    Column,
    NumberColumn,
    Proposal,
    Target,
    TextColumn,
)
from hidden_rule.statistics.selectors import Bound, OneOf, Selector

MAX_SELECTORS = 4  # of a rule
STARTS = 3  # nodes of a tree that are improved
TREE_DEPTH = 4


@dataclass(frozen=True)
class Found:
    """A rule, its score in nats, and how many predicates were tried before it was chosen."""

    selectors: tuple[Selector, ...]
    score: float
    n_tried: int


class RuleLearner:
    """The best rule for one target among the cases of some columns (N cases each)."""

    def __init__(self, columns: list[Column], target: Target):
        self.columns = {column.name: column for column in columns}
        self.target = target
        self.per_selector = math.log(max(len(columns), 2))  # nats to say which feature
        self.n_tried = 0
        self._masks: dict[Selector, np.ndarray] = {}
        self._proposals: dict[tuple[frozenset[Selector], str], Proposal | None] = {}

    def best(self) -> Found | None:
        """The rule with the highest score; None where none has one above 0, or no case or every case is positive."""
        if not self.columns or not MIN_COVERED <= self.target.n_positive < len(self.target.positive):
            return None
        found = [self._climb(start) for start in [(), *self._proposed()]]
        score, selectors = max(found, key=lambda of: round(of[0], 6))  # of equal ones the first
        return Found(selectors, score, self.n_tried) if score > 0 else None

    # --- the score ---

    def cover(self, selectors) -> np.ndarray:
        """(N,) where all selectors hold."""
        mask = np.ones(len(self.target.positive), dtype=bool)
        for selector in selectors:
            if selector not in self._masks:
                self._masks[selector] = self.columns[selector.feature].mask(selector)
            mask &= self._masks[selector]
        return mask

    def cost(self, selectors) -> float:
        """Nats to write the selectors down."""
        return sum(self.per_selector + self.columns[s.feature].cost(s) for s in selectors)

    def score(self, selectors) -> float:
        """Log-likelihood gain less the cost; of the empty rule 0."""
        if not selectors:
            return 0.0
        mask = self.cover(selectors)
        return float(self.target.gain(mask.sum(), self.target.positive[mask].sum())) - self.cost(selectors)

    # --- improvement ---

    def _climb(self, selectors: tuple[Selector, ...]) -> tuple[float, tuple[Selector, ...]]:
        """The rule that no change of a single selector improves, from a start."""
        score = self.score(selectors)
        while True:
            better = max(self._changed(selectors), key=lambda of: of[0], default=(-np.inf, ()))
            if better[0] <= score + 1e-9:
                return score, selectors
            score, selectors = better

    def _changed(self, selectors):
        """The score and selectors of each rule that differs in one selector."""
        for i, changed in enumerate(selectors):
            rest = selectors[:i] + selectors[i + 1 :]
            if rest:
                yield self.score(rest), rest
            yield from self._extended(rest, [changed.feature])
        if len(selectors) < MAX_SELECTORS:
            yield from self._extended(selectors, self.columns)

    def _extended(self, selectors, features):
        """The rule with one more selector, the best of each of `features`."""
        cost = self.cost(selectors) + self.per_selector
        for feature in features:
            if proposal := self._proposal(selectors, feature):
                yield proposal.score - cost, (*selectors, proposal.selector)

    def _proposal(self, selectors, feature: str) -> Proposal | None:
        """The best selector of a feature where others hold; worked out once."""
        key = (frozenset(selectors), feature)
        if key not in self._proposals:
            found = self.columns[feature].best(self.cover(selectors), self.target)
            self.n_tried += found.n_tried if found else 0
            self._proposals[key] = found
        return self._proposals[key]

    # --- proposals ---

    def _proposed(self) -> list[tuple[Selector, ...]]:
        """The nodes of a tree with the highest scores, as rules."""
        columns = [column for column in self.columns.values() if not isinstance(column, TextColumn)]
        if not columns:
            return []
        ranks = np.column_stack([column.ranks(self.target) for column in columns])
        tree = DecisionTreeClassifier(
            criterion="entropy", max_depth=TREE_DEPTH, min_samples_leaf=MIN_COVERED, random_state=0
        ).fit(ranks, self.target.positive)
        rules = [tuple(path) for path in self._paths(tree.tree_, columns) if path]
        self.n_tried += len(rules)
        return sorted(rules, key=self.score, reverse=True)[:STARTS]

    def _paths(self, tree, columns: list[NumberColumn | ChoiceColumn], node: int = 0, path: tuple = ()):
        """The selectors from the root to each node."""
        yield path
        if tree.children_left[node] < 0:
            return
        column, cut = columns[tree.feature[node]], float(tree.threshold[node])
        for child, above in ((tree.children_left[node], False), (tree.children_right[node], True)):
            selector = column.selector_at(cut, above, self.target)
            yield from self._paths(tree, columns, child, merged(path, selector))


def merged(path: tuple[Selector, ...], selector: Selector) -> tuple[Selector, ...]:
    """A path with one more selector; those of the same feature that say the same together become one."""
    kept: list[Selector] = []
    for earlier in path:
        if earlier.feature != selector.feature:
            kept.append(earlier)
        elif isinstance(earlier, OneOf) and isinstance(selector, OneOf):
            selector = OneOf(selector.feature, tuple(value for value in selector.values if value in earlier.values))
        elif not (isinstance(earlier, Bound) and isinstance(selector, Bound) and earlier.above == selector.above):
            kept.append(earlier)
    return (*kept, selector)
