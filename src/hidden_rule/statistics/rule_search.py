"""Rules that nobody wrote down: where do decisions depart from what is stated, and is there a rule in it?

Two thirds of the cases are searched, the last third measures what was found: cases covered, precision and lift with 95%
intervals. A candidate is proposed only where both hold:

- as good a one appears in at most 5% of the same search with labels shuffled among the cases about which the stated
  rules say the same (a permutation test: it accounts for all that was tried);
- on the cases it was not found on, its label is more frequent than among the others about which the stated rules say
  the same: the exact test of Fisher, over several strata (Cochran 1954, Biometrics 10:417, with exact probabilities
  of the sum), p-values adjusted for all candidates (Holm).
"""

import itertools
import math
from dataclasses import replace
from functools import reduce

import numpy as np
import polars as pl
from scipy import stats

from hidden_rule.core.tables import RULES
from hidden_rule.statistics.decisions import Candidate, Decisions, best_rule, rules_in_turn
from hidden_rule.statistics.intervals import holm, wilson
from hidden_rule.statistics.rule_columns import columns_of
from hidden_rule.statistics.selectors import holds, predicate_of, words_of

SHUFFLES = 49
LEVEL = 0.05
MAX_RULES = 8
MAX_CASES = 60_000  # of which the rules are found and measured; of more a sample
MAX_SEARCHED = 5_000  # more are left to measure
EXACT_UP_TO = 5_000  # covered cases; beyond, the normal approximation
ANY = "\N{BULLET} any other decision"  # no label can be this: it is that of departures to whatever label


def searched_cases(decisions: Decisions, seed: int) -> np.ndarray:
    """(N,) which cases are searched: two of three, at most MAX_SEARCHED, of each label and stated label, by chance."""
    order = np.random.default_rng(seed).permutation(len(decisions))
    order = order[np.lexsort((decisions.stated[order], decisions.label[order]))]
    chosen = order[np.arange(len(order)) % 3 != 2]
    searched = np.zeros(len(decisions), dtype=bool)
    searched[chosen[:: max(1, math.ceil(len(chosen) / MAX_SEARCHED))]] = True
    return searched


def find_rules(cases: pl.DataFrame, ruleset, seed: int) -> pl.DataFrame:
    """Table RULES of some cases: columns of the ruleset's features, `label`, and `label_without_hidden`.

    Cases about which the ruleset states nothing (null) depart unless they have the most frequent label of such cases.
    The same cases and seed give the same table.
    """
    cases = cases.sample(min(len(cases), MAX_CASES), seed=seed, shuffle=True)
    decisions = Decisions.of([], cases["label"], cases["label_without_hidden"])
    rows = searched_cases(decisions, seed)
    searched = replace(decisions.take(rows), columns=columns_of(cases.filter(rows), ruleset))
    candidates = [*in_turn(searched)]
    as_good = shuffled_scores(searched, seed) if candidates else np.zeros(0)
    measured = Measured(decisions.take(~rows), cases.filter(~rows), ruleset)
    found = [
        measured.row(candidate)
        | {"n_found_on": int(searched.cover(candidate.selectors).sum()), "n_shuffles": len(as_good)}
        | {"n_as_good": int((as_good >= candidate.score).sum())}
        for candidate in candidates
    ]
    judge(found, {rule.name for rule in ruleset.rules})
    proposed = [row["when"] for row in found if row["verdict"] == "proposed"]
    found += [measured.total(len(searched)), measured.rest(proposed)]
    return pl.DataFrame([dict.fromkeys(RULES) | row for row in found], schema=RULES)


def judge(rows: list[dict], taken: set[str]) -> None:
    """Write the verdict of each candidate into its row, its adjusted p-value, and the name of one that is proposed."""
    names = (f"found_{i}" for i in itertools.count(1) if f"found_{i}" not in taken)
    for row, p_value in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_value"] = float(p_value)
        by_chance = (row["n_as_good"] + 1) / (row["n_shuffles"] + 1) > LEVEL
        supported = row.pop("corrects") and p_value <= LEVEL and not by_chance
        row["verdict"] = "proposed" if supported else "unsupported"
        row["name"] = next(names) if supported and row["single_label"] else None


def in_turn(searched: Decisions):
    """Candidates one after the other; at the end those of departures to no single label."""
    left = searched
    for candidate in rules_in_turn(searched, searched.labels(), MAX_RULES):
        yield candidate
        left = left.take(~left.cover(candidate.selectors))
    yield from rules_in_turn(to_any_label(left), [ANY], 2)


def to_any_label(decisions: Decisions) -> Decisions:
    """The decisions with one label for all that depart."""
    return Decisions(decisions.columns, np.where(decisions.departs, ANY, decisions.stated), decisions.stated)


def shuffled_scores(searched: Decisions, seed: int) -> np.ndarray:
    """(SHUFFLES,) the score of the best candidate with shuffled labels; minus infinity without one."""
    rng = np.random.default_rng([seed, 1])
    scores = np.full(SHUFFLES, -np.inf)
    for i in range(SHUFFLES):
        shuffled = searched.shuffled(rng)
        found = [best_rule(shuffled, shuffled.labels()), best_rule(to_any_label(shuffled), [ANY])]
        scores[i] = max((candidate.score for candidate in found if candidate), default=-np.inf)
    return scores


