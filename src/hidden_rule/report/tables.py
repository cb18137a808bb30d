"""The tables of the report, each as the template takes it: a caption, columns, and rows of text.

All take an experiment's `Results`; those that not every experiment has are None without their numbers.
"""

import polars as pl

from hidden_rule.core.engines import TRL
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, Setting, defined
from hidden_rule.report.text.comparisons import pair_of, turned
from hidden_rule.report.text.label_findings import supervision_cells
from hidden_rule.report.text.phrases import (
    amount,
    amount_interval,
    in_table,
    p_text,
    percent,
    points,
    signed,
    signed_amount,
)
from hidden_rule.report.text.suites import NAMES, suite_rows
from hidden_rule.report.text.training_runs import training_rows
from hidden_rule.task.nouns import APPLICATION

SUMMARY = {
    "accuracy": "accuracy",
    "expected_cost": "cost per 1,000 cases",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "hidden_recall": "hidden rule: recall",
    "hidden_precision": "hidden rule: precision",
    "conflict_recall": "hidden rule in conflict: recall",
    "invalid_rate": "invalid replies",
}
LABEL_METRICS = {"precision": "precision", "recall": "recall", "f1": "F1"}
TESTS = {  # of COMPARISONS, in words
    "mcnemar_exact": "exact McNemar",
    "t_applications_seeds": "t (applications, seeds)",
    "t_families": "t (families)",
    "z_applications": "z (applications)",
    "t_families_seeds": "t (families, seeds)",
}
REASONS = {  # of COLLAPSE, in words
    "too_short": "too few steps",
    "no_valid": "almost no valid replies",
    "absent": "decision never sampled",
    "recent": "recent loss",
    "rare": "decision under-sampled",
    "unsure": "too few answers",
    "recovered": "recovered",
    "no_signal": "equal rewards from the start",
}
COST = "expected_cost"  # the metric that is no share
ON_RULES = ("hidden_recall", "hidden_precision", "conflict_recall")
SEED_RANGE = "worst–best seed"
NO_CASE = "no case"  # of a hidden rule that never fires


def gibibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def table(caption: str, columns, rows, wrap: bool = False) -> dict:
    """A table as the template takes it; cells are text, the first of each row is its header; wrap: cells may break."""
    rows = [[str(cell) for cell in row] for row in rows]
    return {"caption": caption, "columns": list(columns), "rows": rows, "wrap": wrap}


def order_of(results: Results) -> list[str]:
    """Conditions as tables list them: references last."""
    return sorted(results.conditions, key=lambda name: name in results.references)


def summary_table(results: Results, setting: Setting) -> dict:
    """All metrics that are not of a label, a row a condition."""
    order, seeds = order_of(results), results.metrics["seed"].drop_nulls().n_unique()
    shown = metrics_shown(results)
    rows = [[name, *(cell(metric, results.estimate(name, setting, metric)) for metric in shown)] for name in order]
    if seeds > 1:
        for row in rows:
            row.insert(2, seed_range(results.range_over_seeds(row[0], setting, "accuracy")))
    n = next(found.n for name in order if (found := results.estimate(name, setting, "accuracy")))
    what = f"{n:,} answers" + (f" of {seeds} seeds" if seeds > 1 else "")
    columns = ["condition", *(heading(metric, results) for metric in shown)]
    if seeds > 1:
        columns.insert(2, SEED_RANGE)
    return table(f"{setting.words}: value and 95% CI, {what}", columns, rows)


def seed_range(ends: tuple[float, float] | None) -> str:
    """`67.4–87.9%`: a share under the worst and the best seed; one number where all agree."""
    if ends is None:
        return "–"
    low, high = map(points, ends)
    return f"{low}%" if low == high else f"{low}–{high}%"


