"""Chart of accuracy against training time, with the Pareto frontier of conditions."""

import itertools
import math
from dataclasses import dataclass

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.placement import DOT, Label, place_labels
from hidden_rule.report.charts.style import (
    Chart,
    chance_rule,
    condition_colours,
    filling,
    finish,
    nothing_to_show,
    percent_tooltips,
    reference_notes,
    scale_of,
    seeds_in_words,
    text_width,
    title,
    width_of,
    wrapped,
)
from hidden_rule.report.text.phrases import MANY, percent
from hidden_rule.report.text.training_cost import busy_sentences
from hidden_rule.statistics.training_costs import training_costs

HEADLINE = "Accuracy against training time"
HEIGHT, TALLER = 360, 16  # px, and what each condition beyond MANY adds, so that names find room
LOG_FROM = 10  # ratio of the longest training to the shortest from which on the axis is logarithmic
TICKS = {
    1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 20: "20 s", 30: "30 s", 60: "1 min", 120: "2 min", 300: "5 min",
    600: "10 min", 1200: "20 min", 1800: "30 min", 3600: "1 h", 7200: "2 h", 18_000: "5 h", 36_000: "10 h",
    86_400: "1 d", 172_800: "2 d", 432_000: "5 d", 864_000: "10 d",
}  # fmt: skip
LINE, LINE_HEIGHT = 26, 14  # characters of a name in one line, and px
TIMES = ("seconds", "least", "most")


@dataclass(frozen=True)
class TimeAxis:
    """Where training times lie on the horizontal axis; 0 lies at "no training"."""

    at: dict[float, float]  # seconds -> position
    ticks: dict[float, str]  # position -> text
    ends: tuple[float, float]
    kind: str  # linear | log


@dataclass(frozen=True)
class Plot:
    """The area of the plot in px, and the range of its horizontal axis."""

    width: int
    height: int
    ends: tuple[float, float]

    def x(self, position: float) -> float:
        return (position - self.ends[0]) / (self.ends[1] - self.ends[0]) * self.width

    def y(self, value: float) -> float:
        return (1 - value) * self.height


def cost_points(results: Results) -> pl.DataFrame:
    """A row a condition with an accuracy in the main setting.

    Columns: `condition`, `seconds`, `least`, `most` (training time, its starts included: mean, fastest and slowest
    seed; 0 without training), `value`, `ci_low`, `ci_high` (accuracy), `n`, and `frontier`: no other condition is at
    least as accurate in no more time, and better in one of the two.
    """
    costs = training_costs(results.costs, results.starts)
    rows: list[dict] = []
    for name in results.conditions:
        found, cost = results.estimate(name, results.main, "accuracy"), costs.get(name)
        if found is not None:
            times = {key: getattr(cost, key) if cost else 0.0 for key in TIMES}
            estimate = {"value": found.value, "ci_low": found.low, "ci_high": found.high, "n": found.n}
            rows.append({"condition": name} | times | estimate)
    for row in rows:
        row["frontier"] = not any(
            other["seconds"] <= row["seconds"]
            and other["value"] >= row["value"]
            and (other["seconds"] < row["seconds"] or other["value"] > row["value"])
            for other in rows
        )
    return pl.DataFrame(rows)


