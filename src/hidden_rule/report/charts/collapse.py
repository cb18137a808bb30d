"""Chart of mode collapse: the decisions that RL samples over its steps, with entropy and groups of equal reward."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.report.charts.style import (
    INVALID_COLOUR,
    LABEL_COLOURS,
    Chart,
    columns_of,
    finish,
    nothing_to_show,
    panel_title,
    percent_tooltips,
    scale_of,
    title,
    width_of,
)
from hidden_rule.statistics.confusion import INVALID
from hidden_rule.statistics.learning_curves import training_curves

HEADLINE = "Sampled decisions during RL training"
SEEDS_SHOWN = 3  # of a condition
LINES = {  # metric -> its name, in lines, and its format
    "entropy": (["entropy", "(nats)"], None),
    "zero_signal_share": (["groups of", "equal reward"], "%"),
}


def collapse_chart(results: Results) -> Chart:
    """For each RL training, the labels that it samples over its steps, and whether groups still differ in reward."""
    histories = results.histories
    curves = training_curves(histories)
    shown = shown_runs(curves, results)
    if not shown:
        return nothing_to_show(HEADLINE, "No condition of this experiment was trained with RL.", results)
    columns = columns_of(results, min(2, len(shown)))
    width = width_of(results) if columns == 1 else max(240, width_of(results) // 2)
    panels = [
        collapse_panel(curves.filter(**run.columns), f"{run.condition}, seed {run.seed}", results.labels, width)
        for run in shown
    ]
    notes = [
        "Share of each decision among the sampled answers of a step or round; entropy of the policy over decisions;",
        "share of groups with equal rewards, which give no gradient",
    ]
    if len({run.seed for run in histories}) > SEEDS_SHOWN:
        notes.append(f"First {SEEDS_SHOWN} seeds of each condition")
    chart = alt.concat(*panels, columns=columns, spacing=40).properties(title=title(HEADLINE, *notes))
    return finish(chart)


def shown_runs(curves: pl.DataFrame, results: Results) -> list[Run]:
    """The first SEEDS_SHOWN seeds of each condition whose histories have shares of labels."""
    recorded = curves.filter(metric="predicted_share").select("condition", "seed").unique().rows()
    runs = sorted(run for run in results.trained if (run.condition, run.seed) in recorded)
    order = {name: i for i, name in enumerate(results.conditions)}
    by_condition: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: order[run.condition]):
        by_condition.setdefault(run.condition, []).append(run)
    return [run for of in by_condition.values() for run in of[:SEEDS_SHOWN]]


def collapse_panel(rows: pl.DataFrame, heading: str, labels: list[str], width: int) -> alt.VConcatChart:
    """One training: shares of labels, and under them the LINES that it recorded. rows: of `training_curves`."""
    scale = alt.Scale(domain=[min(rows["step"]), max(rows["step"])], nice=False)
    x = alt.X("step:Q", title=None, scale=scale, axis=alt.Axis(labels=False, ticks=False))
    x_last = alt.X("step:Q", title="optimizer step", scale=scale, axis=alt.Axis(tickMinStep=1, tickCount=5))
    area = share_area(rows, labels).encode(x=x)
    parts = [area.properties(width=width, height=170, title=panel_title(heading, frame="group"))]
    present = [metric for metric in LINES if not rows.filter(metric=metric).is_empty()]
    for metric in present:
        name, form = LINES[metric]
        axis = alt.Axis(format=form, tickCount=3) if form else alt.Axis(tickCount=3)
        y = alt.Y("value:Q", title=name, axis=axis, scale=alt.Scale(domain=[0, 1]) if form else alt.Scale(zero=True))
        line = alt.Chart(rows.filter(metric=metric)).mark_line(color="#222", strokeWidth=1.6)
        tooltip = ["step:Q", alt.Tooltip("value:Q", format=".3f")]
        drawn = line.encode(x=x_last if metric == present[-1] else x, y=y, tooltip=tooltip)
        parts.append(drawn.properties(width=width, height=70))
    return alt.vconcat(*parts, spacing=10)


def share_area(rows: pl.DataFrame, labels: list[str]) -> alt.Chart:
    """Shares of the labels, and of invalid replies where there are any, stacked; without a horizontal axis."""
    shares = rows.filter(metric="predicted_share").select("step", "label", "value")
    invalid = rows.filter(metric="invalid_share").select("step", "value")
    colours = {label: LABEL_COLOURS[i % len(LABEL_COLOURS)] for i, label in enumerate(labels)}
    if (invalid["value"] > 0).any():
        shares = pl.concat([shares, invalid.select("step", pl.lit(INVALID).alias("label"), "value")])
        colours[INVALID] = INVALID_COLOUR
    place = pl.col("label").replace_strict({label: i for i, label in enumerate(colours)})
    return (
        alt.Chart(shares.with_columns(place=place))
        .mark_area()
        .encode(
            y=alt.Y("value:Q", stack="normalize", title="share of answers", axis=alt.Axis(format="%", tickCount=4)),
            color=alt.Color(
                "label:N", scale=scale_of(colours), legend=alt.Legend(title=None, orient="bottom", columns=2)
            ),
            order="place:Q",
            tooltip=["step:Q", "label:N", *percent_tooltips("value")],
        )
    )
