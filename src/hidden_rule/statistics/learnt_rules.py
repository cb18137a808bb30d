"""The rules that a run decides by, extracted from its answers alone: a decision list beside the policy's own.

The learner that searches decisions for rules is put to a run's answers (rule extraction: Craven & Shavlik 1996, NIPS
8:24). Rules are found one after the other; what they leave has one answer. Fidelity, the share of the answers that such
a list predicts, is cross-validated: each half of the cases is predicted by the list found on the other half.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from hidden_rule.core.tables import LEARNT_RULES
from hidden_rule.experiment.results import Results
from hidden_rule.statistics.decisions import Candidate, Decisions, rules_in_turn
from hidden_rule.statistics.intervals import wilson
from hidden_rule.statistics.rule_columns import Column, NumberColumn, columns_of
from hidden_rule.statistics.rule_search import overlap, share_columns
from hidden_rule.statistics.selectors import Bound, Contains, Missing, OneOf, Selector, predicate_of
from hidden_rule.statistics.thresholds import Fit
from hidden_rule.task.dataset import SPLITS
from hidden_rule.task.predicates import compared_literals

MAX_RULES = 12
MAX_CASES = 5_000  # of more a sample
OFTEN = 0.5  # of the most frequent answer: so often at least is the policy's default answered to stand last
DECODINGS = ("structured", "free")  # the first under which splits are answered counts
INVALID = ""  # stands for an invalid reply


def all_learnt_rules(results: Results) -> pl.DataFrame:
    """Table LEARNT_RULES of all runs of an experiment, from their answers to the splits under one decoding."""
    decoding, splits = answered_splits(results.config)
    if not splits:
        return pl.DataFrame(schema=LEARNT_RULES)
    cases = pl.concat([results.split(split).with_columns(suite=pl.lit(split)) for split in splits])
    cases = cases.sample(min(len(cases), MAX_CASES), seed=0)
    columns = columns_of(cases, results.ruleset)
    tables = []
    for run in results.runs:
        answers = (
            cases.lazy()
            .select("application_id", "suite")
            .join(
                results.predictions(run).filter(decoding=decoding).select("application_id", "suite", "predicted"),
                on=["application_id", "suite"], how="left", maintain_order="left",
            )
            .collect()
        )  # fmt: skip
        learnt = LearntRules.of(columns, answers["predicted"], results.ruleset.default)
        about = run.columns | {"suite": ", ".join(splits), "decoding": decoding}
        tables += [row | about for row in rows_of(learnt, cases, results.ruleset)]
    return pl.DataFrame(tables, schema=LEARNT_RULES)


def answered_splits(config: dict) -> tuple[str, list[str]]:
    """The decoding, structured if there are splits that are answered so, and these splits."""
    evaluation = config["evaluation"]
    of = {decoding: [split for split in SPLITS if split in evaluation[decoding]] for decoding in DECODINGS}
    return next(((decoding, splits) for decoding, splits in of.items() if splits), ("structured", []))


@dataclass(frozen=True)
class LearntRules:
    """The decision list of one run: rules in their order, and the answer to all other cases.

    decided: (N,) the place of the rule that decides each case; that of the last answer is the number of rules.
    """

    answers: Decisions
    rules: list[Candidate]
    default: str
    decided: np.ndarray
    fidelity: float

    @classmethod
    def of(cls, columns: list[Column], predicted: pl.Series, policy_default: str | None) -> "LearntRules":
        """columns: of the cases; predicted: (N,) the answers, null where a reply is invalid."""
        labels = predicted.fill_null(INVALID).to_numpy().astype(str)
        default = last_answer(labels, policy_default)
        answers = Decisions(columns, labels, np.full(len(labels), default))
        rules = decision_list(answers)
        half = np.zeros(len(labels), dtype=bool)
        order = np.random.default_rng(0).permutation(len(labels))
        half[order[np.argsort(labels[order], kind="stable")][::2]] = True
        hits = sum(predicted_right(answers.take(~rows), decision_list(answers.take(rows))) for rows in (half, ~half))
        return cls(answers, rules, default, places(answers, rules), hits / max(len(labels), 1))


def last_answer(labels: np.ndarray, policy_default: str | None) -> str:
    """The answer that no rule is looked for: the policy's default where it is frequent, or the most frequent one."""
    counts = Counter(labels.tolist())
    most, n = min(counts.items(), key=lambda of: (-of[1], of[0]), default=(INVALID, 0))
    return policy_default if policy_default and counts[policy_default] >= OFTEN * n else most


def decision_list(answers: Decisions) -> list[Candidate]:
    """The rules that a run decides by, in their order; the last answer is what `answers.stated` says."""
    labels = [label for label in answers.labels() if label != INVALID]
    return sharpened(answers, simplified(answers, list(rules_in_turn(answers, labels, MAX_RULES))))


def simplified(answers: Decisions, rules: list[Candidate]) -> list[Candidate]:
    """The rules with the shorter ones first and without selectors that are not needed, where no answer is lost by it.

    A rule need not say what a rule before it says (C4.5rules: Quinlan 1993).
    """
    best, n_right = rules, predicted_right(answers, rules)
    for place, later in itertools.combinations(range(len(rules)), 2):
        if len(best[later].selectors) < len(best[place].selectors):
            tried = [*best[:place], best[later], *best[place:later], *best[later + 1 :]]
            if (n := predicted_right(answers, tried)) >= n_right:
                best, n_right = tried, n
    for place in range(len(best)):
        for selector in best[place].selectors:
            shorter = tuple(other for other in best[place].selectors if other != selector)
            tried = [*best[:place], replace(best[place], selectors=shorter), *best[place + 1 :]]
            if shorter and (n := predicted_right(answers, tried)) >= n_right:
                best, n_right = tried, n
    return best