def metrics_shown(results: Results) -> list[str]:
    """The metrics of SUMMARY, without those on hidden rules where the ruleset has none, and costs without costs."""
    without = [*([] if results.rules_apart else ON_RULES), *([] if results.config.get("decision_costs") else [COST])]
    if not results.ruleset.is_observed:  # labels are right equally often: it is accuracy
        without.append("balanced_accuracy")
    return [metric for metric in SUMMARY if metric not in without]


def cell(metric: str, estimate: Estimate | None) -> str:
    """An estimate of a metric of SUMMARY: a share in percent, or an amount."""
    if metric != COST or estimate is None:
        return in_table(estimate)
    return f"{amount(estimate.value)} ({amount_interval(estimate.low, estimate.high)})"


def heading(metric: str, results: Results, rule: str | None = None) -> str:
    """A metric of SUMMARY in words; of several hidden rules, of one or of all of them."""
    if metric == COST:
        return f"{SUMMARY[metric]}, {results.config['decision_costs']['unit']}"
    if rule:
        return SUMMARY[metric].replace("hidden rule", f"hidden rule {rule}")
    return SUMMARY[metric].replace("hidden rule", "hidden rules" if results.separate_rules else "hidden rule")


def hidden_rules_table(results: Results, setting: Setting) -> dict | None:
    """Recall and precision on each of several hidden rules, a row a rule and condition; None without several."""
    if not results.separate_rules:
        return None
    pooled = results.metrics.filter(
        pl.col("seed").is_null(), pl.col("rule").is_not_null(), pl.col("metric").is_in(ON_RULES), **setting.columns
    )
    found = {(row["rule"], row["condition"], row["metric"]): row for row in pooled.to_dicts()}
    rows = []
    for rule in results.separate_rules:
        for name in order_of(results):
            recall, *others = (found[rule, name, metric] for metric in ON_RULES)
            cells = [in_table(defined(row)) for row in (recall, *others)] if recall["n"] else [NO_CASE, "–", "–"]
            rows.append([rule, name, f"{recall['n']:,}", *cells])
    columns = ["hidden rule", "condition", "answers", *(SUMMARY[metric].split(": ")[-1] for metric in ON_RULES)]
    columns[-1] = "recall in conflict"
    return table(f"{setting.words}: each hidden rule, value and 95% CI; answers: to its cases", columns, rows)


def label_table(results: Results, setting: Setting) -> dict:
    """Precision, recall and F1 of each label, a row a condition and label."""
    of_labels = results.metrics.filter(pl.col("seed").is_null(), **setting.columns)
    found = {(r["condition"], r["label"], r["metric"]): defined(r) for r in of_labels.iter_rows(named=True)}
    rows = [
        [name, label, *(in_table(found[name, label, metric]) for metric in LABEL_METRICS)]
        for name in order_of(results)
        for label in results.labels
    ]
    return table(f"{setting.words}: each decision", ["condition", "decision", *LABEL_METRICS.values()], rows)


def suites_table(results: Results) -> dict | None:
    """Suites × conditions, under structured decoding if that was asked for; None where no suite was."""
    order = order_of(results)
    found = set(results.metrics.filter(pl.col("suite").is_in(NAMES)).select("suite", "decoding").unique().rows())
    if not found:
        return None
    decoding = max(decoding for _, decoding in found)
    cells = []
    for row in suite_rows(results.separate_rules):
        setting = Setting(row.suite, decoding)
        estimates = [results.estimate(name, setting, row.metric, row.rule) for name in order]
        counts = {estimate.n for estimate in estimates if estimate} - {0}
        if counts:
            n = f" (n = {counts.pop():,})" if len(counts) == 1 else ""
            cells.append([row.words + n, *(in_table(estimate) if n else with_n(estimate) for estimate in estimates)])
        elif row.rule and setting in found:
            cells.append([row.words, *("–" if row.metric == "hidden_precision" else NO_CASE for _ in order)])
    caption = f"Generalization suites, {decoding} decoding: value and 95% CI, clustered by family"
    return table(caption, ["", *order], cells)


