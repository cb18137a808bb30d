"""Sentences and a table on label efficiency and label noise."""

import polars as pl

from hidden_rule.experiment.runs import Estimate, Setting, find_estimate
from hidden_rule.report.text.phrases import listing, percent, with_interval
from hidden_rule.report.text.rule_learning import LEARNT, hidden_verdict, policy_verdict
from hidden_rule.statistics.label_curves import KINDS, curve_points

UNITS = {"labels": "labels", "noise": "wrong labels"}  # after a number of them
LEVELS = {"labels": "training-set size", "noise": "noise level"}


def dose(kind: str, row: dict) -> str:
    """The labels of a point of a line, or the share of them that is wrong."""
    return f"{row['train_rows']:,}" if kind == "labels" else f"{100 * row['label_noise']:g}%"


def said(row: dict) -> str:
    """A point's value, and what stands beside it."""
    return with_interval(Estimate.of(row)) + row.get("beside", "")


def learnt_sentence(line: str, kind: str, rows: list[dict], learnt: list[bool], what: str, value: str) -> str:
    """With which numbers of labels, or shares of wrong ones, a line learned `what`.

    rows: its points in order of what varies, `beside` what to add to a value; learned: of each, whether; value: the
    metric of the points, in words.
    """
    unit, tried = UNITS[kind], f"tried: {listing(dose(kind, row) for row in rows)}"
    best = max(rows, key=lambda row: row["value"])
    kept = [row for row, yes in zip(rows, learnt, strict=True) if yes]
    lost = [row for row, yes in zip(rows, learnt, strict=True) if not yes]
    if not kept:
        top = f"highest {value} {said(best)}, at {dose(kind, best)} {unit}"
        return f"{line} did not learn {what} at any {LEVELS[kind]} ({tried}); {top}."
    if kind == "noise" and not lost:
        return f"{line} learned {what} at every noise level ({tried})."
    if kind == "labels":
        edge = f"fewest: {dose(kind, kept[0])}, {value} {said(kept[0])}"
    else:
        edge = f"lowest failing level: {dose(kind, lost[0])}, {value} {said(lost[0])}"
    return f"{line} learned {what} with {listing(dose(kind, row) for row in kept)} {unit} ({tried}); {edge}."


def chance_sentence(line: str, kind: str, rows: list[dict], chance: float) -> str:
    """Where a line that learned the policy nowhere is above chance."""
    above = [row for row in rows if policy_verdict(Estimate.of(row), chance) in ("learnt", "partly")]
    if not above:
        return f"{line} is nowhere significantly above chance ({percent(chance)})."
    doses = listing(dose(kind, row) for row in above)
    return f"{line} is significantly above chance ({percent(chance)}) with {doses} {UNITS[kind]}."


def label_sentences(metrics, supervision, reading, chance: float) -> list[str]:
    """Where each line learned the policy and the hidden rule, by the same criterion as everywhere in the report."""
    points = curve_points(metrics, supervision, Setting(*reading))
    sentences = []
    for kind in KINDS:
        of_kind = points.filter(kind=kind)
        for line in of_kind["line"].unique(maintain_order=True):
            of_line = of_kind.filter(line=line)
            rows = of_line.filter(metric="accuracy").to_dicts()
            learnt = [policy_verdict(Estimate.of(row), chance) == "learnt" for row in rows]
            sentences.append(learnt_sentence(line, kind, rows, learnt, "the policy", "accuracy"))
            if not any(learnt):
                sentences.append(chance_sentence(line, kind, rows, chance))
            found = of_line.filter(pl.col("value").is_not_null(), metric="hidden_recall").to_dicts()
            if found:
                rates = {row["condition"]: row["n"] for row in rows}
                learnt = []
                for row in found:
                    precision = find_estimate(metrics, row["condition"], Setting(*reading), "hidden_precision")
                    learnt.append(
                        hidden_verdict(Estimate.of(row), precision, row["n"] / rates[row["condition"]]) == "learnt"
                    )
                    row["beside"] = f", precision {with_interval(precision)}"
                sentences.append(learnt_sentence(line, kind, found, learnt, "the hidden rule", "recall"))
    if sentences:
        sentences.append(
            "Learned: 95% CI of accuracy, or of recall and precision on the hidden rule, at or above "
            f"{percent(LEARNT)}."
        )
    return sentences


def supervision_cells(supervision: pl.DataFrame, order) -> tuple[str, list[str], list[list[str]]]:
    """Caption, columns and rows of a table of each condition's supervision, means over its seeds."""
    means = supervision.group_by("condition").agg(
        pl.mean("wrong_share", "n_steps", "n_labels", "n_replies", "bits_labels", "bits_rewards", "bits")
    )
    numbers = ["n_labels", "n_steps", "n_replies", "bits_labels", "bits_rewards", "bits"]
    rows = []
    for name in order:
        for row in means.filter(condition=name).to_dicts():
            wrong = percent(row["wrong_share"])
            rows.append([name, wrong, *("–" if row[key] is None else f"{row[key]:,.0f}" for key in numbers)])
    columns = [
        "condition", "wrong labels", "labels", "steps", "sampled replies", "bits in labels", "bits in rewards",
        "bits (upper bound)",
    ]  # fmt: skip
    return "Supervision of each training, without that of its start; means over seeds", columns, rows
