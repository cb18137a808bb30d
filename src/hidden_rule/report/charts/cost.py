"""Chart of accuracy against training time, with the conditions that none beats in both."""

import itertools
import math

import altair as alt
import polars as pl

from hidden_rule.experiment.runs import Setting, find_estimate
from hidden_rule.report.charts.placement import DOT, place_labels
from hidden_rule.report.charts.style import (
    finish,
    in_words,
    nothing_to_show,
    seeds_in_words,
    text_width,
    title,
    wrapped,
)
from hidden_rule.report.text.phrases import MANY, percent
from hidden_rule.statistics.training_costs import chain

HEADLINE = "What accuracy costs"
HEIGHT, TALLER = 360, 16  # px, and what each condition beyond MANY adds, so that names find room
LOG_FROM = 10  # the longest training over the shortest, from which on the axis is logarithmic
TICKS = [(1, "1 s"), (2, "2 s"), (5, "5 s"), (10, "10 s"), (20, "20 s"), (30, "30 s"), (60, "1 min"), (120, "2 min"),
         (300, "5 min"), (600, "10 min"), (1200, "20 min"), (1800, "30 min"), (3600, "1 h"), (7200, "2 h"),
         (18_000, "5 h"), (36_000, "10 h"), (86_400, "1 d"), (172_800, "2 d"), (432_000, "5 d"),
         (864_000, "10 d")]  # fmt: skip
LINE, LINE_HEIGHT = 26, 14  # characters of a name in one line, and px


def training_seconds(costs: pl.DataFrame, starts: dict) -> dict[str, tuple[float, float, float]]:
    """By trained condition: mean, least and most seconds of training over its seeds, with those of what it starts from.

    starts: the condition that each starts from, or None.
    """
    train = costs.filter(stage="train")
    own = {(row["condition"], row["seed"]): row["wall_s"] for row in train.to_dicts()}

    found = {}
    for name in train["condition"].unique(maintain_order=True):
        seconds = [
            sum(own.get((part, seed), 0.0) for part in chain(name, starts)) for trained, seed in own if trained == name
        ]
        found[name] = (sum(seconds) / len(seconds), min(seconds), max(seconds))
    return found


def cost_points(metrics: pl.DataFrame, costs: pl.DataFrame, starts: dict, order, reading) -> pl.DataFrame:
    """A row a condition: `condition`, `seconds`, `least`, `most` (0 without training), `value`, `ci_low`, `ci_high`
    (accuracy), `n`, and `frontier`: no other condition is at least as accurate in no more time, and better in one.
    """
    seconds = training_seconds(costs, starts)
    rows = []
    for name in order:
        found = find_estimate(metrics, name, Setting(*reading), "accuracy")
        if found is not None and found.value is not None:
            times = dict(zip(("seconds", "least", "most"), seconds.get(name, (0.0, 0.0, 0.0)), strict=True))
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


