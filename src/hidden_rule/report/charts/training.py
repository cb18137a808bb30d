"""Chart of training curves: validation accuracy, reward and loss over optimizer steps."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import (
    CONDITION_COLOURS,
    Chart,
    chance_rule,
    condition_colours,
    finish,
    heading_of,
    legend_columns,
    nothing_to_show,
    panel_title,
    scale_of,
    title,
    width_of,
)
from hidden_rule.statistics.learning_curves import training_curves

HEADLINE = "Training curves"
ZERO_LOSS = 1e-6  # GRPO's advantages sum to zero, and so does its loss as long as it samples from what it trains
DASHES = ([1, 0], [7, 3], [2, 2])  # where colours recur: the first time, the second, the third


def training_chart(results: Results, *, with_validation: bool = True) -> Chart:
    """Validation accuracy, reward where there is one, and loss (a panel a method), over optimizer steps.

    with_validation: whether validation accuracy is shown, which learning curves show too.
    """
    histories = results.histories
    if not histories:
        return nothing_to_show(HEADLINE, "No condition of this experiment was trained.", results)
    curves = training_curves(histories)
    if not with_validation:
        curves = curves.filter(pl.col("metric") != "validation_accuracy")
    panels, notes = [], []
    for heading, rows in panels_of(curves, [run.method for run in histories], results.chance.words).items():
        metric, largest = rows["metric"][0], max(rows["value"].abs())
        if metric == "loss" and largest < ZERO_LOSS:
            notes.append(f"{heading}: zero up to rounding, not shown")
        else:
            panels.append(curve_panel(rows, heading, max(curves["step"]), results))
    if not panels:
        return nothing_to_show(HEADLINE, "No reward or loss was recorded.", results)
    n_seeds, widest = len({run.seed for run in histories}), max(curves["window"])
    note = f"One line per condition{' and seed' if n_seeds > 1 else ''}; {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    note += f"; points average up to {widest} steps" if widest > 1 else ""
    return finish(alt.vconcat(*panels, spacing=22).properties(title=title(HEADLINE, note, *notes)))


def panels_of(curves: pl.DataFrame, methods, guess: str) -> dict[str, pl.DataFrame]:
    """The rows of each panel that has any, by its heading; guess: what the accuracy of guessing is called."""
    found = {
        f"validation accuracy (structured decoding), dashed: {guess}": curves.filter(metric="validation_accuracy"),
        "mean reward": curves.filter(metric="reward"),
    }
    found |= {f"loss, {method.upper()}": curves.filter(metric="loss", method=method) for method in methods}
    return {heading: rows for heading, rows in found.items() if not rows.is_empty()}


def curve_panel(rows: pl.DataFrame, heading: str, last: int, results: Results) -> alt.LayerChart:
    """One metric over steps 0 to `last`, a line a condition and seed."""
    is_accuracy = rows["metric"][0] == "validation_accuracy"
    small = max(rows["value"].abs()) <= 1e-3
    form = "%" if is_accuracy else "~e" if small else alt.Undefined
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[0, 1]) if is_accuracy else alt.Scale(zero=False),
        axis=alt.Axis(minExtent=44, tickCount=5, format=form),
    )
    scale = alt.Scale(domain=[0, last], nice=False)
    x = alt.X("step:Q", title="optimizer step", scale=scale, axis=alt.Axis(tickMinStep=1))
    colour, dash = line_encodings(results)
    tooltip = ["condition:N", "seed:O", "step:Q", alt.Tooltip("value:Q", format=".3f")]
    line = alt.Chart(rows).mark_line(point=is_accuracy, strokeWidth=1.8, opacity=0.85, clip=True)
    layers = [chance_rule(results.chance).encode(y="value:Q")] if is_accuracy else []
    layers.append(line.encode(x=x, y=y, color=colour, strokeDash=dash, detail="seed:N", tooltip=tooltip))
    named = panel_title(heading_of(heading, results), frame="group")
    return alt.layer(*layers).properties(width=width_of(results), height=150, title=named)


def line_encodings(results: Results) -> tuple[alt.Color, alt.StrokeDash]:
    """Colour and dash of each trained condition, in one legend."""
    trained = {run.condition for run in results.histories}
    colours = {name: colour for name, colour in condition_colours(results).items() if name in trained}
    legend = alt.Legend(
        title=None, orient="top", columnPadding=30, columns=legend_columns(colours, width_of(results)),
        symbolType="stroke", symbolSize=400, symbolStrokeWidth=2.5,
    )  # fmt: skip
    dashes = {name: DASHES[i // len(CONDITION_COLOURS) % len(DASHES)] for i, name in enumerate(colours)}
    return (
        alt.Color("condition:N", scale=scale_of(colours), legend=legend),
        alt.StrokeDash("condition:N", scale=scale_of(dashes), legend=legend),
    )
