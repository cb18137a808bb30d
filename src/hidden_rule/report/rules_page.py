"""The report's section on rules: those found in the decisions, and those that each condition decides by."""

import itertools
from statistics import fmean

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate
from hidden_rule.report.tables import order_of, table
from hidden_rule.report.text.learnt_rules import (
    DIRECTION,
    corresponds,
    learnt_sentences,
    number,
    shown_rules,
    span,
)
from hidden_rule.report.text.phrases import in_table, listing, percent
from hidden_rule.statistics.found_rules import as_yaml

SAME = 0.95  # of the cases that either covers: from this share that both do, a found rule is a known one


def section(results: Results) -> dict | None:
    """What the template shows; None without the tables, which older results do not have."""
    if results.rules is None and results.learnt_rules is None:
        return None
    ruleset = results.ruleset
    stated = ruleset.default is not None or any(not rule.hidden for rule in ruleset.rules)
    norm = "the stated rules" if stated else "the most frequent decision"
    return {"found": found_part(results.rules, norm), "learnt": learnt_part(results)}


# --- found in the decisions -------------------------------------------------------------------------------------------


def found_part(rules: pl.DataFrame | None, norm: str) -> dict | None:
    """What the search found; `norm`: what decisions are held against, in words."""
    if rules is None:
        return None
    whole, rest = (rules.filter(kind=kind).row(0, named=True) for kind in ("all", "rest"))
    candidates = rules.filter(kind="rule").to_dicts()
    columns = ["rule", "decision", "verdict", "cases", "precision", "lift", "as good by chance", "known as"]
    known = rules.filter(pl.col("overlap").fill_null(0.0) >= SAME)["when"].to_list()
    return {
        "sentences": found_sentences(candidates, whole, rest, norm),
        "table": table(CAPTION, columns, [candidate_cells(of) for of in candidates], wrap=True) if candidates else None,
        "yaml": as_yaml(rules.filter(~pl.col("when").is_in(known) | pl.col("when").is_null())),
    }


CAPTION = "Rules found in the decisions, measured on cases that were not searched: value and 95% CI"


def found_sentences(candidates: list[dict], whole: dict, rest: dict, norm: str) -> list[str]:
    """How many decisions depart from the norm, what was found, and what is left unexplained."""
    if not whole["n"]:
        return ["Too few cases to look for rules."]
    departing = f"{whole['n_departures']:,} of {whole['n']:,} cases ({percent(whole['n_departures'] / whole['n'])})"
    sentences = [f"{departing} deviate from {norm}; {whole['n_found_on']:,} others were searched for a cause."]
    proposed = [of for of in candidates if of["verdict"] == "proposed"]
    for of in proposed:
        if not of["single_label"]:
            sentences.append(
                f"Where {of['says']}, decisions depart to several labels: {', '.join(of['departures_to'])}."
            )
            continue
        as_known = f", which is the hidden rule {of['hidden_rule']}" if (of["overlap"] or 0) >= SAME else ""
        sentences.append(f"Found: {of['says']} → {of['label']}{as_known}.")
    if proposed and rest["n"]:
        left = f"{rest['n_departures']:,} of the {rest['n']:,} other cases deviate from {norm}"
        sentences.append(f"{left}; no rule was found in them." if rest["n_departures"] else "No other case deviates.")
    if not proposed and whole["n_departures"]:
        sentences.append("No rule is supported: such departures are as likely to be errors.")
    return sentences


def candidate_cells(of: dict) -> list[str]:
    """A candidate's row."""
    label = of["label"] or "–"
    if not of["single_label"]:
        label = f"several: {', '.join(of['departures_to'])}"
    precision = lift = "–"
    if of["precision"] is not None:
        precision = in_table(Estimate(of["precision"], of["ci_low"], of["ci_high"], of["n"]))
    if of["lift"] is not None:
        lift = f"{of['lift']:.1f} ({of['lift_low']:.1f}–{of['lift_high']:.1f})"
    by_chance = f"{of['n_as_good']} of {of['n_shuffles']} searches"
    known = f"{of['hidden_rule']} (overlap {percent(of['overlap'])})" if of["hidden_rule"] else "–"
    return [of["when"], label, of["verdict"], f"{of['n']:,}", precision, lift, by_chance, known]


# --- learnt by each condition -----------------------------------------------------------------------------------------


