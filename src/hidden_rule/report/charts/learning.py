"""Chart of learning curves: validation accuracy over optimizer steps and over training time."""

import altair as alt
import polars as pl
from scipy import stats

from hidden_rule.core.tables import HISTORY, read_table
from hidden_rule.report.charts.style import (
    CONDITION_COLOURS,
    finish,
    legend_columns,
    nothing_to_show,
    panel_title,
    seeds_in_words,
    title,
)
from hidden_rule.statistics.intervals import CONFIDENCE

HEADLINE = "How quickly each condition learns"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")


def learning_curves(histories, trained, seconds_before: dict) -> pl.DataFrame:
    """Mean validation accuracy of each condition over its seeds, a row a condition and step.

    histories, trained: paths, and [condition, seed, method] of each; seconds_before: training time, by condition, of
    what it starts from. Columns: `condition`, `step`, `value`, `low`, `high` (the mean's 95% interval by Student's t
    over seeds, cut to 0 and 1; null with one seed), `wall_s` (mean over seeds, with what came before), `n_seeds`. Steps
    are those of the seed that was trained longest; one that stopped early keeps its last value.
    """
    frames = [
        read_table(path, HISTORY)
        .filter(metric="validation_accuracy")
        .select("step", "wall_s", "value", condition=pl.lit(condition), seed=pl.lit(seed, dtype=pl.Int64))
        .sort("step")
        for path, (condition, seed, _) in zip(histories, trained, strict=True)
    ]
    rows = []
    for name in dict.fromkeys(condition for condition, *_ in trained):
        of = [frame for frame in frames if frame.height and frame["condition"][0] == name]
        if not of:
            continue
        grid = max(of, key=lambda frame: frame["step"][-1]).select("step")
        at_steps = pl.concat(grid.join_asof(frame, on="step") for frame in of).drop_nulls("value")
        for step, here in at_steps.group_by("step", maintain_order=True):
            mean, n = here["value"].mean(), here.height
            half = None
            if n > 1:
                half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * here["value"].std() / n**0.5
            wall_s = here["wall_s"].mean() + seconds_before.get(name, 0.0)
            interval = (None, None) if half is None else (max(0.0, mean - half), min(1.0, mean + half))
            rows.append((name, step[0], mean, *interval, wall_s, n))
    schema = {"condition": pl.String, "step": pl.Int64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64,
              "wall_s": pl.Float64, "n_seeds": pl.Int64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").sort("condition", "step")


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which times up to so many seconds are read, and its seconds."""
    return ("seconds", 1.0) if seconds < 180 else ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def learning_chart(
    histories, trained, colours: dict, labels, config: dict, n_validation: int, seconds_before: dict
) -> alt.TopLevelMixin:
    """Learning curves with a band over seeds: on the left over steps, on the right over training time."""
    curves = learning_curves(histories, trained, seconds_before) if histories else pl.DataFrame()
    if curves.is_empty():
        return nothing_to_show(HEADLINE, "No condition of this experiment was trained.", config["width"])
    unit, size = time_unit(curves["wall_s"].max())
    learnt = [name for name in colours if name in set(curves["condition"])]
    width = max(240, round(0.7 * config["width"]))
    columns = legend_columns(learnt, 2 * width)
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, columnPadding=30, columns=columns)
    colour = alt.Color(
        "condition:N", scale=alt.Scale(domain=learnt, range=[colours[name] for name in learnt]), legend=legend
    )
    shapes = [
        SHAPES[(i + i // len(CONDITION_COLOURS)) % len(SHAPES)] for i in range(len(learnt))
    ]  # where colours recur
    shape = alt.Shape("condition:N", scale=alt.Scale(domain=learnt, range=shapes), legend=legend)
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
    tooltip = ["condition:N", "step:Q", alt.Tooltip("wall_s:Q", format=".0f"), alt.Tooltip("value:Q", format=".1%"),
               alt.Tooltip("low:Q", format=".1%"), alt.Tooltip("high:Q", format=".1%"), "n_seeds:Q"]  # fmt: skip
    chance = alt.Chart(pl.DataFrame({"value": [1 / len(labels)]})).mark_rule(color="#888", strokeDash=[4, 4])
    base = alt.Chart(curves.with_columns(time=pl.col("wall_s") / size))
    panels = []
    for field, heading in [("step", "over optimizer steps"), ("time", f"over {unit} of training")]:
        last = curves["step"].max() if field == "step" else curves["wall_s"].max() / size
        axis = alt.Axis(tickMinStep=1 if field == "step" else 0, tickCount=5)
        x = alt.X(f"{field}:Q", title=None, scale=alt.Scale(domain=[0, last], nice=False), axis=axis)
        band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.18)
        line = base.mark_line(strokeWidth=2)
        point = base.mark_point(filled=True, size=48, opacity=1, clip=False)
        layers = [
            chance.encode(y=alt.Y("value:Q", title=None)),
            band.encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=colour),
            line.encode(x=x, y=y, color=colour),
            point.encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
        ]
        named = panel_title(heading, frame="group")
        panels.append(alt.layer(*layers).properties(width=width, height=260, title=named))
    several = len({seed for _, seed, _ in trained}) > 1
    notes = [
        f"Validation accuracy, structured decoding; n = {n_validation:,} applications; "
        + seeds_in_words((seed for _, seed, _ in trained), "averaged"),
        "Band: 95% interval of that mean (Student's t over seeds)"
        if several
        else "One seed says nothing about others: a line without an interval",
        "Dashed: chance. Times are means over seeds and include the training that a condition starts from.",
    ]  # fmt: skip
    return finish(alt.hconcat(*panels, spacing=30).properties(title=title(HEADLINE, *notes)))
