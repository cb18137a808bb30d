"""Chart of the expected cost of mistakes: a point and an interval for each condition."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.accuracy import rows_of
from hidden_rule.report.charts.style import (
    Chart,
    condition_colours,
    filling,
    finish,
    nothing_to_show,
    reference_notes,
    scale_of,
    seeds_in_words,
    title,
    width_of,
)
from hidden_rule.report.text.phrases import amount, amount_interval

HEADLINE = "Expected cost of mistakes"
METRIC = "expected_cost"


def expected_cost_chart(results: Results) -> Chart:
    """Expected cost per 1,000 cases by condition, with 95% CI, in the main setting; lower is better."""
    rows = rows_of(results, METRIC, results.main).drop_nulls("value")
    if rows.is_empty():
        return nothing_to_show(HEADLINE, "No decision costs, or a label of practice has no evaluated case.", results)
    pooled, of_seeds = rows.filter(pl.col("seed").is_null()), rows.filter(pl.col("seed").is_not_null())
    unit = results.config["decision_costs"]["unit"]
    written = [
        f"{amount(row['value'])} ({amount_interval(row['ci_low'], row['ci_high'])})" for row in pooled.to_dicts()
    ]
    pooled = pooled.with_columns(text=pl.Series(written))
    y = alt.Y("condition:N", sort=results.conditions, title=None, scale=alt.Scale(domain=results.conditions))
    top = max(float(at) for column in (pooled["ci_high"], of_seeds["value"]) for at in column) or 1.0
    scale = alt.Scale(domain=[0, 1.45 * top], nice=False)  # with room for the texts
    axis = alt.Axis(tickCount=max(3, width_of(results) // 90), labelOverlap=True)
    along = {"title": f"{unit} per 1,000 cases", "scale": scale, "axis": axis}
    value, low = (alt.X(f"{field}:Q", **along) for field in ("value", "ci_low"))
    colour = alt.Color("condition:N", scale=scale_of(condition_colours(results)), legend=None)
    tooltip = ["condition:N", alt.Tooltip("text:N", title="cost (95% CI)"), "n:Q"]
    base = alt.Chart(pooled).encode(y=y)
    layers = [base.mark_rule(strokeWidth=3).encode(x=low, x2="ci_high:Q", color=colour)]
    if of_seeds["seed"].n_unique() > 1:
        dots = alt.Chart(of_seeds).mark_circle(size=22, opacity=0.55, yOffset=9)
        layers.append(dots.encode(x=value, y=y, color=colour, tooltip=["seed:O", "condition:N", "value:Q"]))
    point = base.mark_point(size=95, strokeWidth=2, opacity=1)
    layers.append(point.encode(x=value, tooltip=tooltip, **filling(results)))
    text = base.mark_text(align="left", dx=11, fontSize=12, color="#222")
    layers.append(text.encode(x=alt.X("ci_high:Q", **along), text="text:N"))
    words = seeds_in_words(of_seeds["seed"], "pooled, small dots: single seeds")
    notes = [
        f"{results.main.words}; n = {max(of_seeds['n']):,} {results.ruleset.case.many}, weighted by prevalence; "
        "lower is better",
        f"Dot and bar: estimate and 95% CI; {words}",
        *reference_notes(results),
    ]
    plot = alt.layer(*layers).properties(width=width_of(results), height=alt.Step(38))
    return finish(plot.properties(title=title(HEADLINE, *notes)))
