"""The report: one HTML page that needs no network, made from tables, charts and provenance.

The page runs no script: its content security policy forbids all of them, and every text is escaped by the template.
Charts stand in it as images (data URIs), so that nothing inside one can reach the page.
"""

import base64
import json
import re
from pathlib import Path

import jinja2
import polars as pl

from hidden_rule.experiment.config import condition_settings
from hidden_rule.experiment.runs import Estimate, Setting, find_estimate
from hidden_rule.report.charts.style import in_words, readings
from hidden_rule.report.text.baselines import describe_references, hidden_rule_note
from hidden_rule.report.text.findings import conclude
from hidden_rule.report.text.label_findings import label_sentences, supervision_cells
from hidden_rule.report.text.phrases import duration, p_text, percent, points, signed, with_interval
from hidden_rule.report.text.rule_learning import SUITES
from hidden_rule.report.text.shortcuts import shortcut_sentences
from hidden_rule.report.text.training_runs import feasibility_sentences, training_rows, without_signal
from hidden_rule.statistics.outcomes import scan_predictions

EXAMPLES = 2  # replies of each kind (right, wrong, invalid) for each condition
MAX_REPLY = 300  # characters of a reply that are shown
NOT_LISTED = ("packages", "config", "timings")  # of the provenance: shown elsewhere, or in its JSON only
SUMMARY = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "hidden_recall": "hidden rule: recall",
    "hidden_precision": "hidden rule: precision",
    "conflict_recall": "hidden rule in conflict: recall",
    "invalid_rate": "invalid replies",
}
CHARTS = {
    "accuracy": "Share of right decisions by condition, with 95% intervals, for each suite and decoding.",
    "forest": "Difference of accuracy between pairs of conditions, with 95% intervals; filled where significant.",
    "hidden_rule": "Recall and precision on the hidden rule by condition, with 95% intervals.",
    "suites": "What each condition made of each suite, with 95% intervals; the darker, the better.",
    "cost": "Accuracy against training time, with 95% intervals and the conditions that none beats in both.",
    "confusion": "Confusion matrix of each condition: what it answered, by what was right.",
    "calibration": "Share of right answers by their probability, with 95% intervals, a panel a condition.",
    "learning": "Validation accuracy over optimizer steps and over training time.",
    "training": "Validation accuracy, reward and loss over optimizer steps.",
    "collapse": "Share of each decision in the sampled answers over steps, with entropy and groups without signal.",
    "labels": "Accuracy and recall on the hidden rule against labels, seconds, tokens, bits and wrong labels.",
}


def gibibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def table(caption: str, columns, rows, wrap: bool = False) -> dict:
    """A table as the template takes it; cells are text, the first of each row is its header; wrap: cells may break."""
    rows = [[str(cell) for cell in row] for row in rows]
    return {"caption": caption, "columns": list(columns), "rows": rows, "wrap": wrap}


def summary_table(metrics: pl.DataFrame, order, reading) -> dict:
    """All metrics that are not of a label, a row a condition."""
    rows = [
        [name, *(with_interval(find_estimate(metrics, name, Setting(*reading), metric)) for metric in SUMMARY)]
        for name in order
    ]
    n = next(row.n for name in order if (row := find_estimate(metrics, name, Setting(*reading), "accuracy")))
    seeds = metrics["seed"].drop_nulls().n_unique()
    what = f"{n:,} answers" + (f" of {seeds} seeds" if seeds > 1 else "")
    return table(f"{in_words(reading)}: value and 95% interval, {what}", ["condition", *SUMMARY.values()], rows)


def label_table(metrics: pl.DataFrame, order, labels, reading) -> dict:
    """Precision, recall and F1 of each label, a row a condition and label."""
    of_labels = metrics.filter(pl.col("seed").is_null(), suite=reading[0], decoding=reading[1])
    found = {(r["condition"], r["label"], r["metric"]): r for r in of_labels.iter_rows(named=True)}
    names = ["precision", "recall", "f1"]
    rows = [
        [name, label, *(with_interval(Estimate.of(found[name, label, metric])) for metric in names)]
        for name in order
        for label in labels
    ]
    return table(f"{in_words(reading)}: each decision", ["condition", "decision", "precision", "recall", "F1"], rows)


