"""Learning curves: accuracy and recall on the hidden rule against labels, seconds, tokens, bits and wrong labels."""

import altair as alt
import polars as pl

from hidden_rule.report.charts.style import (
    CONDITION_COLOURS,
    finish,
    in_words,
    nothing_to_show,
    readings,
    seeds_in_words,
    title,
)

MEASURES = {"accuracy": "accuracy", "hidden_recall": "recall on the hidden rule"}
AXES = {  # column of the points -> what it is called
    "n_labels": "labels",
    "wall_s": "seconds of training",
    "n_tokens": "tokens trained on",
    "bits": "bits of supervision, at most",
}
KINDS = {  # what varies along a line -> its column, and what stays the same
    "labels": ("train_rows", "label_noise"),
    "noise": ("label_noise", "train_rows"),
}


def curve_points(metrics: pl.DataFrame, supervision: pl.DataFrame, reading: tuple[str, str]) -> pl.DataFrame:
    """Points of all lines: `kind` (labels, noise), `line`, `metric`, its pooled value and interval at `reading`.

    A line of kind labels joins the conditions of a curve that differ in rows and have the same noise, one of kind noise
    those that differ in noise and have the same rows; a single condition is no line. What a training was told and took
    is the mean over seeds. A line's name says what stays the same where the curve has several such lines.
    """
    told = supervision.group_by("condition", "method", "curve", "train_rows", "label_noise").agg(
        pl.mean(*AXES, "wrong_share")
    )
    values = metrics.filter(
        pl.col("seed").is_null(), pl.col("label").is_null(), pl.col("metric").is_in(list(MEASURES)),
        suite=reading[0], decoding=reading[1],
    ).select("condition", "metric", "value", "ci_low", "ci_high", "n")  # fmt: skip
    words = {
        "labels": pl.format("{}, {}% wrong", "curve", (100 * pl.col("label_noise")).round(1)),
        "noise": pl.format("{}, {} labels", "curve", "train_rows"),
    }
    frames = []
    for kind, (varied, same) in KINDS.items():
        lines = told.filter(pl.col(varied).n_unique().over("curve", same) > 1).with_columns(
            kind=pl.lit(kind),
            line=pl.when(pl.col(same).n_unique().over("curve") > 1).then(words[kind]).otherwise("curve"),
        )
        frames.append(lines.sort("curve", same, varied, "condition"))
    return pl.concat(frames).join(values, on="condition", how="inner", maintain_order="left")


def rising(points: pl.DataFrame, varied: str, name: str) -> pl.DataFrame:
    """Of lines along which column `name` rises with what varies, the points.

    Others are not drawn as lines: joined in order of what varies they would run back and forth.
    """
    steps = points.sort(varied).with_columns(step=pl.col(name).diff().over("line", "metric"))
    back = steps.filter(pl.col("step") <= 0)
    return points.join(back, on=["line", "metric"], how="anti", maintain_order="left")


def curve_panel(points, metric: str, varied: str, name: str, x: alt.X, colour: alt.Color, chance: float, width: int):
    """One panel: a point with its interval for each condition, lines that join them, dashed the chance to be right.

    points: rows of `curve_points`; name: the column on the horizontal axis.
    """
    rows = points.filter(pl.col("value").is_not_null(), metric=metric)
    axis = alt.Axis(format="%", values=[i / 4 for i in range(5)], minExtent=34)
    y = alt.Y("value:Q", title=MEASURES[metric], axis=axis, scale=alt.Scale(domain=[0, 1]))
    base = alt.Chart(rows).encode(x=x, color=colour)
    tooltip = ["condition:N", "train_rows:Q", alt.Tooltip("wrong_share:Q", format=".1%"),
               *(alt.Tooltip(f"{name}:Q", format=",.0f") for name in AXES), alt.Tooltip("value:Q", format=".1%"),
               alt.Tooltip("ci_low:Q", format=".1%"), alt.Tooltip("ci_high:Q", format=".1%"), "n:Q"]  # fmt: skip
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("ci_low:Q", title=MEASURES[metric]), y2="ci_high:Q"),
        base.mark_line(strokeWidth=1.8).encode(y=y, order=f"{varied}:Q").properties(data=rising(rows, varied, name)),
        base.mark_circle(size=55, opacity=1).encode(y=y, tooltip=tooltip),
    ]
    if metric == "accuracy":
        line = alt.Chart(pl.DataFrame({"value": [chance]}))
        layers.insert(0, line.mark_rule(color="#888", strokeDash=[4, 4]).encode(y=y))
    return alt.layer(*layers).properties(width=width, height=170)


def axes(points: pl.DataFrame) -> list[tuple[str, str, pl.DataFrame, alt.X]]:
    """Each row of panels: the columns that vary along its lines and its horizontal axis, its points, and that axis."""
    found = []
    of_labels, of_noise = (points.filter(kind=kind) for kind in KINDS)
    for name, words in AXES.items():
        shown = of_labels.filter(pl.col(name) > 0)  # a logarithm needs more than nothing
        exact = shown[name].unique().sort().to_list() if name == "n_labels" else None
        axis = alt.Axis(
            format=",.0f" if exact else "~s", labelOverlap="greedy", labelSeparation=8, values=exact or alt.Undefined
        )
        scale = alt.Scale(type="log", nice=False, padding=12)
        found.append(("train_rows", name, shown, alt.X(f"{name}:Q", title=f"{words} (log)", axis=axis, scale=scale)))
    axis = alt.Axis(format="%", values=of_noise["label_noise"].unique().sort().to_list())
    scale = alt.Scale(zero=False, nice=False, padding=12)
    x = alt.X("label_noise:Q", title="share of labels that are wrong", axis=axis, scale=scale)
    found.append(("label_noise", "label_noise", of_noise, x))
    return [row for row in found if not row[2].is_empty()]


def label_chart(metrics: pl.DataFrame, supervision: pl.DataFrame | None, labels, config: dict) -> alt.TopLevelMixin:
    """Accuracy and hidden recall, side by side, over what trainings were given; a row of panels an axis."""
    headline = "What more labels, and cleaner ones, bring"
    reading = readings(metrics)[0]
    points = None if supervision is None else curve_points(metrics, supervision, reading)
    if points is None or points.is_empty():
        reason = "No conditions of this experiment differ in labels or label noise alone."
        return nothing_to_show(headline, reason, config["width"])
    width = max(240, config["width"] // 2)
    lines = points["line"].unique(maintain_order=True).to_list()
    colours = [CONDITION_COLOURS[i % len(CONDITION_COLOURS)] for i in range(len(lines))]
    legend = alt.Legend(title=None, orient="top", columns=3)
    colour = alt.Color("line:N", scale=alt.Scale(domain=lines, range=colours), legend=legend)
    rows = [
        alt.hconcat(
            *(curve_panel(shown, metric, varied, name, x, colour, 1 / len(labels), width) for metric in MEASURES),
            spacing=30,
        )
        for varied, name, shown, x in axes(points)
    ]
    seeds = metrics["seed"].drop_nulls()
    n = {metric: points.filter(metric=metric)["n"].max() for metric in MEASURES}
    notes = [
        f"{in_words(reading)}; dot and bar: value and 95% interval; {seeds_in_words(seeds)}; dashed: chance",
        f"n = {n['accuracy']:,} answers, where the hidden rule fires {n['hidden_recall'] or 0:,}",
    ]
    return finish(alt.vconcat(*rows, spacing=26).properties(title=title(headline, *notes)))