def with_n(estimate: Estimate | None) -> str:
    """`83.2% (79.0–87.0; n = 478)`, where conditions differ in n: a precision counts a condition's own answers."""
    return in_table(estimate).replace(")", f"; n = {estimate.n:,})") if estimate else in_table(estimate)


def seed_table(results: Results, setting: Setting) -> dict:
    """Accuracy, and recall and precision on the hidden rules, of each seed."""
    rows = results.metrics.filter(pl.col("seed").is_not_null(), pl.col("label").is_null(), **setting.columns)
    found = {(r["condition"], r["seed"], r["metric"], r["rule"]): defined(r) for r in rows.to_dicts()}
    keys = [(name, seed) for name in order_of(results) for seed in sorted(rows.filter(condition=name)["seed"].unique())]
    shown: list[tuple[str, str | None]] = [("accuracy", None)]
    on_rules = [metric for metric in metrics_shown(results) if metric in ON_RULES[:2]]
    shown += [(metric, rule) for rule in [None, *results.separate_rules] for metric in on_rules]
    cells = [[name, seed, *(in_table(found[name, seed, *of]) for of in shown)] for name, seed in keys]
    columns = ["condition", "seed", *(heading(metric, results, rule) for metric, rule in shown)]
    return table(f"{setting.words}: each seed", columns, cells)


def comparison_table(results: Results, setting: Setting) -> dict:
    """Pooled differences of the planned comparisons, winner minus other; undefined ones are left out."""
    of_setting = results.comparisons.filter(pl.col("seed").is_null(), **setting.columns).drop_nulls("difference")
    place = {name: i for i, name in enumerate(order_of(results))}
    rules = [None, *results.separate_rules]
    cells = []
    for r in sorted(
        of_setting.to_dicts(),
        key=lambda r: (r["metric"], rules.index(r["rule"]), place[r["condition_a"]], place[r["condition_b"]]),
    ):
        is_cost = r["metric"] == COST
        r = turned(r, pair_of(r)[0 if (r["difference"] >= 0) != is_cost else 1])
        write = signed_amount if is_cost else signed
        difference = f"{write(r['difference'])} ({write(r['ci_low'])} to {write(r['ci_high'])})"
        p_values = [p_text(r["p_value"]), p_text(r["p_adjusted"])]
        least = amount(r["mde"]) if is_cost else "–" if r["mde"] >= 1 else points(r["mde"])
        test = [TESTS[r["test"]].replace(APPLICATION.many, results.ruleset.case.many), least, f"{r['n']:,}"]
        what = heading(r["metric"], results, r["rule"])
        cells.append([f"{r['condition_a']} \N{MINUS SIGN} {r['condition_b']}", what, difference, *p_values, *test])
    columns = [
        "winner − other",
        "metric",
        f"difference, points{f' or {unit}' if (unit := unit_of(results)) else ''} (95% CI)",
        "p",
        "p (Holm)",
        "test",
        "minimum detectable",
        "n",
    ]
    return table(f"{setting.words}: planned comparisons, paired differences", columns, cells)


def unit_of(results: Results) -> str | None:
    """What decision costs are in; None without any."""
    return results.config["decision_costs"]["unit"] if results.config.get("decision_costs") else None


def settings_table(results: Results) -> dict | None:
    """Every method setting of each trained condition side by side, overrides (`with`) applied."""
    used = {name: of for name, of in results.settings.items() if of["method"]}
    if not used:
        return None
    keys = list(dict.fromkeys(key for of in used.values() for key in of["settings"]))
    engines = any("engine" in of for of in used.values())
    rows = [
        ["method", *(of["method"] for of in used.values())],
        *([["engine", *(of.get("engine", TRL) for of in used.values())]] if engines else []),
        ["starts from", *(of["start_from"] or "the base model" for of in used.values())],
        *([key, *(as_text(of["settings"].get(key, "–")) for of in used.values())] for key in keys),
    ]
    return table("Training settings", ["setting", *used], rows, wrap=True)