def learnt_part(results: Results) -> dict | None:
    learnt = results.learnt_rules
    if learnt is None or learnt.is_empty():
        return None
    first = learnt.row(0, named=True)
    return {
        "sentences": learnt_sentences(results),
        "fidelity": fidelity_table(results),
        "table": rules_table(results),
        "answers": f"{first['suite']}, {first['decoding']} decoding",
    }


def fidelity_table(results: Results) -> dict:
    """How far the extracted rules predict each condition's answers, means over seeds."""
    assert results.learnt_rules is not None
    runs = results.learnt_rules.unique(["condition", "seed"], maintain_order=True)
    rows = []
    for name in order_of(results):
        of = runs.filter(condition=name)
        if len(of):
            shares, n = of["fidelity"].to_list(), int(of["n_answers"][0])
            one = in_table(Estimate(shares[0], of["fidelity_low"][0], of["fidelity_high"][0], n))
            many = f"{percent(fmean(shares))} ({percent(min(shares))} to {percent(max(shares))})"
            most = percent(fmean(of["most_frequent"].to_list()))
            rows.append([name, one if len(of) == 1 else many, most, f"{n:,}"])
    several = ", mean and range over seeds" if len(set(runs["seed"])) > 1 else " and 95% CI"
    columns = ["condition", "fidelity", "most frequent answer", "answers"]
    return table(f"Share of answers that the extracted rules predict{several}, cross-validated", columns, rows)


def rules_table(results: Results) -> dict:
    """The rules of each condition in their order; of several seeds, rules of one form are one row."""
    n_seeds = len(results.seeds)
    rows = []
    shown = shown_rules(results)
    for name in order_of(results):
        forms: dict[tuple, list[list[dict]]] = {}
        of = shown.filter(condition=name).sort("seed", "place", maintain_order=True).to_dicts()
        for _, parts in itertools.groupby(of, key=lambda row: (row["seed"], row["place"])):
            rule = list(parts)
            forms.setdefault(form_of(rule), []).append(rule)
        in_order = sorted(forms.values(), key=lambda rules: (rules[0][0]["when"] is None, mean_of(rules, "place")))
        rows += [rule_cells(name, rules, n_seeds) for rules in in_order]
    columns = [
        "condition",
        "answer",
        "where",
        "of its answers",
        "precision",
        "the policy's rule",
        "thresholds (95% CI)",
    ]
    if n_seeds > 1:
        columns.insert(3, "seeds")
    caption = "Rules that conditions decide by, extracted from their answers: the first that holds decides"
    return table(caption, columns, rows, wrap=True)


def form_of(rule: list[dict]) -> tuple:
    """What rules of several seeds have in common: the answer, and the features, directions and values compared."""
    parts = [
        (row["feature"] or "", DIRECTION.get(row["comparison"], row["comparison"] or ""), tuple(row["values"] or ()))
        for row in rule
    ]
    return (rule[0]["label"], *sorted(parts))


def mean_of(rules: list[list[dict]], column: str) -> float:
    return fmean(rule[0][column] for rule in rules)


def rule_cells(name: str, rules: list[list[dict]], n_seeds: int) -> list[str]:
    """The row of a rule, of one form over several seeds."""
    first = rules[0][0]
    share = mean_of(rules, "n") / first["n_answers"]
    true = sorted({rule[0]["true_rule"] for rule in rules if corresponds(rule[0])})
    cells = [name, first["label"] or "invalid reply", first["when"] or "otherwise"]
    cells += [f"{len(rules)} of {n_seeds}"] if n_seeds > 1 else []
    cells += [percent(share), percent(mean_of(rules, "precision")), listing(true) if true else "none"]
    return [*cells, "; ".join(thresholds_of(rules)) or "–"]


def thresholds_of(rules: list[list[dict]]) -> list[str]:
    """`burn_rate_pct 74 (72–76; policy 80)` for each threshold; over several seeds the span of values and intervals."""
    words = []
    for place, part in enumerate(rules[0]):
        of = [rule[place] for rule in rules if rule[place]["feature"] == part["feature"]]
        known = [row for row in of if row["threshold_low"] is not None]
        if not known:
            continue
        values = [row["threshold"] for row in known]
        interval = span(min(row["threshold_low"] for row in known), max(row["threshold_high"] for row in known))
        policy = part["true_threshold"]
        beside = f"; policy {number(policy)}" if policy is not None and corresponds(part) else ""
        words.append(f"{part['feature']} {span(min(values), max(values))} ({interval}{beside})")
    return words
