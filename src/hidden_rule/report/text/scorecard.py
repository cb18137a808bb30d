"""The scorecard of conditions: marks that follow the verdicts of the report's sentences, one question a column.

Of a question that was not asked of a condition (an untrained one cannot collapse) there is no mark.
"""

from dataclasses import dataclass

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.evidence import Evidence
from hidden_rule.report.text.rule_learning import policy_verdict
from hidden_rule.report.text.suites import suite_findings

PASS, WARN, FAIL, NONE = "pass", "warn", "fail", "none"
POLICY = {
    "learned": (PASS, "learned"), "partly": (WARN, "partly"), "chance": (FAIL, "not above {guess}"),
    "below": (FAIL, "below {guess}"),
}  # fmt: skip
HIDDEN = {
    "learned": (PASS, "learned"), "over_applied": (WARN, "over-applied"), "partly": (WARN, "partly"),
    "no_evidence": (FAIL, "no evidence"), "missed": (FAIL, "not learned"), "unknown": (NONE, "untested"),
}  # fmt: skip
ORDER = (NONE, FAIL, WARN, PASS)  # for sorting


@dataclass(frozen=True)
class Mark:
    """The answer to a question about a condition."""

    level: str  # pass | warn | fail | none
    words: str

    @property
    def rank(self) -> int:
        return ORDER.index(self.level)


def score(results: Results, found: Evidence) -> dict[str, dict[str, Mark]]:
    """By question, the mark of each condition; questions that no condition was asked are left out."""
    names = list(found.accuracies)
    guess = "chance" if not results.ruleset.is_observed else "guessing"
    questions = {"Policy learned?": {name: policy_mark(found.policy_verdict(name), guess) for name in names}}
    for of in found.hidden:
        title = f"Hidden rule {of.rule}?" if of.rule else "Hidden rule learned?"
        questions[title] = {name: Mark(*HIDDEN[of.verdict(name)]) for name in names}
    questions["Generalizes?"] = {name: suites_mark(results, name) for name in names}
    questions["Stable over seeds?"] = {name: stability_mark(results, name, guess) for name in names}
    questions["Collapsed?"] = {name: collapse_mark(results, name) for name in names}
    return {title: marks for title, marks in questions.items() if any(mark.level != NONE for mark in marks.values())}


def policy_mark(verdict: str, guess: str) -> Mark:
    level, words = POLICY[verdict]
    return Mark(level, words.format(guess=guess))


def suites_mark(results: Results, name: str) -> Mark:
    """Passes all suites, fails some, or neither."""
    of = suite_findings(results.metrics, name, results.separate_rules)
    n = sum(map(len, of.values()))
    if not n:
        return Mark(NONE, "not evaluated")
    level = FAIL if of["fails"] else WARN if of["open"] else PASS
    return Mark(level, f"passes {len(of['holds'])}\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}{n}")


def stability_mark(results: Results, name: str, guess: str) -> Mark:
    """Whether all seeds have the same verdict on the policy."""
    rows = results.metrics.filter(
        pl.col("seed").is_not_null(), pl.col("label").is_null(), pl.col("value").is_not_null(),
        condition=name, metric="accuracy", **results.main.columns,
    )  # fmt: skip
    verdicts = [policy_verdict(Estimate.of(row), results.chance) for row in rows.to_dicts()]
    if len(verdicts) < 2 or name not in results.starts:
        return Mark(NONE, "one seed" if len(verdicts) == 1 and name in results.starts else "not trained")
    if len(set(verdicts)) == 1:
        return Mark(PASS, f"all {len(verdicts)} alike")
    counts = {verdict: verdicts.count(verdict) for verdict in POLICY if verdict in verdicts}
    words = ", ".join(f"{n} {POLICY[verdict][1].format(guess=guess)}" for verdict, n in counts.items())
    return Mark(FAIL if {"chance", "below"} & set(verdicts) else WARN, words)


def collapse_mark(results: Results, name: str) -> Mark:
    """The gravest verdict on collapse among the seeds of an RL training."""
    table = results.collapse
    rows = [] if table is None else table.filter(condition=name).unique("seed").to_dicts()
    if not rows:
        return Mark(NONE, "no RL")
    verdicts = [row["verdict"] for row in rows]
    n, of = verdicts.count("collapsed"), f" of {len(rows)} seeds" if len(rows) > 1 else ""
    if n:
        return Mark(FAIL, f"yes, {n}{of}" if of else "yes")
    n = verdicts.count("warn")
    return Mark(WARN, f"warning, {n}{of}" if of else "warning") if n else Mark(PASS, "no")