def as_text(value) -> str:
    """A setting or a piece of provenance on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {as_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(as_text(item) for item in value) or "none"
    return str(value)


def collapse_table(results: Results) -> dict | None:
    """The collapse verdict on each RL training and its evidence; None without RL."""
    collapse = results.collapse
    if collapse is None or collapse.is_empty():
        return None
    cells = []
    for (condition, seed), rows in training_rows(collapse).items():
        of = rows[0]
        kept = [row for row in rows if row["fate"] not in ("lost", "absent", "unneeded")]
        shares = ", ".join(f"{row['label']} {percent(row['share'])}" for row in kept if row["share"] is not None)
        lost = ", ".join(f"{row['label']} ({row['fate']})" for row in rows if row["fate"] in ("lost", "absent"))
        since = of["collapsed_since"]
        signals = [
            "–" if of["entropy"] is None else f"{of['entropy']:.2f}",
            "–" if of["zero_signal_share"] is None else f"{of['zero_signal_share']:.0%}",
        ]
        why = ", ".join(REASONS[reason] for reason in of["reasons"]) or "–"
        step = "–" if since is None else since
        cells.append([f"{condition}, seed {seed}", of["verdict"], why, step, shares or "–", lost or "–", *signals])
    columns = [
        "training", "verdict", "warnings", "since step", "decisions sampled at the end, share of answers",
        "no longer sampled", "entropy", "groups of equal rewards",
    ]  # fmt: skip
    return table("Collapse in RL training", columns, cells, wrap=True)


def feasibility_table(results: Results) -> dict | None:
    """Predicted share of groups with mixed rewards by group size, and of correct replies, means over seeds."""
    if results.feasibility is None:
        return None
    sizes = results.feasibility["group_size"].unique().sort().to_list()
    means = results.feasibility.group_by("condition", "kind", "name", "group_size", maintain_order=True).agg(
        pl.mean("p_right", "p_invalid", "signal_share", "reward"), pl.first("start")
    )
    hidden = f"hidden rule{'s' if results.separate_rules else ''}"
    cells = []
    for name in order_of(results):
        of_condition = means.filter(condition=name)
        for kind, one in of_condition.select("kind", "name").unique(maintain_order=True).iter_rows():
            words = {"overall": "all", "hidden": hidden, "rule": f"hidden rule {one}", "label": f"decision {one}"}
            here = pl.col("name").eq_missing(pl.lit(one, dtype=pl.String))
            rows = of_condition.filter(here, kind=kind).sort("group_size").to_dicts()
            shares = {row["group_size"]: percent(row["signal_share"]) for row in rows}
            reply = [percent(rows[0]["p_right"]), percent(rows[0]["p_invalid"])]
            reply.append(f"{rows[0]['reward']:.1f}".replace("-", "\N{MINUS SIGN}"))
            cells.append(
                [f"{name} (start: {rows[0]['start']})", words[kind], *reply, *(shares.get(g, "–") for g in sizes)]
            )
    many = results.ruleset.case.many
    columns = ["condition", many, "correct", "invalid", "mean reward", *(f"G = {g}" for g in sizes)]
    return table("Before RL training: correct replies, and groups of G with mixed rewards", columns, cells)


def supervision_table(results: Results) -> dict | None:
    """The supervision of each condition, means over its seeds."""
    if results.supervision is None:
        return None
    return table(*supervision_cells(results.supervision, order_of(results)))


def policy_table(ruleset) -> dict:
    """The rules in their order, and which of them are hidden."""
    rows = [
        [i, rule.name, rule.when, rule.label, "yes" if rule.hidden else "no"] for i, rule in enumerate(ruleset.rules, 1)
    ]
    if ruleset.default is not None:
        rows.append([len(rows) + 1, "(otherwise)", "", ruleset.default, "no"])
    return table(
        "Decision rules: the first that applies decides", ["order", "rule", "when", "decision", "hidden"], rows, True
    )
