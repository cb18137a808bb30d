"""Sentences on what each condition learned: the policy, hidden rules, free decoding."""

from dataclasses import dataclass

from hidden_rule.experiment.runs import Estimate, guess_words
from hidden_rule.report.text.phrases import MANY, percent, with_interval
from hidden_rule.task.nouns import APPLICATION, CaseNouns

LEARNED = 0.80  # learned: the interval lies at or above this share of correct answers
MISSED = 0.20  # the hidden rule is missed: the interval of its recall lies at or below this


def policy_verdict(accuracy: Estimate, chance: float) -> str:
    """`learned`, `partly`, `chance` or `below` chance."""
    if accuracy.high < chance:
        return "below"
    if accuracy.low <= chance:
        return "chance"
    return "learned" if accuracy.low >= LEARNED else "partly"


def policy_sentence(condition: str, accuracy: Estimate, chance: float) -> str:
    """Did this condition learn the policy?"""
    value, guess, at = with_interval(accuracy), percent(chance), guess_words(chance)
    return {
        "learned": f"{condition} learned the policy: accuracy {value}.",
        "partly": f"{condition} learned part of the policy: accuracy {value}; {at}: {guess}.",
        "chance": f"{condition} is not significantly different from {at} ({guess}): accuracy {value}.",
        "below": f"{condition} is worse than {at} ({guess}): accuracy {value}.",
    }[policy_verdict(accuracy, chance)]


def in_groups(verdicts: dict[str, str], heads: dict[str, str], values: dict[str, str]) -> list[str]:
    """A sentence for each verdict that was reached: its head and the conditions of that verdict, with their values."""
    return [
        f"{head}: {', '.join(f'{name} ({values[name]})' for name in names)}."
        for verdict, head in heads.items()
        if (names := [name for name, reached in verdicts.items() if reached == verdict])
    ]


def policy_sentences(conditions, accuracies: dict[str, Estimate], chance: float) -> list[str]:
    """Who learned the policy? A sentence a condition, or of many a sentence a verdict."""
    if len(conditions) <= MANY:
        return [policy_sentence(name, accuracies[name], chance) for name in conditions]
    heads = {
        "learned": "Learned (accuracy)",
        "partly": f"Partly learned ({guess_words(chance)}: {percent(chance)})",
        "chance": f"Not significantly different from {guess_words(chance)}",
        "below": f"Worse than {guess_words(chance)}",
    }
    verdicts = {name: policy_verdict(accuracies[name], chance) for name in conditions}
    return in_groups(verdicts, heads, {name: percent(accuracies[name].value) for name in conditions})


def hidden_verdict(recall: Estimate | None, precision: Estimate | None, base_rate: float) -> str:
    """`learned`, `missed`, `no_evidence`, `over_applied`, `partly`, or `unknown` where the hidden rule never fires.

    base_rate: share of applications on which a hidden rule fires, which is the precision of answering at random.
    """
    if recall is None:
        return "unknown"
    if recall.high <= MISSED:
        return "missed"
    if precision is None or precision.low <= base_rate:
        return "no_evidence"
    if recall.low >= LEARNED:
        return "learned" if precision.low >= LEARNED else "over_applied"
    return "partly"


@dataclass(frozen=True)
class OnHiddenRule:
    """How each condition does on one hidden rule, or on all of them together."""

    rule: str | None  # None: all of them, or the only one
    recalls: dict[str, Estimate | None]  # None where no hidden rule fires
    precisions: dict[str, Estimate | None]  # None where no answer claims it
    base_rates: dict[str, float]  # share of the cases on which it fires
    nouns: CaseNouns = APPLICATION

    def verdict(self, name: str) -> str:
        return hidden_verdict(self.recalls[name], self.precisions[name], self.base_rates[name])

    @property
    def verdicts(self) -> dict[str, str]:
        return {name: self.verdict(name) for name in self.recalls}

    @property
    def untested(self) -> bool:
        """Whether it fires on no application."""
        return set(self.verdicts.values()) <= {"unknown"}


def hidden_clause(name: str, of: OnHiddenRule) -> str:
    """What a condition made of a hidden rule, without the condition's name."""
    what = f"rule {of.rule}" if of.rule else "the hidden rule"
    recall, precision = of.recalls[name], of.precisions[name]
    found, correct = f"recall {with_interval(recall)}", f"precision {with_interval(precision)}"
    if precision is None:
        doubt = "and no answer that only this rule explains"
    else:
        doubt = f"but {correct} is not significantly above the base rate ({percent(of.base_rates[name])})"
    return {
        "learned": f"learned {what}: {found}, {correct}",
        "missed": f"did not learn {what}: {found}",
        "no_evidence": f"shows no evidence of {what}: {found}, {doubt}",
        "over_applied": f"over-applies {what}: {correct}, {found}",
        "partly": f"partly learned {what}: {found}, {correct}",
        "unknown": f"{what} applies to no {of.nouns.one} here and is untested",
    }[of.verdict(name)]


def hidden_sentences(conditions, rules: list[OnHiddenRule]) -> list[str]:
    """Who learned which hidden rule? A sentence a condition, or of many a sentence a verdict and rule.

    rules: each of several, or the only one (`rule` None).
    """
    tested = [of for of in rules if not of.untested]
    if len(conditions) <= MANY:
        said = [f"{name} {'; '.join(hidden_clause(name, of) for of in tested)}." for name in conditions if tested]
    else:
        said = [sentence for of in tested for sentence in verdict_sentences(conditions, of)]
    return said + [untested_sentence(of) for of in rules if of.untested]


def untested_sentence(of: OnHiddenRule) -> str:
    """That a hidden rule fires nowhere."""
    what = f"Rule {of.rule}" if of.rule else "The hidden rule"
    return f"{what} applies to no {of.nouns.one} here and is untested."


def verdict_sentences(conditions, of: OnHiddenRule) -> list[str]:
    """The conditions of each verdict on a hidden rule."""
    heads = {
        "learned": "Learned (recall, precision)",
        "over_applied": "Over-applied",
        "partly": "Partly learned",
        "no_evidence": "No evidence, as precision is not significantly above the base rate",
        "missed": "Not learned",
        "unknown": f"Untested, as it applies to no {of.nouns.one} here",
    }
    if of.rule:
        heads = {verdict: f"Rule {of.rule}, {head[0].lower()}{head[1:]}" for verdict, head in heads.items()}
    rows = {name: [row[name] for row in (of.recalls, of.precisions)] for name in conditions}
    values = {
        name: ", ".join("–" if row is None else percent(row.value) for row in pair) for name, pair in rows.items()
    }
    return in_groups({name: of.verdict(name) for name in conditions}, heads, values)


def free_sentence(condition: str, accuracy: Estimate, invalid: Estimate) -> str:
    """Accuracy and invalid replies of a condition under free decoding."""
    return f"{condition}: accuracy {with_interval(accuracy)}; invalid replies {with_interval(invalid)}."
