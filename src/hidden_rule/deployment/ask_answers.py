"""A case put to every condition: what each decides, with which probabilities, and the rule that holds."""

from dataclasses import dataclass

import polars as pl

from hidden_rule.deployment.asked_cases import HeldRule, held_rules, unusual
from hidden_rule.deployment.panel import Panel
from hidden_rule.experiment.display import display_names
from hidden_rule.models.context import Blame
from hidden_rule.report.text.phrases import percent


@dataclass(frozen=True)
class ConditionAnswer:
    """What a condition decides."""

    condition: str
    name: str  # that people read
    label: str
    probabilities: dict[str, float]  # by label
    follows: bool | None  # whether it decides as the rule that holds says; None: nothing says so


@dataclass(frozen=True)
class Asked:
    """A case and all answers to it."""

    answers: list[ConditionAnswer]
    rule: HeldRule | None  # None: there are no rules
    notes: list[str]

    def as_json(self) -> dict:
        rule = self.rule and {
            "name": self.rule.name, "hidden": self.rule.is_hidden, "label": self.rule.label,
            "label_without_hidden": self.rule.label_without_hidden,
        }  # fmt: skip
        answers = {
            of.condition: {"decision": of.label, "probabilities": of.probabilities, "follows_rule": of.follows}
            for of in self.answers
        }
        return {"rule": rule, "answers": answers, "notes": self.notes}


def rule_sentence(rule: HeldRule) -> str:
    """Which rule holds, and what it says."""
    if rule.label is None:
        return "No stated rule holds, and no default is stated."
    if rule.name == "default":
        return f"No rule holds: {rule.label} by default."
    without = ""
    if rule.is_hidden and rule.label_without_hidden not in (None, rule.label):
        without = f"; without hidden rules it would be {rule.label_without_hidden}"
    return f"The rule {rule.words} holds: {rule.label}{without}."


def ask(panel: Panel, case: pl.DataFrame) -> Asked:
    """The answers to a case of one row; raises UserError for one that a model cannot be asked."""
    ruleset, names = panel.ruleset, display_names(panel.results.config["conditions"])
    check_case(panel, case)
    rules = held_rules(ruleset, case)
    rule = rules[0] if rules else None
    answers = []
    for condition in panel.conditions:
        row = panel.probabilities(condition, case)[0]
        label = ruleset.labels[int(row.argmax())]
        follows = None if rule is None or rule.label is None else label == rule.label
        shares = dict(zip(ruleset.labels, row.tolist(), strict=True))
        answers.append(ConditionAnswer(condition, names[condition], label, shares, follows))
    return Asked(answers, rule, unusual(ruleset, case))


def check_case(panel: Panel, case: pl.DataFrame) -> None:
    """Raise UserError for a text with a control token, or a case too long for the model."""
    panel.check_one(case, Blame("CASE", "shorten its texts", "CASE"))


def table(asked: Asked) -> list[str]:
    """The answers as lines of a table for a terminal."""
    labels = list(asked.answers[0].probabilities)
    header = ["condition", "decision", *labels]
    if any(of.follows is not None for of in asked.answers):
        header.append("as the rule")
    rows = [header]
    for of in asked.answers:
        follows = [] if of.follows is None else ["yes" if of.follows else "no"]
        rows.append([of.name, of.label, *(percent(of.probabilities[label]) for label in labels), *follows])
    return aligned(rows, numbers=range(2, 2 + len(labels)))


def aligned(rows: list[list[str]], numbers) -> list[str]:
    """Rows of cells as lines, columns of `numbers` to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(cell.rjust(n) if i in numbers else cell.ljust(n) for i, (cell, n) in cells).rstrip())
    return lines