class Measured:
    """Cases that candidates were not found on; each case counts for the first candidate that covers it."""

    def __init__(self, decisions: Decisions, cases: pl.DataFrame, ruleset):
        self.decisions, self.cases, self.ruleset = decisions, cases, ruleset
        self.left = np.ones(len(decisions), dtype=bool)

    def row(self, candidate: Candidate) -> dict:
        """What is measured of a candidate, as columns of RULES."""
        of = self.decisions
        when = predicate_of(candidate.selectors)
        covered = holds(when, self.cases).to_numpy() & self.left
        self.left = self.left & ~covered
        departures = of.label[covered & of.departs]
        labels, counts = np.unique(departures, return_counts=True)
        label: str | None = candidate.label
        if label == ANY:
            label = str(labels[np.argmax(counts)]) if len(labels) else None
        hits = of.label == label
        positive = of.departs if candidate.label == ANY else hits
        n, n_label = int(covered.sum()), int((hits & covered).sum())
        by_number = sorted(zip(counts.tolist(), labels.tolist(), strict=True), key=lambda one: (-one[0], one[1]))
        return {
            "kind": "rule",
            "when": when,
            "says": words_of(candidate.selectors),
            **self.known_as(when, label),
            "label": label,
            "single_label": candidate.label != ANY,
            "departures_to": [f"{name} {count}" for count, name in by_number],
            "n": n,
            "n_label": n_label,
            "n_departures": len(departures),
            **share_columns("precision", n_label, n),
            **lift_columns(hits, covered),
            "n_tried": candidate.n_tried,
            "p_value": stratified_p(positive, covered, of.stated, of.stated != candidate.label),
            "corrects": 2 * len(departures) > n if candidate.label == ANY else of.corrects(candidate.label, covered),
        }

    def known_as(self, when: str, label: str | None) -> dict:
        """The hidden rule of the ruleset with this label that holds for most of the same cases, and their share."""
        found: dict = {"hidden_rule": None, "overlap": None}
        covered = holds(when, self.cases).to_numpy()
        for rule in self.ruleset.hidden_rules:
            share = overlap(covered, holds(rule.when, self.cases).to_numpy())
            if rule.label == label and share > (found["overlap"] or 0.0):
                found = {"hidden_rule": rule.name, "overlap": share}
        return found

    def total(self, n_found_on: int) -> dict:
        """All cases: how many of those that are measured depart from what is stated."""
        n, departing = len(self.decisions), int(self.decisions.departs.sum())
        return {"kind": "all", "n_found_on": n_found_on, "n": n, "n_departures": departing}

    def rest(self, proposed: list[str]) -> dict:
        """The cases that no proposed rule covers."""
        left = np.ones(len(self.decisions), dtype=bool)
        for when in proposed:
            left &= ~holds(when, self.cases).to_numpy()
        return {"kind": "rest", "n": int(left.sum()), "n_departures": int((left & self.decisions.departs).sum())}


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Of the cases for which either of two rules holds, the share for which both do (Jaccard's index)."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 0.0


def share_columns(name: str, hits: int, n: int) -> dict:
    """A share and its interval (Wilson); null where there are no cases."""
    if not n:
        return {name: None, "ci_low": None, "ci_high": None}
    low, high = wilson(hits / n, n)
    return {name: hits / n, "ci_low": float(low), "ci_high": float(high)}


def lift_columns(hits: np.ndarray, covered: np.ndarray) -> dict:
    """How many times as frequent a label is among the covered cases as among all, with a 95% interval.

    That of the ratio to the other cases' share comes from the two shares' own (Wilson) by MOVER-R (Donner & Zou 2012,
    Statistical Methods in Medical Research 21:347); lift follows from that ratio and the share of covered cases.
    """
    none = {"lift": None, "lift_low": None, "lift_high": None}
    n, others = int(covered.sum()), int((~covered).sum())
    if not n or not hits.any():
        return none
    share = hits[covered].mean()
    lift = share / hits.mean()
    if not others:
        return {"lift": 1.0, "lift_low": 1.0, "lift_high": 1.0}
    rest = hits[~covered].mean()
    (low, high), (rest_low, rest_high) = wilson(share, n), wilson(rest, others)
    product, part = share * rest, n / len(hits)

    def ratio(end: float, rest_end: float, sign: int) -> float:
        root = math.sqrt(max(product**2 - end * rest_end * (2 * share - end) * (2 * rest - rest_end), 0.0))
        below = rest_end * (2 * rest - rest_end)
        return (product + sign * root) / below if below else math.inf

    def of_all(ratio: float) -> float:
        return 1 / part if math.isinf(ratio) else ratio / (part * ratio + 1 - part)

    lower = ratio(float(low), float(rest_high), -1)
    upper = ratio(float(high), float(rest_low), 1)
    return {"lift": lift, "lift_low": min(lift, of_all(max(lower, 0.0))), "lift_high": max(lift, of_all(upper))}


def stratified_p(positive: np.ndarray, covered: np.ndarray, strata: np.ndarray, counted: np.ndarray) -> float:
    """One-sided p-value of as many covered positive cases, given the positive and covered ones of each stratum."""
    observed, laws, most = 0, [], []
    for stratum in np.unique(strata[counted]):
        rows = counted & (strata == stratum)
        n, hits, drawn = int(rows.sum()), int(positive[rows].sum()), int(covered[rows].sum())
        observed += int((positive & covered)[rows].sum())
        laws.append(stats.hypergeom(n, hits, drawn))
        most.append(drawn)
    if sum(most) > EXACT_UP_TO:
        mean, variance = sum(law.mean() for law in laws), sum(law.var() for law in laws)
        return float(stats.norm.sf((observed - 0.5 - mean) / math.sqrt(variance))) if variance > 0 else 1.0
    chances = [law.pmf(np.arange(drawn + 1)) for law, drawn in zip(laws, most, strict=True)]
    total = reduce(np.convolve, chances, np.ones(1))
    return float(min(1.0, total[observed:].sum()))
