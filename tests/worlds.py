"""Planted worlds of which the truth is known, and the report's answer to each.

Predictions, histories and costs are planted; metrics, comparisons, costs and verdicts are those of the pipeline's own
scripts.
"""

from types import SimpleNamespace

import polars as pl

from hidden_rule.core.tables import COLLAPSE, write_table
from hidden_rule.experiment.display import DisplayedResults, displayed
from hidden_rule.report.text.findings import conclude
from hidden_rule.statistics.collapse import judge_all
from synthetic import make_ruleset, write_results

RULESET = make_ruleset(4)
READING = ("holdout", "structured")
CHANCE = {"accuracy": 0.25}
GOOD, BETTER = {"accuracy": 0.88, "hidden": 0.95}, {"accuracy": 0.96, "hidden": 0.99}
HALF = {"accuracy": 0.45, "hidden": 0.1}
COLLAPSED = {"accuracy": 0.42, "collapsed": True}
SMALL = [("test", "structured", 40, 0), ("holdout", "structured", 40, 10_000), ("test", "free", 40, 0)]
METHODS = {"baseline": None, "sft": "sft", "grpo": "grpo", "sft_then_grpo": "grpo"}
STARTS = {"sft": None, "grpo": None, "sft_then_grpo": "sft"}
ABOUT = {"model": "a-model", "ruleset": "rulesets/a.yaml", "train": 640, "validation": 160}
WORLDS = {  # name: (how each condition does, options of write_world)
    "sft wins": ({"baseline": CHANCE, "sft": BETTER, "grpo": HALF}, {}),
    "rl wins": ({"baseline": CHANCE, "sft": HALF, "grpo": BETTER}, {}),
    "tie": ({"baseline": CHANCE, "sft": GOOD, "sft_then_grpo": GOOD | {"accuracy": 0.885}}, {}),
    "all fail": ({"baseline": CHANCE, "sft": CHANCE, "grpo": CHANCE}, {}),
    "too few data": (
        {"baseline": {"accuracy": 0.40}, "sft": {"accuracy": 0.55}, "grpo": {"accuracy": 0.5}}, {"sizes": SMALL},
    ),
    "collapse": ({"baseline": CHANCE, "sft": GOOD, "grpo": COLLAPSED}, {}),
    "collapse of three seeds": ({"baseline": CHANCE, "sft": GOOD, "grpo": COLLAPSED}, {"seeds": (0, 1, 2)}),
}  # fmt: skip


# Two hidden rules, of which only one is learned, and a third that fires nowhere.
SEVERAL = make_ruleset(5, n_hidden=2)
NOWHERE = {"name": "rule_nowhere", "label": "LABEL_A", "hidden": True, "when": "x < 0"}
SEVERAL.rules = [*SEVERAL.rules, SimpleNamespace(**NOWHERE, predicate=pl.sql_expr(NOWHERE["when"]))]
SEVERAL.hidden_rules = [rule for rule in SEVERAL.rules if rule.hidden]
ONE_OF_TWO = {
    "baseline": {"accuracy": 0.2},
    "sft": {"accuracy": 0.9, "hidden": {"rule_0": 0.95, "rule_1": 0.1}},
    "grpo": {"accuracy": 0.5, "hidden": {"rule_0": 0.4, "rule_1": 0.0}},
    "sft_then_grpo": {"accuracy": 0.93, "hidden": {"rule_0": 0.97, "rule_1": 0.96}},
}


def results_of(folder, world, ruleset=RULESET, **options) -> DisplayedResults:
    """The results of a planted world, conditions by their display names; options: of `write_results`.

    Each condition is compared with sft, as in config.yaml; in a world without it with its reference point.
    """
    options["config"] = {"comparisons": {"against": "sft"} if "sft" in world else {}} | options.get("config", {})
    facts = {"method": METHODS, "start_from": STARTS}
    world = {name: {key: of.get(name) for key, of in facts.items()} | own for name, own in world.items()}
    results = write_results(folder, ruleset, world, **options)
    even = dict.fromkeys(ruleset.labels, 1 / len(ruleset.labels))
    table = judge_all(results.histories, even, dict.fromkeys(world, 16))
    write_table(table, folder / "collapse.parquet", COLLAPSE)
    return displayed(results)


def whole_headline(answer: dict) -> str:
    """An answer's headline and what goes on from it."""
    return " ".join([answer["headline"], *answer["lead"]])


def conclude_world(folder, world, **options) -> dict:
    """The answer of `conclude` to a planted world."""
    return conclude(results_of(folder, world, **options))


def answer_of(folder, world, **options) -> tuple[str, dict[str, str]]:
    """The headline of a planted world, and the text under each heading (a title where there is none)."""
    answer = conclude_world(folder, world, **options)
    said = {heading or title: " ".join(lines) for title, parts in answer["sections"] for heading, lines in parts}
    return whole_headline(answer), said | {"scope": answer["scope"]}
