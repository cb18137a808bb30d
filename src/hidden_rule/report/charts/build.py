"""The report's charts of predictions, and all charts by name, built with Altair from tables.

One condition has one colour in every chart. Figures of the published study, where config gives them, stand beside ours
as diamonds. The *main reading* is the holdout suite under structured decoding where it was evaluated.
"""

import altair as alt
import polars as pl

from hidden_rule.report.charts.calibration import calibration_chart
from hidden_rule.report.charts.cost import cost_chart, training_seconds
from hidden_rule.report.charts.forest import forest_chart
from hidden_rule.report.charts.labels import label_chart
from hidden_rule.report.charts.learning import learning_chart
from hidden_rule.report.charts.style import (
    INVALID,
    finish,
    in_words,
    palette,
    panel_title,
    readings,
    seeds_in_words,
    title,
)
from hidden_rule.report.charts.suites import suites_chart
from hidden_rule.report.charts.training import collapse_chart, training_chart
from hidden_rule.statistics.outcomes import scan_predictions


def interval_panel(metrics, metric, reading, colours, width, heading, published=None, chance=None) -> alt.LayerChart:
    """Horizontal point-and-interval plot of one metric by condition; values of `published` are diamonds."""
    rows = metrics.filter(pl.col("label").is_null(), metric=metric, suite=reading[0], decoding=reading[1])
    pooled = rows.filter(pl.col("seed").is_null()).with_columns(
        text=pl.when(pl.col("value").is_null())
        .then(pl.lit("undefined: no such rows"))
        .otherwise((100 * pl.col("value")).round(1).cast(pl.String) + "%"),
        at=pl.col("ci_high").fill_null(0.0),
    )
    order = list(colours)
    y = alt.Y("condition:N", sort=order, title=None, scale=alt.Scale(domain=order))
    axis = alt.Axis(format="%", values=[i / 5 for i in range(6)])
    x = alt.X("value:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, 1.12], nice=False))
    colour = alt.Color("condition:N", scale=alt.Scale(domain=order, range=list(colours.values())), legend=None)
    tooltip = ["condition:N", alt.Tooltip("value:Q", format=".1%"), alt.Tooltip("ci_low:Q", format=".1%"),
               alt.Tooltip("ci_high:Q", format=".1%"), "n:Q"]  # fmt: skip
    base = alt.Chart(pooled).encode(y=y)
    layers = []
    if chance is not None:
        line = alt.Chart(pl.DataFrame({"value": [chance], "text": [f"chance {chance:.0%}"]})).encode(x=x)
        layers.append(line.mark_rule(color="#888", strokeDash=[4, 4]))
        layers.append(line.mark_text(align="left", baseline="bottom", dx=4, y=-3, color="#666").encode(text="text:N"))
    if published:
        frame = pl.DataFrame({"condition": list(published), "value": list(published.values())})
        diamonds = alt.Chart(frame.filter(pl.col("condition").is_in(order)))
        layers.append(
            diamonds.mark_point(shape="diamond", size=60, color="#222", strokeWidth=1.5, yOffset=-12).encode(
                x=x, y=y, tooltip=["condition:N", alt.Tooltip("value:Q", title="published", format=".1%")]
            )
        )
    layers.append(base.mark_rule(strokeWidth=3).encode(x=alt.X("ci_low:Q"), x2="ci_high:Q", color=colour))
    of_seeds = rows.filter(pl.col("seed").is_not_null())
    if of_seeds["seed"].n_unique() > 1:
        dots = alt.Chart(of_seeds).mark_circle(size=22, opacity=0.55, yOffset=9)
        layers.append(dots.encode(x=x, y=y, color=colour, tooltip=["seed:O", *tooltip]))
    layers.append(base.mark_circle(size=110, opacity=1).encode(x=x, color=colour, tooltip=tooltip))
    layers.append(base.mark_text(align="left", dx=7, fontSize=12, color="#222").encode(x=alt.X("at:Q"), text="text:N"))
    return alt.layer(*layers).properties(width=width, height=alt.Step(38), title=panel_title(heading))


def size_of(metrics, metric, reading) -> str:
    """How many applications and seeds stand behind a metric at a reading, in words."""
    rows = metrics.filter(pl.col("label").is_null(), metric=metric, suite=reading[0], decoding=reading[1])
    n = rows.filter(pl.col("seed").is_not_null())["n"]
    span = f"{n.min():,}" if n.min() == n.max() else f"{n.min():,} to {n.max():,}"
    return f"n = {span}"


def interval_note(metrics, published) -> list[str]:
    """What the marks of an interval chart mean, as lines of a subtitle."""
    words = seeds_in_words(metrics["seed"].drop_nulls(), "pooled, small dots: each seed")
    lines = [f"Dot and bar: value and 95% interval; {words}"]
    return lines + ([f"Diamond: {published}"] if published else [])


def accuracy_chart(metrics: pl.DataFrame, labels, colours: dict, config: dict) -> alt.TopLevelMixin:
    """Accuracy by condition, a panel a suite and decoding, the main reading first, beside published figures."""
    published = config.get("published") or {}
    panels = [
        interval_panel(
            metrics, "accuracy", reading, colours, config["width"],
            f"{in_words(reading)} ({size_of(metrics, 'accuracy', reading)} applications)",
            published.get("accuracy") if i == 0 else None, 1 / len(labels),
        )
        for i, reading in enumerate(readings(metrics))
    ]  # fmt: skip
    notes = interval_note(metrics, published.get("source") if published.get("accuracy") else None)
    return finish(alt.vconcat(*panels, spacing=26).properties(title=title("Share of decisions that are right", *notes)))


def hidden_rule_chart(metrics: pl.DataFrame, labels, colours: dict, config: dict) -> alt.TopLevelMixin:
    """Recall and precision on the hidden rule by condition at the main reading, beside published figures."""
    published = config.get("published") or {}
    reading = readings(metrics)[0]
    panels = [
        interval_panel(
            metrics, metric, reading, colours, config["width"],
            f"{heading} ({size_of(metrics, metric, reading)})", published.get(metric),
        )
        for metric, heading in [
            ("hidden_recall", "Recall: where the hidden rule fires, share answered rightly"),
            ("conflict_recall", "Recall in conflict: the same where another rule pulls elsewhere"),
            ("hidden_precision", "Precision: of answers only the hidden rule explains, share that are right"),
        ]
    ]  # fmt: skip
    any_published = published.get("hidden_recall") or published.get("hidden_precision")
    notes = interval_note(metrics, published.get("source") if any_published else None)
    headline = title("The hidden rule: who finds its cases, and keeps to them", in_words(reading), *notes)
    return finish(alt.vconcat(*panels, spacing=26).properties(title=headline))


def confusion_table(predictions, jobs, labels) -> pl.DataFrame:
    """Counts `n` by condition, suite, decoding, label and predicted (null: INVALID) over all seeds, and row shares."""
    frames = [
        scan_predictions(path, labels)
        .group_by("suite", "decoding", "label", pl.col("predicted").fill_null(INVALID))
        .agg(n=pl.len().cast(pl.Int64))
        .with_columns(condition=pl.lit(condition))
        .collect()
        for path, (condition, _) in zip(predictions, jobs, strict=True)
    ]
    keys = ["condition", "suite", "decoding", "label", "predicted"]
    counts = pl.concat(frames).group_by(keys).agg(pl.col("n").sum())
    grid = counts.select(keys[:3]).unique().join(pl.DataFrame({"label": labels}), how="cross")
    grid = grid.join(pl.DataFrame({"predicted": [*labels, INVALID]}), how="cross")
    full = grid.join(counts, on=keys, how="left").with_columns(pl.col("n").fill_null(0))
    return full.with_columns(share=pl.col("n") / pl.col("n").sum().over(keys[:4])).sort(keys)


def confusion_chart(predictions, jobs, labels, metrics, config: dict) -> alt.TopLevelMixin:
    """A row-normalised confusion matrix per condition: the main reading, and free decoding beside it."""
    labels = list(labels)
    table = confusion_table(predictions, jobs, labels)
    ordered = readings(metrics)
    shown = [ordered[0], *[reading for reading in ordered[1:] if reading[1] == "free"][:1]]
    cell = max(34, min(58, config["width"] // (2 * len(labels))))
    panels = []
    for condition in dict.fromkeys(condition for condition, _ in jobs):
        for reading in shown:
            rows = table.filter(condition=condition, suite=reading[0], decoding=reading[1])
            if rows.is_empty():
                continue
            has_invalid = rows.filter(predicted=INVALID)["n"].sum() > 0
            columns = [*labels, INVALID] if has_invalid else labels
            base = alt.Chart(rows.filter(pl.col("predicted").is_in(columns))).encode(
                x=alt.X("predicted:N", sort=columns, title="answered", axis=alt.Axis(labelAngle=-40)),
                y=alt.Y("label:N", sort=labels, title="true decision"),
                tooltip=["label:N", "predicted:N", "n:Q", alt.Tooltip("share:Q", format=".1%")],
            )
            shade = alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"), legend=None)
            ink = alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#222"))
            matrix = base.mark_rect(stroke="white").encode(color=shade) + base.mark_text(fontSize=11).encode(
                text=alt.Text("share:Q", format=".0%"), color=ink
            )
            panels.append(
                matrix.properties(
                    width=alt.Step(cell),
                    height=alt.Step(34),
                    title=panel_title(condition, subtitle=f"{in_words(reading)}, n = {rows['n'].sum():,}"),
                )
            )
    n_seeds = len({seed for _, seed in jobs})
    headline = title(
        "What each condition answered, by what was right",
        f"Share of each row, in %; {n_seeds} seed{'s, counts summed' if n_seeds > 1 else ''}; "
        "right answers lie on the diagonal",
    )
    return finish(alt.concat(*panels, columns=max(2, len(shown)), spacing=30).properties(title=headline))


def build_charts(
    metrics,
    predictions,
    jobs,
    histories,
    trained,
    labels,
    config,
    *,
    comparisons,
    costs,
    starts,
    lacks,
    n_validation,
    supervision=None,
) -> dict[str, alt.TopLevelMixin]:
    """All charts by name.

    metrics, comparisons, costs: tables; predictions, histories: paths; jobs: [condition, seed] of each prediction
    table; trained: [condition, seed, method] of each history; config: the `charts` section; starts: the condition that
    each one starts from, or None; lacks: what the ruleset lacks for each suite, or None; n_validation: applications;
    supervision: table SUPERVISION, if there is one.
    """
    colours = palette(jobs, trained)
    order, reading = list(colours), readings(metrics)[0]
    seconds = {name: mean for name, (mean, *_) in training_seconds(costs, starts).items()}
    before = {name: seconds.get(start, 0.0) for name, start in starts.items() if start}
    return {
        "accuracy": accuracy_chart(metrics, labels, colours, config),
        "forest": forest_chart(comparisons, order, reading, config),
        "hidden_rule": hidden_rule_chart(metrics, labels, colours, config),
        "suites": suites_chart(metrics, order, config, lacks),
        "cost": cost_chart(metrics, costs, starts, order, colours, labels, reading, config),
        "confusion": confusion_chart(predictions, jobs, labels, metrics, config),
        "calibration": calibration_chart(predictions, jobs, labels, colours, reading, config),
        "learning": learning_chart(histories, trained, colours, labels, config, n_validation, before),
        "training": training_chart(histories, trained, colours, labels, config),
        "collapse": collapse_chart(histories, trained, labels, config),
        "labels": label_chart(metrics, supervision, labels, config),
    }
