"""Chart of learning curves: validation accuracy over optimizer steps and over training time."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import (
    CONDITION_COLOURS,
    Chart,
    chance_rule,
    columns_of,
    condition_colours,
    finish,
    legend_columns,
    nothing_to_show,
    panel_title,
    percent_tooltips,
    scale_of,
    seeds_in_words,
    title,
    width_of,
)
from hidden_rule.report.text.training_cost import busy_sentences
from hidden_rule.statistics.learning_curves import learning_curves
from hidden_rule.statistics.training_costs import training_costs

HEADLINE = "Learning curves"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit for times of up to so many seconds, and its seconds."""
    return ("seconds", 1.0) if seconds < 180 else ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def learning_chart(results: Results) -> Chart:
    """Learning curves with a band over seeds: on the left over steps, on the right over training time."""
    costs = training_costs(results.costs, results.starts)
    before = {name: costs[start].wall_s for name, start in results.starts.items() if start in costs}
    curves = learning_curves(results.histories, before)
    if curves.is_empty():
        return nothing_to_show(HEADLINE, "No condition of this experiment was trained.", results)
    unit, size = time_unit(max(curves["wall_s"]))
    curves = curves.with_columns(time=pl.col("wall_s") / size)
    width = max(240, round(0.7 * width_of(results)))
    panels = [
        curve_panel(curves, "step", "over optimizer steps", results, width),
        curve_panel(curves, "time", f"over {unit} of training", results, width),
    ]
    seeds = {run.seed for run in results.trained}
    notes = [
        "Validation accuracy, structured decoding; "
        f"n = {results.config['data']['validation']:,} {results.ruleset.case.many}; "
        + seeds_in_words(seeds, "averaged"),
        "Band: 95% CI of the mean (Student's t over seeds)" if len(seeds) > 1 else "One seed: no interval over seeds",
        f"Dashed: {results.chance.words}. Training time: wall time, mean over seeds, that of the condition's starts "
        "included",
        *busy_sentences(results.costs),
    ]
    return finish(
        alt.concat(*panels, columns=columns_of(results, 2), spacing=30).properties(title=title(HEADLINE, *notes))
    )


def curve_panel(curves: pl.DataFrame, field: str, heading: str, results: Results, width: int) -> alt.LayerChart:
    """The curves over `field`, `step` or `time`."""
    trained = set(curves["condition"])
    colours = {name: colour for name, colour in condition_colours(results).items() if name in trained}
    columns = legend_columns(colours, columns_of(results, 2) * width)
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, columnPadding=30, columns=columns)
    colour = alt.Color("condition:N", scale=scale_of(colours), legend=legend)
    # where a colour recurs, the shape differs
    places = {name: i + i // len(CONDITION_COLOURS) for i, name in enumerate(colours)}
    shapes = {name: SHAPES[place % len(SHAPES)] for name, place in places.items()}
    shape = alt.Shape("condition:N", scale=scale_of(shapes), legend=legend)
    axis = alt.Axis(tickMinStep=1 if field == "step" else 0, tickCount=5)
    x = alt.X(f"{field}:Q", title=None, scale=alt.Scale(domain=[0, curves[field].max()], nice=False), axis=axis)
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
    tooltip = ["condition:N", "step:Q", alt.Tooltip("wall_s:Q", format=".0f"),
               *percent_tooltips("value", "low", "high"), "n_seeds:Q"]  # fmt: skip
    base = alt.Chart(curves)
    band = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.18)
    point = base.mark_point(filled=True, size=48, opacity=1, clip=False)
    layers = [
        chance_rule(results.chance).encode(y=alt.Y("value:Q", title=None)),
        band.encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour),
        point.encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
    ]
    return alt.layer(*layers).properties(width=width, height=260, title=panel_title(heading, frame="group"))
