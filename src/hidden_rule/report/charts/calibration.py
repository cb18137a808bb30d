"""Chart of calibration: a reliability diagram of each condition."""

import altair as alt
import numpy as np
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import (
    DASHED,
    Chart,
    columns_of,
    condition_colours,
    finish,
    nothing_to_show,
    panel_title,
    percent_tooltips,
    seeds_in_words,
    title,
    wrapped,
)
from hidden_rule.statistics.calibration import confidences, reliability

HEADLINE = "Calibration"
COLUMNS, LINE, SIZE = 4, 22, 165  # panels in a row; characters of a name in one line; px


def calibration_chart(results: Results) -> Chart:
    """A reliability diagram of each condition, its expected calibration error in its title."""
    answers = {run: results.predictions(run) for run in results.runs}
    found = confidences(answers, results.labels, results.main)
    if not found:
        return nothing_to_show(HEADLINE, "No condition of this experiment has probabilities of its answers.", results)
    colours = condition_colours(results)
    lines = max(len(wrapped(name, LINE)) for name in found)
    panels = []
    for name, (p, right) in found.items():
        head = wrapped(name, LINE)
        panels.append(diagram([""] * (lines - len(head)) + head, colours[name], p, right))
    n = len(next(iter(found.values()))[0])
    notes = [
        f"{results.main.words}; n = {n:,} {results.ruleset.case.many}; {seeds_in_words(results.seeds)}",
        "Point: accuracy of answers of similar probability, with its 95% CI. Dashed: perfect calibration",
        "ECE: expected calibration error, the mean distance of the points from the dashed line",
    ]
    columns = columns_of(results, min(COLUMNS, len(panels)))
    return finish(alt.concat(*panels, columns=columns, spacing=28).properties(title=title(HEADLINE, *notes)))


def diagram(heading: list[str], colour: str, p: np.ndarray, right: np.ndarray) -> alt.LayerChart:
    """One reliability diagram; p, right: as for `reliability`."""
    bins, error = reliability(p, right)
    x = alt.X("p:Q", title="probability", scale=alt.Scale(domain=[0, 1]), axis=percent_axis(2))
    y = alt.Y("share:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]), axis=percent_axis(4))
    diagonal = alt.Chart(pl.DataFrame({"p": [0.0, 1.0], "share": [0.0, 1.0]})).mark_line(
        color="#888", strokeDash=DASHED, strokeWidth=1
    )
    base = alt.Chart(bins)
    tooltip = [*percent_tooltips("p", "share", "low", "high"), "n:Q"]
    layers = [
        diagonal.encode(x=x, y=y),
        base.mark_rule(color=colour, strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title="accuracy"), y2="high:Q"),
        base.mark_circle(color=colour, size=50, opacity=1).encode(x=x, y=y, tooltip=tooltip),
    ]
    named = panel_title(heading, subtitle=f"ECE {100 * error:.1f} points")
    return alt.layer(*layers).properties(width=SIZE, height=SIZE, title=named)


def percent_axis(n: int) -> alt.Axis:
    """An axis from 0 to 100% with `n` steps."""
    return alt.Axis(format="%", values=[i / n for i in range(n + 1)], labelOverlap=False)
