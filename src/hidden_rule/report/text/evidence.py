"""The numbers that the report's answer rests on, found once in an experiment's results."""

from dataclasses import dataclass

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, Setting
from hidden_rule.report.text.baselines import describe_references
from hidden_rule.report.text.comparisons import best_of
from hidden_rule.report.text.rule_learning import OnHiddenRule, policy_verdict


def pooled_pairs(comparisons: pl.DataFrame) -> list[dict]:
    """Pooled rows of one family of comparisons, the largest difference first.

    Each with `of_seeds`, the differences under each seed, and `n_compared`, how many there are.
    """
    pair = ["condition_a", "condition_b"]
    pooled, by_seed = (comparisons.filter(pl.col("seed").is_null() == is_pooled) for is_pooled in (True, False))
    of_seeds = by_seed.sort("seed").group_by(pair).agg(of_seeds="difference")
    rows = (
        pooled.join(of_seeds, on=pair, how="left", maintain_order="left").with_columns(n_compared=pl.len()).to_dicts()
    )
    return sorted(rows, key=lambda row: -abs(row["difference"]))


def is_balanced(metrics: pl.DataFrame, condition: str, setting: Setting) -> bool:
    """Whether each decision is right equally often, give or take one application."""
    of_labels = metrics.filter(pl.col("seed").is_not_null(), condition=condition, metric="recall", **setting.columns)
    counts = of_labels["n"].to_list()
    return bool(counts) and max(counts) - min(counts) <= 1


@dataclass(frozen=True)
class Evidence:
    """What the answer rests on: numbers at the main setting, of all conditions in the order in which they are shown."""

    order: list[str]  # references last
    contenders: list[str]  # of which one may be best: all but the references, or these where there is nothing else
    references: dict[str, str]  # what each condition is that is there for comparison alone
    accuracies: dict[str, Estimate]
    hidden: list[OnHiddenRule]  # each hidden rule; none where the ruleset has none
    pairs: list[dict]  # `pooled_pairs` of accuracy
    chance: float
    n: int  # applications
    n_seeds: int

    @property
    def beside(self) -> dict[str, str]:
        """References that stand beside contenders; where all are references they are compared with each other."""
        return {} if set(self.contenders) <= set(self.references) else self.references

    @property
    def best(self) -> str:
        return best_of(self.contenders, self.accuracies)

    @property
    def trainable(self) -> list[str]:
        return [name for name in self.order if name not in self.references]

    @property
    def above(self) -> list[str]:
        """Contenders that do better than chance."""
        return [name for name in self.contenders if self.policy_verdict(name) in ("learned", "partly")]

    @property
    def own_pairs(self) -> list[dict]:
        """Comparisons without a reference."""
        return [row for row in self.pairs if not {row["condition_a"], row["condition_b"]} & {*self.beside}]

    def policy_verdict(self, name: str) -> str:
        return policy_verdict(self.accuracies[name], self.chance)


def on_hidden_rule(results: Results, order: list[str], rule: str | None) -> OnHiddenRule:
    """How the conditions in `order` do on a hidden rule (None: on all together) in the main setting.

    The base rate leaves out the cases of other hidden rules with the same label, as the precision does.
    """
    recalls, precisions = (
        {name: results.estimate(name, results.main, metric, rule) for name in order}
        for metric in ("hidden_recall", "hidden_precision")
    )
    n = {name: found.n for name in order if (found := results.estimate(name, results.main, "accuracy"))}
    labels = {one.name: one.label for one in results.ruleset.hidden_rules}
    alike = [name for name, label in labels.items() if rule and name != rule and label == labels[rule]]
    base_rates = {}
    for name, recall in recalls.items():
        of_others = (results.estimate(name, results.main, "hidden_recall", other) for other in alike)
        base_rates[name] = recall.n / (n[name] - sum(of.n for of in of_others if of)) if recall else 0.0
    return OnHiddenRule(rule, recalls, precisions, base_rates, results.ruleset.case)


def gather(results: Results) -> Evidence:
    """The evidence in an experiment's results."""
    references = describe_references(results.config)
    contenders = [name for name in results.conditions if name not in references]
    order = [*contenders, *references]
    of_main = results.main.columns | {"metric": "accuracy"}
    accuracies = {name: results.estimate(name, results.main, "accuracy") for name in order}
    of_seeds = results.metrics.filter(pl.col("seed").is_not_null(), **of_main)
    return Evidence(
        order=order,
        contenders=contenders or order,
        references=references,
        accuracies={name: found for name, found in accuracies.items() if found},
        hidden=[on_hidden_rule(results, order, rule) for rule in results.rules_apart],
        pairs=pooled_pairs(results.comparisons.filter(**of_main)),
        chance=results.chance,
        n=max(of_seeds["n"].to_list()),
        n_seeds=results.metrics["seed"].drop_nulls().n_unique(),
    )