def time_axis(seconds: list[float]) -> TimeAxis:
    """The axis for these training times; on a logarithmic axis "no training" is to the left of all others."""
    trained = [s for s in seconds if s > 0]
    if max(trained) / min(trained) >= LOG_FROM:
        low, high = math.log10(min(trained)), math.log10(max(trained))
        margin = 0.12 * (high - low)
        zero = low - 2 * margin
        inside = {s: text for s, text in TICKS.items() if low - margin / 2 <= math.log10(s) <= high + margin / 2}
        at = {s: math.log10(s) if s > 0 else zero for s in seconds} | {0.0: zero}
        ticks = {math.log10(s): text for s, text in inside.items()}
        return TimeAxis(at, {zero: "no training", **ticks}, (zero - margin / 2, high + margin / 2), "log")
    high = max(trained)
    step = next((s for s in TICKS if high / s <= 6), max(TICKS))
    ends = (-0.05 * high, 1.05 * high)
    ticks = {float(k * step): time_text(k * step) for k in range(1, int(ends[1] // step) + 1)}
    return TimeAxis({s: s for s in seconds} | {0.0: 0.0}, {0.0: "no training", **ticks}, ends, "linear")


def time_text(seconds: float) -> str:
    """`90 s`, `2.5 min`, `3 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size or seconds == size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def cost_chart(results: Results) -> Chart:
    """Accuracy against training time: a labelled point a condition with its interval, and the Pareto frontier."""
    points = cost_points(results)
    if points.is_empty() or not (points["seconds"] > 0).any():
        return nothing_to_show(HEADLINE, "No condition of this experiment was trained.", results)
    axis = time_axis([s for column in TIMES for s in points[column]])
    plot = Plot(width_of(results), HEIGHT + TALLER * max(0, points.height - MANY), axis.ends)
    points = points.with_columns(pl.col(column).replace_strict(axis.at).alias(f"{column}_at") for column in TIMES)
    frontier = points.filter("frontier").sort("seconds", "value").select("seconds_at", "value")
    last = pl.DataFrame({"seconds_at": [axis.ends[1]], "value": [frontier["value"].max()]})
    frontier = pl.concat([frontier, last])
    layers = [*point_layers(points, frontier, axis, results), *label_layers(points, frontier, plot)]
    of_seeds = results.metrics.filter(pl.col("seed").is_not_null(), metric="accuracy", **results.main.columns)
    seeds, n = of_seeds["seed"], max(of_seeds["n"])
    notes = [
        f"Accuracy, {results.main.words}; n = {n:,} {results.ruleset.case.many}; {seeds_in_words(seeds)}",
        f"Bar: 95% CI{'; thin line: fastest to slowest seed' if seeds.n_unique() > 1 else ''}",
        f"{time_in_words(results)}: mean over seeds, that of the condition's starts included",
        f"Grey line: Pareto front of the point estimates. Dashed: {results.chance.words}",
        *reference_notes(results),
        *busy_sentences(results.costs),
    ]
    chart = alt.layer(*layers).properties(width=plot.width, height=plot.height, title=title(HEADLINE, *notes))
    return finish(chart)


def time_in_words(results: Results) -> str:
    """What the training times of a chart are."""
    return "Training time" + ("" if results.costs["idle_s"].null_count() else " on an idle machine (estimate)")


def point_layers(points: pl.DataFrame, frontier: pl.DataFrame, time: TimeAxis, results: Results) -> list[alt.Chart]:
    """Chance, the frontier, and the points with their intervals."""
    names = " : ".join(f"abs(datum.value - {at!r}) < 1e-9 ? '{text}'" for at, text in time.ticks.items()) + " : ''"
    axis = alt.Axis(values=list(time.ticks), labelExpr=names, labelFlush=False)
    scale = alt.Scale(domain=list(time.ends), nice=False)
    heading = "training time" + (", logarithmic" if time.kind == "log" else "")
    x, least_x = (alt.X(f"{field}:Q", scale=scale, axis=axis, title=heading) for field in ("seconds_at", "least_at"))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
    colour = alt.Color("condition:N", legend=None, scale=scale_of(condition_colours(results)))
    tooltip = ["condition:N", alt.Tooltip("seconds:Q", format=",.0f"),
               *percent_tooltips("value", "ci_low", "ci_high"), "n:Q"]  # fmt: skip
    base = alt.Chart(points)
    steps = alt.Chart(frontier).mark_line(interpolate="step-after", color="#999", strokeWidth=1.5)
    interval = base.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("ci_low:Q", title=None), y2="ci_high:Q", color=colour)
    return [
        chance_rule(results.chance).encode(y=y),
        steps.encode(x=x, y=y, order="seconds_at:Q"),
        interval,
        base.mark_rule(strokeWidth=1).encode(x=least_x, x2="most_at:Q", y=y, color=colour),
        base.mark_point(size=85, strokeWidth=2, opacity=1).encode(x=x, y=y, tooltip=tooltip, **filling(results)),
    ]


def label_layers(points: pl.DataFrame, frontier: pl.DataFrame, plot: Plot) -> list[alt.Chart]:
    """Names and values beside the points, and a thin line to each that could not stand next to its point."""
    labels, drawn = [], []
    rows = points.sort("value", descending=True).to_dicts()
    for row in rows:
        *first, last = wrapped(row["condition"], LINE)
        lines = [*first, f"{last}  {percent(row['value'])}"]
        x, y = plot.x(row["seconds_at"]), plot.y(row["value"])
        labels.append(Label(lines, (x, y), (max(map(text_width, lines)), LINE_HEIGHT * len(lines))))
        drawn.append((x - 3, plot.y(row["ci_high"]), x + 3, plot.y(row["ci_low"])))
        drawn.append((plot.x(row["least_at"]), y - 2, plot.x(row["most_at"]), y + 2))
    corners = [(plot.x(x), plot.y(y)) for x, y in frontier.iter_rows()]
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):  # horizontal, then up
        drawn += [(x, y - 2, next_x, y + 2), (next_x - 2, next_y, next_x + 2, y)]
    placed = place_labels(labels, (plot.width, plot.height), drawn)
    return [layer for label, (left, top) in placed for layer in label_marks(label, left, top)]


def label_marks(label: Label, left: float, top: float) -> list[alt.Chart]:
    """A label whose left upper corner is at (left, top) px, and a line to its point if that is far."""
    (x, y), (width, height) = label.point, label.size
    middle = top + height / 2
    near = left if left > x else left + width if left + width < x else x
    layers = []
    if abs(middle - y) > height / 2 + DOT:
        line = alt.Chart(pl.DataFrame({"text": [""]})).mark_rule(color="#AAA", strokeWidth=0.8)
        end = middle if near != x else top + height if middle < y else top
        layers.append(line.encode(x=alt.value(x), y=alt.value(y), x2=alt.value(near), y2=alt.value(end)))
    if left >= x:
        align, at = "left", left
    elif left + width <= x:
        align, at = "right", left + width
    else:
        align, at = "center", left + width / 2
    words = alt.Chart(pl.DataFrame({"text": ["\n".join(label.lines)]})).mark_text(
        align=align, baseline="middle", fontSize=12, color="#222", lineBreak="\n", lineHeight=LINE_HEIGHT
    )
    first = top + LINE_HEIGHT / 2
    return [*layers, words.encode(x=alt.value(at), y=alt.value(first), text="text:N")]