def sharpened(answers: Decisions, rules: list[Candidate]) -> list[Candidate]:
    """The rules, each threshold where it separates best the answers of cases for which the rest of its rule holds."""
    left = np.ones(len(answers), dtype=bool)
    done = []
    for rule in rules:
        for i, bound in enumerate(rule.selectors):
            if isinstance(bound, Bound) and (fit := fit_of(answers, rule, bound, left)):
                selectors = (*rule.selectors[:i], replace(bound, gap=fit.best), *rule.selectors[i + 1 :])
                rule = replace(rule, selectors=selectors)
        done.append(rule)
        left &= ~answers.cover(rule.selectors)
    return done


def fit_of(answers: Decisions, rule: Candidate, bound: Bound, left: np.ndarray) -> Fit | None:
    """How well thresholds separate the answers, of the cases `left` (N,) for which the rule's other selectors hold."""
    column = next(column for column in answers.columns if column.name == bound.feature)
    assert isinstance(column, NumberColumn)
    others = [selector for selector in rule.selectors if selector != bound]
    return Fit.of(column, bound.above, left & answers.cover(others), answers.label == rule.label)


def places(answers: Decisions, rules: list[Candidate]) -> np.ndarray:
    """(N,) the place of the first rule that holds; the number of rules where none does."""
    decided = np.full(len(answers), len(rules))
    for place in reversed(range(len(rules))):
        decided[answers.cover(rules[place].selectors)] = place
    return decided


def predicted_right(answers: Decisions, rules: list[Candidate]) -> int:
    """How many answers a decision list predicts."""
    labels = np.array([*(rule.label for rule in rules), ""])
    place = places(answers, rules)
    return int((np.where(place < len(rules), labels[place], answers.stated) == answers.label).sum())


def rows_of(learnt: LearntRules, cases: pl.DataFrame, ruleset) -> list[dict]:
    """Rows of LEARNT_RULES, without condition, seed, suite and decoding; a row for each selector of each rule.

    cases: with the features, and `fired_rule`, the policy's rule that decides each.
    """
    answers, n = learnt.answers, len(learnt.answers)
    low, high = wilson(learnt.fidelity, max(n, 1))
    whole = {
        "fidelity": learnt.fidelity,
        "fidelity_low": float(low),
        "fidelity_high": float(high),
        "most_frequent": max(Counter(answers.label.tolist()).values(), default=0) / max(n, 1),
        "n_answers": n,
    }
    fired = cases["fired_rule"].to_numpy().astype(str)
    rows = []
    for place, rule in enumerate([*learnt.rules, Candidate((), learnt.default, 0.0, 0)]):
        label, selectors = rule.label, rule.selectors
        decided = learnt.decided == place
        n_right = int((answers.label[decided] == label).sum())
        true_rule = matching_rule(decided, label, fired, ruleset)
        of_rule = {
            "place": place + 1,
            "when": predicate_of(selectors) or None,
            "label": label or None,
            "n": int(decided.sum()),
            **share_columns("precision", n_right, int(decided.sum())),
            **true_rule,
        }
        left = learnt.decided >= place
        parts = [
            selector_columns(selector, true_rule["true_rule"], ruleset)
            | interval_columns(answers, rule, selector, left)
            for selector in selectors
        ]
        rows += [dict.fromkeys(LEARNT_RULES) | whole | of_rule | part for part in parts or [{}]]
    return rows


def matching_rule(decided: np.ndarray, label: str, fired: np.ndarray, ruleset) -> dict:
    """The policy's rule with the same decision that decides most of the same cases; `default` where none fires."""
    named = {rule.name: rule.label for rule in ruleset.rules} | {"default": ruleset.default}
    shares = {name: overlap(decided, fired == name) for name, decision in named.items() if decision == label}
    best = max(shares, key=lambda name: shares[name], default=None)
    if best is None or shares[best] == 0:
        return {"true_rule": None, "overlap": None}
    return {"true_rule": best, "overlap": shares[best]}


def selector_columns(selector: Selector, true_rule: str | None, ruleset) -> dict:
    """What a selector says, and what the policy's rule says about its feature."""
    mentioned = {name for rule in ruleset.rules for name in rule.predicate.meta.root_names()}
    found = {"feature": selector.feature, "mentioned": selector.feature in mentioned}
    if isinstance(selector, Bound):
        threshold = float(selector.threshold)
        when = next((rule.when for rule in ruleset.rules if rule.name == true_rule), "")
        known = [value for value in compared_literals(when).get(selector.feature, []) if isinstance(value, float)]
        nearest = min(known, key=lambda value: abs(value - threshold), default=None)
        return found | {"comparison": selector.comparison, "threshold": threshold, "true_threshold": nearest}
    if isinstance(selector, OneOf):
        values = [str(value) for value in selector.values]
        return found | {"comparison": "NOT IN" if selector.negated else "IN", "values": values}
    if isinstance(selector, Contains):
        return found | {"comparison": "LIKE", "values": [selector.word]}
    assert isinstance(selector, Missing)
    return found | {"comparison": "IS NOT NULL" if selector.negated else "IS NULL"}


def interval_columns(answers: Decisions, rule: Candidate, selector: Selector, left: np.ndarray) -> dict:
    """The interval of a threshold, from the cases `left` by earlier rules for which the rest of its rule holds."""
    if not isinstance(selector, Bound) or (fit := fit_of(answers, rule, selector, left)) is None:
        return {}
    low, high = fit.interval
    return {"threshold_low": low, "threshold_high": high}
