"""Sentences on the expected cost of mistakes, where the config has decision costs: they rank by it."""

from dataclasses import dataclass

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.text.comparisons import (
    differs,
    pair_of,
    plan_words,
    rivals_of,
    turned,
    untested,
)
from hidden_rule.report.text.evidence import Evidence, pooled_pairs
from hidden_rule.report.text.phrases import amount, amount_interval, listing, p_text, percent

METRIC = "expected_cost"
LISTED = 4  # conditions that the headline lists by name
NAMED_SHARES = 6  # labels whose share a sentence names


@dataclass(frozen=True)
class CostEvidence:
    """Expected costs at the main setting."""

    costs: dict[str, Estimate]  # per 1,000 cases, of each condition that has one
    pairs: list[dict]  # `pooled_pairs` of the expected cost
    unit: str

    def words(self, name: str) -> str:
        """`41.2 EUR per 1,000 cases (95% CI 36.0–47.1)`."""
        of = self.costs[name]
        return f"{amount(of.value)} {self.unit} per 1,000 cases (95% CI {amount_interval(of.low, of.high)})"


def cost_evidence(results: Results) -> CostEvidence | None:
    """The expected costs of an experiment; None without decision costs, or where they are undefined."""
    if not results.config.get("decision_costs"):
        return None
    found = {name: results.estimate(name, results.main, METRIC) for name in results.conditions}
    costs = {name: estimate for name, estimate in found.items() if estimate}
    pairs = results.comparisons.filter(pl.col("difference").is_not_null(), metric=METRIC, **results.main.columns)
    return CostEvidence(costs, pooled_pairs(pairs), results.config["decision_costs"]["unit"]) if costs else None


def cheapest(names, costs: dict[str, Estimate]) -> str:
    """The condition with the lowest expected cost; of equal ones the first."""
    return min((name for name in names if name in costs), key=lambda name: costs[name].value)


def cost_headline(of: CostEvidence, found: Evidence) -> list[str]:
    """Which condition costs least, and how the others compare; a reference that costs no more is named first."""
    contenders = [name for name in found.contenders if name in of.costs]
    if not contenders:
        return []
    best, aside = cheapest(contenders, of.costs), " (references excluded)" if found.beside else ""
    rivals = {name for name, *_ in rivals_of(best, of.pairs)}
    unknown = untested(best, contenders, of.pairs)
    close = [name for name in contenders if name in rivals]
    dearer = [name for name in contenders if name not in {best, *rivals, *unknown}]
    parts = [f"{best} has the lowest expected cost{aside}, {of.words(best)}"]
    if close:
        parts.append(f"{_listed(close)} {'is' if len(close) == 1 else 'are'} statistically tied")
    elif dearer:
        parts[0] += f", significantly below {_listed(dearer) if unknown else 'all others'}"
    if unknown:
        parts.append(f"no planned comparison with {_listed(unknown)}")
    beside = [name for name in found.beside if name in of.costs and of.costs[name].value <= of.costs[best].value]
    ranking = "; ".join(parts) + "."
    if not beside:
        return [ranking]
    return [f"{(first := cheapest(beside, of.costs))} costs no more than {best}: {of.words(first)}.", ranking]


def _listed(names: list[str]) -> str:
    return listing(names) if len(names) <= LISTED else f"{len(names)} others"


def cost_sentences(of: CostEvidence | None, results: Results) -> list[str]:
    """Planned differences of expected cost, the largest first, and what cost and prevalence are; nothing without."""
    if of is None:
        return []
    sentences = [difference_sentence(row, of.unit) for row in of.pairs]
    if len(of.pairs) > 1:
        held = f"Holm correction for {len(of.pairs)} comparisons"
        sentences.append(f"Planned comparisons of cost: {plan_words(of.pairs)}. {held}.")
    return [*sentences, matrix_sentence(results), prevalence_sentence(results)]


def difference_sentence(row: dict, unit: str) -> str:
    """Which of two conditions costs less, by how much, and how sure that is."""
    row = turned(row, pair_of(row)[0 if row["difference"] <= 0 else 1])
    less, other = pair_of(row)
    low, high = sorted((-row["ci_high"], -row["ci_low"]))
    evidence = f"95% CI {amount_interval(low, high)}; {p_text(row['p_adjusted'])}"
    by = f"{amount(-row['difference'])} {unit} per 1,000 cases"
    if differs(row):
        return f"{less} costs less than {other} by {by} ({evidence})."
    found = f" Minimum detectable difference: {amount(row['mde'])} {unit} (80% power)." if row["mde"] else ""
    return f"{less} and {other} are statistically tied in cost: {by} ({evidence}).{found}"


def matrix_sentence(results: Results) -> str:
    """The mistakes that cost most, and what others cost."""
    costs, unit = results.config["decision_costs"], results.config["decision_costs"]["unit"]
    named = [(cost, given, right) for right, row in costs["costs"].items() for given, cost in row.items()]
    if not named:
        return f"Every wrong decision costs 1 {unit}."
    cost, given, right = max(named, key=lambda of: of[0])
    several = f"; {len(named)} mistakes have a cost of their own" if len(named) > 1 else ""
    return (
        f"The highest cost is {amount(cost)} {unit}, of {given} where {right} is right{several}; others cost 1 {unit}."
    )


def prevalence_sentence(results: Results) -> str:
    """At which prevalence the cost is expected."""
    named = results.config["decision_costs"].get("prevalence", {})
    natural = "those of the evaluated cases" if results.ruleset.is_observed else "those of the ruleset's distributions"
    if not named:
        return f"Expected at natural frequencies: {natural}."
    shares = listing(f"{label} {percent(share)}" for label, share in list(named.items())[:NAMED_SHARES])
    more = f" and {len(named) - NAMED_SHARES} others" if len(named) > NAMED_SHARES else ""
    rest = "" if set(named) == set(results.labels) else f"; other labels by natural frequencies, {natural}"
    return f"Expected at the configured prevalence: {shares}{more}{rest}."