def suites_table(metrics: pl.DataFrame, order) -> dict | None:
    """Suites × conditions, under structured decoding if that was asked for; None where no suite was."""
    names = [suite for suite, _ in SUITES]
    found = metrics.filter(pl.col("suite").is_in(names)).select("suite", "decoding").unique().rows()
    if not found:
        return None
    decoding = max(decoding for _, decoding in found)
    cells = []
    for (suite, metric), (words, _) in SUITES.items():
        rows = [find_estimate(metrics, name, Setting(suite, decoding), metric) for name in order]
        n = max((row.n for row in rows if row), default=0)
        if n:
            cells.append([f"{words} (n = {n:,})", *map(with_interval, rows)])
    return table(
        f"What was learnt: suites, {decoding} decoding; 95% intervals, clustered by family", ["", *order], cells
    )


def seed_table(metrics: pl.DataFrame, order, reading) -> dict:
    """Accuracy and recall on the hidden rule of each seed."""
    rows = metrics.filter(pl.col("seed").is_not_null(), suite=reading[0], decoding=reading[1])
    found = {(r["condition"], r["seed"], r["metric"]): r for r in rows.filter(pl.col("label").is_null()).to_dicts()}
    names = ["accuracy", "hidden_recall", "hidden_precision"]
    keys = [(name, seed) for name in order for seed in sorted(rows.filter(condition=name)["seed"].unique())]
    cells = [
        [name, seed, *(with_interval(Estimate.of(found[name, seed, metric])) for metric in names)]
        for name, seed in keys
    ]
    return table(f"{in_words(reading)}: each seed", ["condition", "seed", *(SUMMARY[name] for name in names)], cells)


def comparison_table(comparisons: pl.DataFrame, order, reading) -> dict:
    """Pooled differences of each pair of conditions, in the order of the conditions; undefined ones are left out."""
    rows = comparisons.filter(pl.col("seed").is_null(), suite=reading[0], decoding=reading[1]).drop_nulls("difference")
    cells = []
    for r in sorted(
        rows.to_dicts(), key=lambda r: (r["metric"], order.index(r["condition_a"]), order.index(r["condition_b"]))
    ):
        difference = f"{signed(r['difference'])} ({signed(r['ci_low'])} to {signed(r['ci_high'])})"
        p_values = [p_text(r["p_value"]), p_text(r["p_adjusted"])]
        test = [r["test"].replace("_", " "), "–" if r["mde"] >= 1 else points(r["mde"]), f"{r['n']:,}"]
        cells.append([f"{r['condition_a']} − {r['condition_b']}", SUMMARY[r["metric"]], difference, *p_values, *test])
    columns = [
        "conditions",
        "metric",
        "difference in points (95% interval)",
        "p",
        "p (Holm)",
        "test",
        "detectable",
        "n",
    ]
    return table(f"{in_words(reading)}: differences on the same applications", columns, cells)


def cost_table(costs: pl.DataFrame, order) -> dict:
    """What each condition cost over all its seeds; peak memory is the largest of them."""
    sums = costs.group_by("condition", "stage").agg(
        pl.len(), pl.sum("wall_s", "n_tokens_trained", "n_tokens_generated"), pl.max("peak_bytes"),
        pl.col("device").unique().sort().str.join(", "),
    )  # fmt: skip
    cells = []
    for name in order:
        for r in sums.filter(condition=name).sort("stage", descending=True).iter_rows(named=True):
            tokens = [f"{r['n_tokens_trained'] or 0:,}", f"{r['n_tokens_generated'] or 0:,}"]
            memory = gibibytes(r["peak_bytes"]) if r["peak_bytes"] else "–"
            cells.append([name, r["stage"], r["len"], duration(r["wall_s"]), *tokens, memory, r["device"]])
    columns = ["condition", "stage", "runs", "time", "tokens trained on", "tokens generated", "peak memory", "device"]
    return table("What it cost, summed over runs", columns, cells)


def settings_table(config: dict, order) -> dict | None:
    """Every method setting of each trained condition side by side, overrides (`with`) applied."""
    used = {name: condition_settings(config, name) for name in order}
    used = {name: of for name, of in used.items() if of["method"]}
    if not used:
        return None
    keys = list(dict.fromkeys(key for of in used.values() for key in of["settings"]))
    rows = [
        ["method", *(of["method"] for of in used.values())],
        ["starts from", *(of["start_from"] or "the base model" for of in used.values())],
        *([key, *(as_text(of["settings"].get(key, "–")) for of in used.values())] for key in keys),
    ]
    return table("Settings of each training", ["setting", *used], rows, wrap=True)