def time_axis(seconds: list[float]) -> tuple[dict[float, float], list[tuple[float, str]], tuple[float, float], str]:
    """Where seconds lie on the axis, its ticks (position and text), its ends, and its kind, `linear` or `log`.

    `seconds` are of trainings; 0 lies at "no training", on a logarithmic axis to the left of all others.
    """
    trained = [s for s in seconds if s > 0]
    log = max(trained) / min(trained) >= LOG_FROM
    if log:
        low, high = math.log10(min(trained)), math.log10(max(trained))
        margin = 0.12 * (high - low)
        zero = low - 2 * margin
        ticks = [(math.log10(s), text) for s, text in TICKS if low - margin / 2 <= math.log10(s) <= high + margin / 2]
        ends = (zero - margin / 2, high + margin / 2)
        at = {s: math.log10(s) if s > 0 else zero for s in seconds} | {0.0: zero}
    else:
        high = max(trained)
        step = next((s for s, _ in TICKS if high / s <= 6), TICKS[-1][0])
        zero, ends, at = 0.0, (-0.05 * high, 1.05 * high), {s: s for s in seconds} | {0.0: 0.0}
        ticks = [(float(k * step), time_text(k * step)) for k in range(1, int(ends[1] // step) + 1)]
    return at, [(zero, "no training"), *ticks], ends, "log" if log else "linear"


def time_text(seconds: float) -> str:
    """`90 s`, `2.5 min`, `3 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size or seconds == size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def cost_chart(metrics, costs, starts: dict, order, colours: dict, labels, reading, config: dict) -> alt.TopLevelMixin:
    """Accuracy against training time: a labelled point a condition with its interval, and the Pareto frontier."""
    points = cost_points(metrics, costs, starts, order, reading)
    if points.is_empty() or not (points["seconds"] > 0).any():
        return nothing_to_show(HEADLINE, "No condition of this experiment was trained.", config["width"])
    spans = [s for column in ("seconds", "least", "most") for s in points[column]]
    at, ticks, ends, kind = time_axis(spans)
    width, height = config["width"], HEIGHT + TALLER * max(0, points.height - MANY)
    points = points.with_columns(
        pl.col(column).replace_strict(list(at), list(at.values())).alias(f"{column}_at")
        for column in ("seconds", "least", "most")
    )
    scale_x, scale_y = alt.Scale(domain=list(ends), nice=False), alt.Scale(domain=[0, 1])
    names = " : ".join(f"abs(datum.value - {position!r}) < 1e-9 ? '{text}'" for position, text in ticks) + " : ''"
    axis = alt.Axis(values=[position for position, _ in ticks], labelExpr=names, labelFlush=False)
    along = {"scale": scale_x, "axis": axis, "title": "training time" + (", logarithmic" if kind == "log" else "")}
    x, least_x = (alt.X(f"{field}:Q", **along) for field in ("seconds_at", "least_at"))
    y = alt.Y("value:Q", title=None, scale=scale_y, axis=alt.Axis(format="%", tickCount=5))
    colour = alt.Color("condition:N", legend=None, scale=alt.Scale(domain=list(colours), range=list(colours.values())))
    base = alt.Chart(points)
    tooltip = ["condition:N", alt.Tooltip("seconds:Q", format=",.0f"), alt.Tooltip("value:Q", format=".1%"),
               alt.Tooltip("ci_low:Q", format=".1%"), alt.Tooltip("ci_high:Q", format=".1%"), "n:Q"]  # fmt: skip
    chance = alt.Chart(pl.DataFrame({"value": [1 / len(labels)]}))
    layers = [chance.mark_rule(color="#888", strokeDash=[4, 4]).encode(y=y)]
    frontier = points.filter("frontier").sort("seconds", "value").select("seconds_at", "value")
    last = pl.DataFrame({"seconds_at": [ends[1]], "value": [frontier["value"].max()]})
    steps = alt.Chart(pl.concat([frontier, last])).mark_line(interpolate="step-after", color="#999", strokeWidth=1.5)
    layers.append(steps.encode(x=x, y=y, order="seconds_at:Q"))
    layers.append(
        base.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("ci_low:Q", title=None), y2="ci_high:Q", color=colour)
    )
    layers.append(base.mark_rule(strokeWidth=1).encode(x=least_x, x2="most_at:Q", y=y, color=colour))
    layers.append(base.mark_circle(size=100, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip))
    layers += label_layers(points, pl.concat([frontier, last]), ends, width, height)
    of_seeds = metrics.filter(pl.col("seed").is_not_null(), metric="accuracy", suite=reading[0], decoding=reading[1])
    ranged = "; thin line: fastest to slowest seed" if of_seeds["seed"].n_unique() > 1 else ""
    notes = [
        f"Accuracy, {in_words(reading)}; n = {of_seeds['n'].max():,} applications; {seeds_in_words(of_seeds['seed'])}",
        f"Bar: 95% interval{ranged}",
        "Time: mean of a training, with those that it starts from",
        "Grey line: none is more accurate in less time (by values alone). Dashed: chance",
    ]
    return finish(alt.layer(*layers).properties(width=width, height=height, title=title(HEADLINE, *notes)))


def label_layers(points: pl.DataFrame, frontier: pl.DataFrame, ends, width: int, height: int) -> list[alt.Chart]:
    """Names and values beside the points, and a thin line to each that could not stand next to its point."""

    def x_px(position):
        return (position - ends[0]) / (ends[1] - ends[0]) * width

    def y_px(value):
        return (1 - value) * height

    rows = points.sort("value", descending=True).to_dicts()
    texts = [[*wrapped(row["condition"], LINE)] for row in rows]
    texts = [[*lines[:-1], f"{lines[-1]}  {percent(row['value'])}"] for lines, row in zip(texts, rows, strict=True)]
    places = [(x_px(row["seconds_at"]), y_px(row["value"])) for row in rows]
    sizes = [(max(map(text_width, lines)), LINE_HEIGHT * len(lines)) for lines in texts]
    drawn = [
        (x - 3, y_px(row["ci_high"]), x + 3, y_px(row["ci_low"])) for row, (x, _) in zip(rows, places, strict=True)
    ]
    drawn += [
        (x_px(row["least_at"]), y - 2, x_px(row["most_at"]), y + 2) for row, (_, y) in zip(rows, places, strict=True)
    ]
    corners = [(x_px(x), y_px(y)) for x, y in frontier.iter_rows()]
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):  # flat, then up
        drawn += [(x, y - 2, next_x, y + 2), (next_x - 2, next_y, next_x + 2, y)]
    corners = place_labels(places, sizes, width, height, drawn)
    layers = []
    for lines, (x, y), (left, top), (w, h) in zip(texts, places, corners, sizes, strict=True):
        middle = top + h / 2
        near = left if left > x else left + w if left + w < x else x
        if abs(middle - y) > h / 2 + DOT:
            line = alt.Chart(pl.DataFrame({"text": [""]})).mark_rule(color="#AAA", strokeWidth=0.8)
            end = middle if near != x else top + h if middle < y else top
            layers.append(line.encode(x=alt.value(x), y=alt.value(y), x2=alt.value(near), y2=alt.value(end)))
        align, at = ("left", left) if left >= x else ("right", left + w) if left + w <= x else ("center", left + w / 2)
        words = alt.Chart(pl.DataFrame({"text": ["\n".join(lines)]})).mark_text(
            align=align, baseline="middle", fontSize=12, color="#222", lineBreak="\n", lineHeight=LINE_HEIGHT
        )
        first = top + LINE_HEIGHT / 2
        layers.append(words.encode(x=alt.value(at), y=alt.value(first), text="text:N"))
    return layers
