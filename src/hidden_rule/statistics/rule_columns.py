"""Features as arrays in which the best selector of a rule is found quickly.

Each column proposes, for cases of which some are positive, the selector that raises the likelihood most: of a number
every threshold, of a choice every set of values that can be the best one. These sets are the first values in the order
of their shares of positive cases (Fisher 1958, JASA 53:789; Breiman et al. 1984, 4.2.2), so that few need to be tried.
"""

import functools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import special

from hidden_rule.statistics.selectors import Bound, Contains, Missing, OneOf, Selector

MAX_VALUES = 100  # of a choice; one that has more is looked at word by word
MAX_WORDS = 300  # the most frequent ones of a column of texts
SHORTEST_WORD = 3
MIN_COVERED = 3  # cases of a rule


class Target:
    """Which of N cases are positive, that is, are to be covered: (N,) zeros and ones, and their sum."""

    def __init__(self, positive: np.ndarray):
        self.positive = positive.astype(np.int64)
        self.n_positive = int(self.positive.sum())
        counts = np.arange(len(positive) + 1)
        self._logs = special.xlogy(counts, counts)
        self._without = self._log_likelihood(len(positive), self.n_positive)

    def _log_likelihood(self, n, positive):
        return self._logs[positive] + self._logs[n - positive] - self._logs[n]

    def gain(self, n, positive):
        """Log-likelihood, in nats, gained where `n` cases have a share of positive ones of their own.

        positive: of the `n`; arrays of whole numbers, or one each. Minus infinity where the share is not larger than
        among the others, or where the cases are fewer than MIN_COVERED: the rule would say nothing.
        """
        n_all = len(self.positive)
        others = self._log_likelihood(n_all - n, self.n_positive - positive)
        useful = (n >= MIN_COVERED) & (positive * n_all > self.n_positive * n)
        return np.where(useful, self._log_likelihood(n, positive) + others - self._without, -np.inf)


@dataclass(frozen=True)
class Proposal:
    """A selector, its likelihood gain less its cost, and how many were tried before it was chosen."""

    selector: Selector
    score: float
    n_tried: int


@dataclass(frozen=True)
class NumberColumn:
    """A feature of numbers: its distinct values, ascending, and (N,) each case's place among them, −1 if missing."""

    name: str
    distinct: np.ndarray
    codes: np.ndarray
    order: np.ndarray  # the cases that have a number, in ascending order

    def take(self, rows: np.ndarray) -> "NumberColumn":
        """The column of the cases `rows` (N, booleans)."""
        return number_column(self.name, np.where(self.codes >= 0, self.distinct[self.codes], np.nan)[rows])

    def cost(self, selector: Selector) -> float:
        """Nats that it takes to say which selector it is, of all that this column has."""
        return math.log(2 * len(self.distinct) + 2)

    def mask(self, selector: Selector) -> np.ndarray:
        """(N,) where the selector holds."""
        if isinstance(selector, Missing):
            return (self.codes < 0) != selector.negated
        assert isinstance(selector, Bound)
        lower, upper = selector.gap
        values = self.distinct[self.codes]
        return (self.codes >= 0) & (values >= upper if selector.above else values <= lower)

    def best(self, rows: np.ndarray, target: Target) -> Proposal | None:
        """The best threshold among the cases `rows` (N, booleans), or that the number is missing; None without any."""
        order = self.order[rows[self.order]]
        codes, hits = self.codes[order], np.cumsum(target.positive[order])
        ends = np.flatnonzero(codes[1:] > codes[:-1])  # a cut is after each of these
        found: list[Proposal] = []
        n_tried = 2 * len(ends) + 2
        if len(ends):
            below = target.gain(ends + 1, hits[ends])
            above = target.gain(len(codes) - ends - 1, hits[-1] - hits[ends])
            for gains, is_above in ((below, False), (above, True)):
                cut = ends[middle_best(gains)]
                gap = (float(self.distinct[codes[cut]]), float(self.distinct[codes[cut + 1]]))
                selector = Bound(self.name, is_above, gap)
                found.append(Proposal(selector, float(gains.max()) - self.cost(selector), n_tried))
        if len(self.order) < len(self.codes):
            for absent in (Missing(self.name), Missing(self.name, negated=True)):
                covered = rows & self.mask(absent)
                gain = target.gain(covered.sum(), target.positive[covered].sum())
                found.insert(0, Proposal(absent, float(gain) - self.cost(absent), n_tried))  # the simpler of equal ones
        return max(found, key=lambda proposal: proposal.score, default=None)

    def ranks(self, target: Target) -> np.ndarray:
        """The column as a tree takes it; missing numbers above all others."""
        return np.where(self.codes < 0, len(self.distinct), self.codes)

    def selector_at(self, cut: float, above: bool, target: Target) -> Selector:
        """What a tree's split of `ranks` at `cut` says."""
        last = int(cut)  # the last place below
        if last + 1 >= len(self.distinct):
            return Missing(self.name, negated=not above)
        return Bound(self.name, above, (float(self.distinct[last]), float(self.distinct[last + 1])))