def as_text(value) -> str:
    """A setting or a piece of provenance on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {as_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(as_text(item) for item in value) or "none"
    return str(value)


def collapse_table(collapse: pl.DataFrame | None) -> dict | None:
    """The verdict on each training by reward, and what it rests on; None where there was none."""
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
        why = ", ".join(reason.replace("_", " ") for reason in of["reasons"]) or "–"
        step = "–" if since is None else since
        cells.append([f"{condition}, seed {seed}", of["verdict"], why, step, shares or "–", lost or "–", *signals])
    columns = [
        "training", "verdict", "reasons", "since step", "decisions made at the end, share of its answers", "not made",
        "entropy", "groups without signal",
    ]  # fmt: skip
    return table("Collapse of training by reward", columns, cells, wrap=True)


def group_sizes(config: dict, order) -> dict[str, int]:
    """The group size of each condition that GRPO trains."""
    used = {name: condition_settings(config, name) for name in order}
    return {name: of["settings"]["group_size"] for name, of in used.items() if of["method"] == "grpo"}


def setting_list(config: dict) -> list[tuple[str, str]]:
    """What all conditions share."""
    keys = ["model", "decoding", "data", "lora", "seeds", "evaluation"]
    return [(key, as_text(config[key])) for key in keys if key in config]


def policy_table(ruleset) -> dict:
    """The rules in their order, and which of them are hidden."""
    rows = [
        [i, rule.name, rule.when, rule.label, "yes" if rule.hidden else "no"] for i, rule in enumerate(ruleset.rules, 1)
    ]
    rows.append([len(rows) + 1, "otherwise", "", ruleset.default, "no"])
    return table(
        "The policy: the first rule that holds decides", ["order", "rule", "when", "decision", "hidden"], rows, True
    )


def examples(predictions, jobs, labels, reading) -> list[dict]:
    """A few replies of each condition's first seed: right, wrong and invalid ones, those of the lowest ids."""
    shown, seen = [], set()
    for path, (condition, seed) in zip(predictions, jobs, strict=True):
        if condition in seen:
            continue
        seen.add(condition)
        kind = (
            pl.when(pl.col("predicted").is_null()).then(pl.lit("invalid"))
            .when(pl.col("predicted") == pl.col("label")).then(pl.lit("right"))
            .otherwise(pl.lit("wrong"))
        )  # fmt: skip
        rows = (
            scan_predictions(path, labels)
            .filter(suite=reading[0], decoding=reading[1])
            .select("application_id", "label", pl.col("reply").str.slice(0, MAX_REPLY + 1), kind=kind)
            .sort("application_id")
            .group_by("kind", maintain_order=True)
            .head(EXAMPLES)
            .sort("kind", "application_id")
            .collect()
        )
        for r in rows.iter_rows(named=True):
            reply = r["reply"] or ""
            reply = reply[:MAX_REPLY] + "…" if len(reply) > MAX_REPLY else reply
            shown.append(r | {"condition": condition, "seed": seed, "reply": reply})
    return shown


def embed_chart(svg_path, report_path, alt: str) -> dict:
    """An SVG as a data URI with its width in px, and a relative link to its interactive page where that lies beside."""
    path = Path(svg_path)
    text = path.read_bytes()
    width = re.search(rb'<svg[^>]*?\swidth="([\d.]+)', text)
    page = path.with_suffix(".html").resolve()
    return {
        "name": path.stem,
        "uri": "data:image/svg+xml;base64," + base64.b64encode(text).decode(),
        "width": round(float(width[1])) if width else 600,
        "alt": alt,
        "link": page.relative_to(Path(report_path).resolve().parent).as_posix(),
    }


