"""Sentences and a table on label efficiency and label noise."""

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, guess_words, of_rule
from hidden_rule.report.text.comparisons import differs, turned
from hidden_rule.report.text.evidence import on_hidden_rule
from hidden_rule.report.text.phrases import interval, listing, p_text, percent, points, with_interval
from hidden_rule.report.text.rule_learning import LEARNED, policy_verdict
from hidden_rule.statistics.label_curves import KINDS, curve_points

UNITS = {"labels": "labels", "noise": "wrong labels"}  # after a number of them
LEVELS = {"labels": "training-set size", "noise": "noise level"}


def dose(kind: str, row: dict) -> str:
    """The labels of a point of a line, or the share of them that is wrong."""
    return f"{row['train_rows']:,}" if kind == "labels" else f"{100 * row['label_noise']:g}%"


def value_text(row: dict) -> str:
    """A point's value, and the precision on the hidden rule where the point has one."""
    precision = f", precision {with_interval(row['precision'])}" if "precision" in row else ""
    return with_interval(Estimate.of(row)) + precision


def learned_sentence(line: str, kind: str, rows: list[dict], what: str, metric: str) -> str:
    """With which numbers of labels, or shares of wrong ones, a line learned `what`.

    rows: its points in order of what varies, each with `learned`: whether; metric: of the points, in words.
    """
    unit, tried = UNITS[kind], f"tried: {listing(dose(kind, row) for row in rows)}"
    best = max(rows, key=lambda row: row["value"])
    kept = [row for row in rows if row["learned"]]
    lost = [row for row in rows if not row["learned"]]
    if not kept:
        top = f"highest {metric} {value_text(best)}, at {dose(kind, best)} {unit}"
        return f"{line} did not learn {what} at any {LEVELS[kind]} ({tried}); {top}."
    if kind == "noise" and not lost:
        return f"{line} learned {what} at every noise level ({tried})."
    if kind == "labels":
        edge = f"fewest: {dose(kind, kept[0])}, {metric} {value_text(kept[0])}"
    else:
        edge = f"lowest failing level: {dose(kind, lost[0])}, {metric} {value_text(lost[0])}"
    return f"{line} learned {what} with {listing(dose(kind, row) for row in kept)} {unit} ({tried}); {edge}."


def chance_sentence(line: str, kind: str, rows: list[dict], chance: float) -> str:
    """Where a line that learned the policy nowhere is above chance."""
    above = [row for row in rows if policy_verdict(Estimate.of(row), chance) in ("learned", "partly")]
    if not above:
        return f"{line} is nowhere significantly above {guess_words(chance)} ({percent(chance)})."
    doses = listing(dose(kind, row) for row in above)
    return f"{line} is significantly above {guess_words(chance)} ({percent(chance)}) with {doses} {UNITS[kind]}."


def noise_sentences(line: str, rows: list[dict], pairs: list[dict]) -> list[str]:
    """What label noise costs against clean labels, and whether that is significant; nothing without clean labels.

    rows: the points of a line of noise; pairs: pooled comparisons of accuracy.
    """
    clean = next((row["condition"] for row in rows if row["label_noise"] == 0), None)
    if clean is None:
        return []
    found = {frozenset((row["condition_a"], row["condition_b"])): row for row in pairs}
    losses, significant = [], []
    for row in rows:
        pair = found.get(frozenset((clean, row["condition"]))) if row["condition"] != clean else None
        if pair is None:
            continue
        loss, level = turned(pair, clean), dose("noise", row)
        bounds = interval(loss["ci_low"], loss["ci_high"])
        losses.append(f"{points(loss['difference'])} at {level} (95% CI {bounds}; {p_text(loss['p_adjusted'])})")
        if differs(pair):
            significant.append(level)
    if not losses:
        return []
    verdict = f"significant at {listing(significant)}" if significant else "not significant at any level"
    return [f"{line}, loss of accuracy in points against 0% wrong labels: {', '.join(losses)}; {verdict}."]


def rule_rows(results: Results, of_line: pl.DataFrame, rule: str | None) -> list[dict]:
    """The points of a line's recall on a hidden rule (None: on all), each with its `precision` and `learned`."""
    rows = of_line.filter(pl.col("value").is_not_null(), of_rule(rule), metric="hidden_recall").to_dicts()
    found = on_hidden_rule(results, [row["condition"] for row in rows], rule)
    for row in rows:
        row["precision"] = found.precisions[row["condition"]]
        row["learned"] = found.verdict(row["condition"]) == "learned"
    return rows


def label_sentences(results: Results) -> list[str]:
    """Where each line learned the policy and the hidden rule, by the same criterion as everywhere in the report.

    Nothing where conditions differ neither in labels nor in noise.
    """
    if results.supervision is None:
        return []
    curves = curve_points(results.metrics, results.supervision, results.main)
    of_main = results.comparisons.filter(pl.col("seed").is_null(), metric="accuracy", **results.main.columns)
    sentences = []
    for kind in KINDS:
        of_kind = curves.filter(kind=kind)
        for line in of_kind["line"].unique(maintain_order=True):
            of_line = of_kind.filter(line=line)
            rows = of_line.filter(metric="accuracy").to_dicts()
            for row in rows:
                row["learned"] = policy_verdict(Estimate.of(row), results.chance) == "learned"
            sentences.append(learned_sentence(line, kind, rows, "the policy", "accuracy"))
            if not any(row["learned"] for row in rows):
                sentences.append(chance_sentence(line, kind, rows, results.chance))
            if kind == "noise":
                sentences += noise_sentences(line, rows, of_main.to_dicts())
            for rule in results.rules_apart:
                what = f"the hidden rule {rule}" if rule else "the hidden rule"
                if on_rule := rule_rows(results, of_line, rule):
                    sentences.append(learned_sentence(line, kind, on_rule, what, "recall"))
    if sentences:
        the = "a hidden rule" if results.separate_rules else "the hidden rule"
        criterion = f"95% CI of accuracy, or of recall and precision on {the}, at or above"
        sentences.append(f"Learned: {criterion} {percent(LEARNED)}.")
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