def middle_best(gains: np.ndarray) -> int:
    """The middle one of the places where a value is largest."""
    best = np.flatnonzero(gains >= gains.max() - 1e-9)
    return int(best[len(best) // 2])


@dataclass(frozen=True)
class ChoiceColumn:
    """A feature of few values: (N,) their places in `values`, −1 where there is none."""

    name: str
    codes: np.ndarray
    values: tuple[str, ...]

    def take(self, rows: np.ndarray) -> "ChoiceColumn":
        return ChoiceColumn(self.name, self.codes[rows], self.values)

    @functools.cached_property
    def costs(self) -> np.ndarray:
        """Nats that it takes to name so many of the values."""
        n = len(self.values)
        return np.array([math.log(n) + math.log(math.comb(n, chosen)) for chosen in range(n + 1)])

    def cost(self, selector: Selector) -> float:
        assert isinstance(selector, OneOf)
        return float(self.costs[len(selector.values)])

    def mask(self, selector: Selector) -> np.ndarray:
        assert isinstance(selector, OneOf)
        listed = np.full(len(self.values) + 1, selector.negated)
        listed[[self.values.index(value) for value in selector.values]] = not selector.negated
        listed[-1] = False  # of code −1: no value
        return listed[self.codes]

    def best(self, rows: np.ndarray, target: Target) -> Proposal | None:
        there = rows & (self.codes >= 0)
        counts = np.bincount(self.codes[there], minlength=len(self.values))
        hits = np.bincount(self.codes[there & (target.positive > 0)], minlength=len(self.values))
        order = self._in_order(counts, hits)
        order = order[counts[order] > 0]
        if len(order) < 2:
            return None
        gains = target.gain(np.cumsum(counts[order])[:-1], np.cumsum(hits[order])[:-1])
        scores = gains - self.costs[1 : len(order)]
        best = int(np.argmax(scores))
        return Proposal(self._selector(order, best + 1), float(scores[best]), len(scores))

    def _in_order(self, counts: np.ndarray, hits: np.ndarray) -> np.ndarray:
        """Places of the values, the largest share of positive cases first; of equal shares the more frequent."""
        return np.lexsort((np.arange(len(counts)), -counts, -hits / np.maximum(counts, 1)))

    def _selector(self, order: np.ndarray, n_first: int) -> OneOf:
        """The first values of an order, or, where they are most of all, those that are not among them."""
        negated = n_first > len(order) / 2 and len(order) == len(self.values)
        chosen = order[n_first:] if negated else order[:n_first]
        return OneOf(self.name, tuple(self.values[i] for i in sorted(chosen)), negated)

    def ranks(self, target: Target) -> np.ndarray:
        """The column as a tree takes it: each value's place in the order of the shares of positive cases."""
        return self._place(target)[self.codes]

    def _place(self, target: Target) -> np.ndarray:
        """Place of each value, and, last, of none."""
        there = self.codes >= 0
        counts = np.bincount(self.codes[there], minlength=len(self.values))
        hits = np.bincount(self.codes[there & (target.positive > 0)], minlength=len(self.values))
        place = np.empty(len(self.values) + 1)
        place[self._in_order(counts, hits)] = np.arange(len(self.values))
        place[-1] = len(self.values)  # of code −1: no value
        return place

    def selector_at(self, cut: float, above: bool, target: Target) -> Selector:
        order = np.argsort(self._place(target)[:-1])
        chosen = order[int(cut) + 1 :] if above else order[: int(cut) + 1]
        return OneOf(self.name, tuple(self.values[i] for i in sorted(chosen)))


@dataclass(frozen=True)
class TextColumn:
    """A feature of texts: for each word (N,) whether a text holds it."""

    name: str
    words: tuple[str, ...]
    held: np.ndarray  # (words, N)

    def take(self, rows: np.ndarray) -> "TextColumn":
        return TextColumn(self.name, self.words, self.held[:, rows])

    def cost(self, selector: Selector) -> float:
        return math.log(2 * len(self.words))

    def mask(self, selector: Selector) -> np.ndarray:
        assert isinstance(selector, Contains)
        return self.held[self.words.index(selector.word)]

    def best(self, rows: np.ndarray, target: Target) -> Proposal | None:
        held = self.held[:, rows]
        gains = target.gain(held.sum(1), held @ target.positive[rows])
        best = int(np.argmax(gains))
        selector = Contains(self.name, self.words[best])
        return Proposal(selector, float(gains[best]) - self.cost(selector), len(self.words))


Column = NumberColumn | ChoiceColumn | TextColumn


def columns_of(cases: pl.DataFrame, ruleset) -> list[Column]:
    """The features of some cases, as columns in which a rule can be found.

    Numbers; choices, of at most MAX_VALUES values; other texts word by word. Left out are columns of one value.
    """
    texts = {feature.name for feature in ruleset.features if feature.kind == "text"}
    columns: list[Column] = []
    for series in cases.select(ruleset.feature_names).iter_columns():
        there = series.drop_nulls()
        if there.n_unique() + (there.len() < series.len()) < 2:
            continue
        if series.dtype.is_numeric():
            columns.append(number_column(series.name, series.cast(pl.Float64).to_numpy().astype(float)))
        elif series.name not in texts and there.n_unique() <= MAX_VALUES:
            columns.append(choice_column(series))
        elif column := text_column(series):
            columns.append(column)
    return columns


def number_column(name: str, values: np.ndarray) -> NumberColumn:
    """values: (N,) numbers, missing ones NaN."""
    there = np.flatnonzero(~np.isnan(values))
    distinct, places = np.unique(values[there], return_inverse=True)
    codes = np.full(len(values), -1)
    codes[there] = places
    return NumberColumn(name, distinct, codes, there[np.argsort(places, kind="stable")])


def choice_column(series: pl.Series) -> ChoiceColumn:
    values = series.drop_nulls().unique().sort().to_list()
    place = {value: i for i, value in enumerate(values)}
    codes = np.array([-1 if value is None else place[value] for value in series.to_list()], dtype=np.int64)
    return ChoiceColumn(series.name, codes, tuple(values))


def text_column(series: pl.Series) -> TextColumn | None:
    """The words that at least MIN_COVERED texts hold, the most frequent first; None where there are none.

    A word stands for every longer one that it is a part of, as in the predicate that is written with it.
    """
    texts = [(text or "").lower() for text in series.to_list()]
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(words_in(text)))
    frequent = [word for word, n in sorted(counts.items(), key=lambda of: (-of[1], of[0])) if n >= MIN_COVERED]
    words = tuple(word for word in frequent[:MAX_WORDS] if counts[word] < len(texts))
    if not words:
        return None
    return TextColumn(series.name, words, np.array([[word in text for text in texts] for word in words]))


def words_in(text: str) -> list[str]:
    """The words of a text that are long enough to mean something."""
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return [word for word in words if len(word) >= SHORTEST_WORD]
