"""Chart of learning curves: accuracy and recall on the hidden rules against labels, time, tokens, bits and noise."""

from dataclasses import dataclass

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import of_rule
from hidden_rule.report.charts.style import (
    CONDITION_COLOURS,
    Chart,
    chance_rule,
    columns_of,
    finish,
    nothing_to_show,
    percent_tooltips,
    scale_of,
    seeds_in_words,
    title,
    width_of,
)
from hidden_rule.statistics.label_curves import AMOUNTS, KINDS, curve_points, rising

HEADLINE = "Label efficiency and label noise"
COLUMNS = 3  # panels side by side
AXES = {  # column of the points -> its name
    "n_labels": "labels",
    "wall_s": "training time in seconds",
    "n_tokens": "tokens trained on",
    "bits": "bits of supervision (upper bound)",
}


@dataclass(frozen=True)
class PanelRow:
    """A row of panels: the points over one horizontal axis."""

    varied: str  # the column that varies along the lines
    column: str  # the column on the horizontal axis
    points: pl.DataFrame  # of `curve_points`
    x: alt.X


@dataclass(frozen=True)
class Measure:
    """What a column of panels shows."""

    metric: str
    words: str
    rule: str | None = None  # one of several hidden rules

    def of(self, points: pl.DataFrame) -> pl.DataFrame:
        """Its points, of `curve_points`."""
        return points.filter(of_rule(self.rule), metric=self.metric)


def recalls_of(rules: list[str | None]) -> list[Measure]:
    """Recall on each of several hidden rules, or on the only one (None)."""
    return [Measure("hidden_recall", f"recall on {rule or 'the hidden rule'}", rule) for rule in rules]


def label_chart(results: Results) -> Chart:
    """Accuracy and hidden recall, side by side, against what trainings received; a row of panels an axis."""
    supervision = results.supervision
    points = None if supervision is None else curve_points(results.metrics, supervision, results.main)
    if points is None or points.is_empty():
        reason = "No conditions of this experiment differ only in labels or label noise."
        return nothing_to_show(HEADLINE, reason, results)
    lines = points["line"].unique(maintain_order=True).to_list()
    colours = {line: CONDITION_COLOURS[i % len(CONDITION_COLOURS)] for i, line in enumerate(lines)}
    legend = alt.Legend(title=None, orient="top", columns=3)
    colour = alt.Color("line:N", scale=scale_of(colours), legend=legend)
    width = max(240, width_of(results) // 2)
    accuracy, recalls = Measure("accuracy", "accuracy"), recalls_of(results.rules_apart)
    rows = []
    for row in panel_rows(points):
        panels = [curve_panel(row, measure, colour, width) for measure in (accuracy, *recalls)]
        panels[0] = alt.layer(chance_rule(results.chance).encode(y=value_axis(accuracy)), panels[0])
        rows.append(alt.concat(*panels, columns=columns_of(results, COLUMNS), spacing=30))
    n = max(accuracy.of(points)["n"], default=0)
    cases = [(max(of.of(points)["n"], default=0), of.rule or "the hidden rule") for of in recalls]
    seeds = seeds_in_words(results.metrics["seed"].drop_nulls())
    notes = [
        f"{results.main.words}; dot and bar: estimate and 95% CI; {seeds}; dashed: {results.chance.words}",
        ", ".join([f"n = {n:,} answers", *(f"{k:,} of them to cases of {rule}" for k, rule in cases)]),
    ]
    return finish(alt.vconcat(*rows, spacing=26).properties(title=title(HEADLINE, *notes)))


def panel_rows(points: pl.DataFrame) -> list[PanelRow]:
    """A row of panels for each of AXES, and one for label noise; those without points are left out."""
    found = []
    of_labels, of_noise = (points.filter(kind=kind) for kind in KINDS)
    for column in AMOUNTS:
        shown = of_labels.filter(pl.col(column) > 0)  # the axis is logarithmic
        exact = shown[column].unique().sort().to_list() if column == "n_labels" else None
        axis = alt.Axis(
            format=",.0f" if exact else "~s", labelOverlap="greedy", labelSeparation=8, values=exact or alt.Undefined
        )
        scale = alt.Scale(type="log", nice=False, padding=12)
        x = alt.X(f"{column}:Q", title=f"{AXES[column]} (log)", axis=axis, scale=scale)
        found.append(PanelRow("train_rows", column, shown, x))
    axis = alt.Axis(format="%", values=of_noise["label_noise"].unique().sort().to_list())
    scale = alt.Scale(zero=False, nice=False, padding=12)
    x = alt.X("label_noise:Q", title="share of wrong labels", axis=axis, scale=scale)
    found.append(PanelRow("label_noise", "label_noise", of_noise, x))
    return [row for row in found if not row.points.is_empty()]


def value_axis(measure: Measure) -> alt.Y:
    """The vertical axis of a panel."""
    axis = alt.Axis(format="%", values=[i / 4 for i in range(5)], minExtent=34)
    return alt.Y("value:Q", title=measure.words, axis=axis, scale=alt.Scale(domain=[0, 1]))


def curve_panel(row: PanelRow, measure: Measure, colour: alt.Color, width: int) -> alt.LayerChart:
    """One panel: a point with its interval for each condition, and lines that join them."""
    points = measure.of(row.points).filter(pl.col("value").is_not_null())
    y, low = value_axis(measure), alt.Y("ci_low:Q", title=measure.words)
    base = alt.Chart(points).encode(x=row.x, color=colour)
    tooltip = ["condition:N", "train_rows:Q", *percent_tooltips("wrong_share"),
               *(alt.Tooltip(f"{column}:Q", format=",.0f") for column in AMOUNTS),
               *percent_tooltips("value", "ci_low", "ci_high"), "n:Q"]  # fmt: skip
    joined = rising(points, row.varied, row.column)
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=low, y2="ci_high:Q"),
        base.mark_line(strokeWidth=1.8).encode(y=y, order=f"{row.varied}:Q").properties(data=joined),
        base.mark_circle(size=55, opacity=1).encode(y=y, tooltip=tooltip),
    ]
    return alt.layer(*layers).properties(width=width, height=170)