def render_report(context: dict, template_path) -> str:
    """Fill the template; every value is escaped, and a name that is missing is an error."""
    path = Path(template_path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(path.name).render(context)


def feasibility_table(feasibility: pl.DataFrame, order) -> dict:
    """Predicted share of groups with a signal by group size, and chance of a right reply, means over seeds."""
    sizes = feasibility["group_size"].unique().sort().to_list()
    means = feasibility.group_by("condition", "subset", "group_size").agg(
        pl.mean("p_right", "p_invalid", "signal_share", "reward"), pl.first("start")
    )
    cells = []
    for name in order:
        for subset in sorted(means.filter(condition=name)["subset"].unique(), key=lambda s: (s != "all", s)):
            rows = means.filter(condition=name, subset=subset).sort("group_size").to_dicts()
            shares = {row["group_size"]: percent(row["signal_share"]) for row in rows}
            reply = [percent(rows[0]["p_right"]), percent(rows[0]["p_invalid"])]
            reply.append(f"{rows[0]['reward']:.1f}".replace("-", "\N{MINUS SIGN}"))
            cells.append([f"{name} (from {rows[0]['start']})", subset, *reply, *(shares.get(g, "–") for g in sizes)])
    columns = ["condition", "applications", "right", "invalid", "points a reply", *(f"G = {g}" for g in sizes)]
    return table("Before training by reward: right replies, and groups of G that will carry a signal", columns, cells)


def build_report(
    metrics,
    comparisons,
    costs,
    histories,
    trained,
    predictions,
    jobs,
    svgs,
    provenance,
    ruleset,
    config,
    output,
    feasibility=None,
    collapse=None,
    supervision=None,
    side_effects=None,
    splits=(),
) -> dict:
    """Everything that the template shows, from tables (frames), paths of predictions and SVGs, and dictionaries.

    `splits` are paths of the splits that were answered, each named as its suite.
    `side_effects` is `side_effects_report.section`, where side effects were measured.
    """
    references = describe_references(config)
    order = sorted(dict.fromkeys(condition for condition, _ in jobs), key=lambda name: name in references)
    ordered = readings(metrics)
    main, labels = ordered[0], list(ruleset.labels)
    free = next((reading for reading in ordered if reading[1] == "free"), main)
    sizes = group_sizes(config, order)
    feasible = () if feasibility is None else feasibility_sentences(feasibility, sizes)
    used = {name: condition_settings(config, name) for name in order}
    data = config.get("data", {})
    by_suite = {Path(path).stem: path for path in splits}
    answer = conclude(
        metrics, comparisons, histories, trained, labels, order, main, free if free != main else None, feasible,
        collapse=collapse, costs=costs,
        starts={name: of["start_from"] for name, of in used.items() if of["method"]},
        about={
            "model": config["model"]["id"], "ruleset": config.get("ruleset"), "train": data.get("train"),
            "validation": data.get("validation"),
            "without_signal": [] if feasibility is None else without_signal(feasibility, sizes),
        },
        references=references,
        told=() if supervision is None else label_sentences(metrics, supervision, main, 1 / len(labels)),
        shortcuts=() if main[0] not in by_suite else shortcut_sentences(
            predictions, jobs, by_suite[main[0]], ruleset.feature_names, labels, main,
            {condition for condition, *_ in trained},
        ),
    )  # fmt: skip
    values = [f"{name} {percent(find_estimate(metrics, name, Setting(*main), 'accuracy').value)}" for name in order]
    numbers = {"accuracy": f" {in_words(main)}: {', '.join(values)}."}
    several = metrics["seed"].drop_nulls().n_unique() > 1
    known = {key: value for key, value in provenance.items() if value and key not in NOT_LISTED}
    lines = [
        (key, {name: as_text(item) for name, item in value.items()} if isinstance(value, dict) else as_text(value))
        for key, value in known.items()
    ]
    return {
        "experiment": config["experiment"],
        "answer": answer,
        "reading": in_words(main),
        "summary": summary_table(metrics, order, main),
        "comparison": comparison_table(comparisons, order, main),
        "suites": suites_table(metrics, order),
        "collapse": collapse_table(collapse),
        "supervision": None if supervision is None else table(*supervision_cells(supervision, order)),
        "side_effects": side_effects,
        "more": [summary_table(metrics, order, reading) for reading in ordered[1:]]
        + [label_table(metrics, order, labels, main)]
        + ([seed_table(metrics, order, main)] if several else [])
        + [comparison_table(comparisons, order, reading) for reading in ordered[1:]]
        + ([] if feasibility is None else [feasibility_table(feasibility, order)]),
        "several": several,
        "charts": [
            embed_chart(path, output, CHARTS.get(Path(path).stem, "") + numbers.get(Path(path).stem, ""))
            for path in svgs
        ],
        "examples": examples(predictions, jobs, labels, free),
        "examples_reading": in_words(free),
        "policy": policy_table(ruleset),
        "shared": setting_list(config),
        "settings": settings_table(config, order),
        "references": table("References, for comparison", ["condition", "what it is"], references.items(), wrap=True),
        "hidden_note": hidden_rule_note(config),
        "costs": cost_table(costs, order),
        "provenance": lines,
        "packages": provenance.get("packages", {}),
        "provenance_json": json.dumps(provenance, indent=2, ensure_ascii=False),
    }
