"""Sentences and a table on learning curves, made from numbers: with how many labels, and how wrong, was it learnt?"""

import polars as pl

from hidden_rule.experiment.runs import Estimate, Setting, find_estimate
from hidden_rule.report.charts.labels import KINDS, curve_points
from hidden_rule.report.text.phrases import listing, percent, with_interval
from hidden_rule.report.text.rule_learning import LEARNT, hidden_verdict, policy_verdict

UNITS = {"labels": "labels", "noise": "of the labels wrong"}  # after a number of them
SHARES = {"labels": "numbers of labels", "noise": "shares of wrong labels"}


def dose(kind: str, row: dict) -> str:
    """What a point of a line was given, in words."""
    return f"{row['train_rows']:,}" if kind == "labels" else f"{100 * row['label_noise']:g}%"


def said(row: dict) -> str:
    """A point's value, and what is to be said beside it."""
    return with_interval(Estimate.of(row)) + row.get("beside", "")


def learnt_sentence(line: str, kind: str, rows: list[dict], learnt: list[bool], what: str, value: str) -> str:
    """With which labels, or shares of wrong ones, a line learnt `what`.

    rows: its points in order of what varies, `beside` what else to say of a value; learnt: of each, whether; value:
    what the points hold, in words.
    """
    unit, doses = UNITS[kind], listing(dose(kind, row) for row in rows)
    tried = f"the {SHARES[kind]} tried ({doses})"
    best = max(rows, key=lambda row: row["value"])
    kept = [row for row, yes in zip(rows, learnt, strict=True) if yes]
    lost = [row for row, yes in zip(rows, learnt, strict=True) if not yes]
    if not kept:
        top = f"the highest {value} is {said(best)}, with {dose(kind, best)}"
        return f"{line} learnt {what} with none of {tried}: {top}."
    if kind == "noise" and not lost:
        return f"{line} learnt {what} with each of {tried}."
    if kind == "labels":
        edge = f"{dose(kind, kept[0])} are the fewest, {value} {said(kept[0])}"
    else:
        edge = f"the lowest share with which it did not is {dose(kind, lost[0])}, {value} {said(lost[0])}"
    return f"{line} learnt {what} with {listing(dose(kind, row) for row in kept)} {unit}, of {doses} tried: {edge}."


def chance_sentence(line: str, kind: str, rows: list[dict], chance: float) -> str:
    """Where a line that nowhere learnt the policy can be told from chance."""
    above = [row for row in rows if policy_verdict(Estimate.of(row), chance) in ("learnt", "partly")]
    if not above:
        return f"{line} is nowhere above chance ({percent(chance)})."
    return f"{line} is above chance ({percent(chance)}) with {listing(dose(kind, row) for row in above)} {UNITS[kind]}."


def label_sentences(metrics, supervision, reading, chance: float) -> list[str]:
    """What each line shows of the policy and of the hidden rule; "learnt" is what it is everywhere in the report."""
    points = curve_points(metrics, supervision, reading)
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
                    row["beside"] = f", the precision there {with_interval(precision)}"
                sentences.append(learnt_sentence(line, kind, found, learnt, "the hidden rule", "recall"))
    if sentences:
        sentences.append(f"Learnt: a 95% interval at or above {percent(LEARNT)}, of precision too for the hidden rule.")
    return sentences


def supervision_cells(supervision: pl.DataFrame, order) -> tuple[str, list[str], list[list[str]]]:
    """Caption, columns and rows of a table of what each condition was told, means over its seeds."""
    means = supervision.group_by("condition").agg(
        pl.mean("wrong_share", "n_steps", "n_labels", "n_replies", "bits_labels", "bits_rewards", "bits")
    )
    numbers = ["n_labels", "n_steps", "n_replies", "bits_labels", "bits_rewards", "bits"]
    rows = []
    for name in order:
        for row in means.filter(condition=name).to_dicts():
            wrong = percent(row["wrong_share"])
            rows.append([name, wrong, *("–" if row[key] is None else f"{row[key]:,.0f}" for key in numbers)])
    columns = ["condition", "wrong", "labels", "steps", "replies", "bits in labels", "bits in rewards", "bits at most"]
    return "What each training was told, without what its start had been told; means over seeds", columns, rows
