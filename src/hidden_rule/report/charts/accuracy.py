"""Charts of accuracy, and of recall and precision on hidden rules: a point and an interval for each condition."""

from dataclasses import dataclass, field, replace

import altair as alt
import polars as pl

from hidden_rule.experiment.display import DisplayedResults
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Setting, guess_words, of_rule
from hidden_rule.report.charts.style import (
    DASHED,
    Chart,
    columns_of,
    condition_colours,
    filling,
    finish,
    heading_of,
    is_narrow,
    nothing_to_show,
    panel_title,
    percent_tooltips,
    reference_notes,
    scale_of,
    seeds_in_words,
    title,
    width_of,
    wrapped,
)

HIDDEN_METRICS = {
    "hidden_recall": "Recall: accuracy where the hidden rule fires",
    "conflict_recall": "Recall in conflict: the same where another rule disagrees",
    "hidden_precision": "Precision: accuracy of answers that only the hidden rule explains",
}
BRIEF = {"hidden_recall": "Recall", "conflict_recall": "Recall in conflict", "hidden_precision": "Precision"}
RULE_LINE = 34  # characters of a hidden rule's name in one line


@dataclass(frozen=True)
class Panel:
    """One plot: a metric by condition."""

    metric: str
    heading: str | list[str]
    width: int  # px
    rule: str | None = None  # the metric is one of this hidden rule, of several
    published: dict[str, float] = field(default_factory=dict)  # a study's share by condition, drawn as diamonds
    chance: float | None = None  # drawn as a dashed line
    named: bool = True  # conditions stand beside it


def accuracy_chart(results: Results, settings: list[Setting] | None = None) -> Chart:
    """Accuracy by condition, a panel a setting (by default all, the main one first), beside published figures."""
    panels = [
        interval_panel(
            results,
            setting,
            Panel(
                "accuracy",
                f"{setting.words} ({sample_size(results, 'accuracy', setting)} {results.ruleset.case.many})",
                width_of(results),
                published=published_figures(results, "accuracy") if setting == results.main else {},
                chance=results.chance,
            ),
        )
        for setting in settings or results.evaluated
    ]
    notes = interval_notes(results, ["accuracy"])
    headline = title("Accuracy", *notes)
    return finish(alt.vconcat(*panels, spacing=26).properties(title=headline))


def hidden_rule_chart(results: Results) -> Chart:
    """Recall and precision on the hidden rules by condition in the main setting, beside published figures.

    Of several hidden rules a row of panels each, below that of all together.
    """
    if not results.ruleset.hidden_rules:
        return nothing_to_show("Recall and precision on the hidden rule", "The ruleset has no hidden rule.", results)
    setting, rules = results.main, results.separate_rules
    notes = interval_notes(results, HIDDEN_METRICS)
    if not rules:
        panels = [
            Panel(metric, f"{words} ({sample_size(results, metric, setting)})", width_of(results))
            for metric, words in HIDDEN_METRICS.items()
        ]
        panels = [replace(panel, published=published_figures(results, panel.metric)) for panel in panels]
        plot = alt.vconcat(*(interval_panel(results, setting, panel) for panel in panels), spacing=26)
        headline = title("Recall and precision on the hidden rule", setting.words, *notes)
        return finish(plot.properties(title=headline))
    untested = [rule for rule in rules if not max(rows_of(results, "hidden_recall", setting, rule)["n"])]
    shown = [panel for rule in [None, *rules] if rule not in untested for panel in panels_of_rule(results, rule)]
    panels = [interval_panel(results, setting, panel) for panel in shown]
    nowhere = [f"No case: {', '.join(untested)}"] if untested else []
    headline = title(
        "Recall and precision on the hidden rules", setting.words, *HIDDEN_METRICS.values(), *notes, *nowhere
    )
    return finish(
        alt.concat(*panels, columns=columns_of(results, len(BRIEF)), align="each", spacing=20).properties(
            title=headline
        )
    )


def panels_of_rule(results: Results, rule: str | None) -> list[Panel]:
    """A panel a metric for one of several hidden rules, or for all of them together, which a study's figures are of."""
    name, stacked = wrapped(rule, RULE_LINE) if rule else ["all hidden rules"], is_narrow(results)
    return [
        Panel(
            metric,
            [
                *(name if i == 0 or stacked else [" "] * len(name)),
                f"{words} ({sample_size(results, metric, results.main, rule)})",
            ],
            max(200, width_of(results) // 2),
            rule,
            {} if rule else published_figures(results, metric),
            named=i == 0 or stacked,
        )
        for i, (metric, words) in enumerate(BRIEF.items())
    ]


def rows_of(results: Results, metric: str, setting: Setting, rule: str | None = None) -> pl.DataFrame:
    """Rows of METRICS of a metric that is not one of a label; rule: of one of several hidden rules."""
    return results.metrics.filter(pl.col("label").is_null(), of_rule(rule), metric=metric, **setting.columns)


def sample_size(results: Results, metric: str, setting: Setting, rule: str | None = None) -> str:
    """`n = 1,000`: the denominator of a metric under one seed; a range where conditions differ."""
    n = rows_of(results, metric, setting, rule).filter(pl.col("seed").is_not_null())["n"]
    return f"n = {min(n):,}" if n.n_unique() == 1 else f"n = {min(n):,} to {max(n):,}"


def interval_notes(results: Results, metrics) -> list[str]:
    """What the marks of an interval chart mean, as lines of a subtitle; metrics: those that the chart shows."""
    words = seeds_in_words(results.metrics["seed"].drop_nulls(), "pooled, small dots: single seeds")
    lines = [f"Dot and bar: estimate and 95% CI; {words}", *reference_notes(results)]
    has_figures = any(published_figures(results, metric) for metric in metrics)
    return lines + ([f"Diamond: {results.ruleset.published.source}"] if has_figures else [])


def published_figures(results: Results, metric: str) -> dict[str, float]:
    """What a study published about this ruleset, by condition of the experiment; empty without a study."""
    study = results.ruleset.published
    names = results.names if isinstance(results, DisplayedResults) else {}
    shares = {names.get(name, name): share for name, share in study.of(metric).items()} if study else {}
    return {name: share for name, share in shares.items() if name in results.conditions}


def interval_panel(results: Results, setting: Setting, panel: Panel) -> alt.LayerChart:
    """Horizontal point-and-interval plot of one metric by condition."""
    rows = rows_of(results, panel.metric, setting, panel.rule)
    pooled = rows.filter(pl.col("seed").is_null()).with_columns(
        text=pl.when(pl.col("value").is_null())
        .then(pl.lit("undefined (n = 0)"))
        .otherwise((100 * pl.col("value")).round(1).cast(pl.String) + "%"),
        at=pl.col("ci_high").fill_null(0.0),
    )
    names = alt.Axis(labelPadding=8) if panel.named else None
    answered = set(pooled["condition"])  # classifiers write nothing under free decoding
    order = [name for name in results.conditions if name in answered]
    y = alt.Y("condition:N", sort=order, title=None, scale=alt.Scale(domain=order), axis=names)
    axis = alt.Axis(format="%", values=[i / 5 for i in range(6)])
    x = alt.X("value:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, 1.12], nice=False))
    colour = alt.Color("condition:N", scale=scale_of(condition_colours(results)), legend=None)
    tooltip = ["condition:N", *percent_tooltips("value", "ci_low", "ci_high"), "n:Q"]
    base = alt.Chart(pooled).encode(y=y)
    layers = [] if panel.chance is None else chance_layers(panel.chance, x)
    if panel.published:
        layers.append(published_layer(panel.published, x, y))
    layers.append(base.mark_rule(strokeWidth=3).encode(x=alt.X("ci_low:Q"), x2="ci_high:Q", color=colour))
    of_seeds = rows.filter(pl.col("seed").is_not_null())
    if of_seeds["seed"].n_unique() > 1:
        dots = alt.Chart(of_seeds).mark_circle(size=22, opacity=0.55, yOffset=9)
        layers.append(dots.encode(x=x, y=y, color=colour, tooltip=["seed:O", *tooltip]))
    points = base.mark_point(size=95, strokeWidth=2, opacity=1)
    layers.append(points.encode(x=x, tooltip=tooltip, **filling(results)))
    layers.append(base.mark_text(align="left", dx=11, fontSize=12, color="#222").encode(x=alt.X("at:Q"), text="text:N"))
    return alt.layer(*layers).properties(
        width=panel.width, height=alt.Step(38), title=panel_title(heading_of(panel.heading, results))
    )


def chance_layers(chance: float, x: alt.X) -> list[alt.Chart]:
    """A dashed line at chance, and its name."""
    line = alt.Chart(pl.DataFrame({"value": [float(chance)], "text": [f"{guess_words(chance)} {chance:.0%}"]})).encode(
        x=x
    )
    return [
        line.mark_rule(color="#888", strokeDash=DASHED),
        line.mark_text(align="left", baseline="bottom", dx=4, y=-3, color="#666").encode(text="text:N"),
    ]


def published_layer(published: dict[str, float], x: alt.X, y: alt.Y) -> alt.Chart:
    """A diamond for each condition with a published share."""
    diamonds = alt.Chart(pl.DataFrame({"condition": list(published), "value": list(published.values())}))
    tooltip = ["condition:N", alt.Tooltip("value:Q", title="published", format=".1%")]
    return diamonds.mark_point(shape="diamond", size=60, color="#222", strokeWidth=1.5, yOffset=-12).encode(
        x=x, y=y, tooltip=tooltip
    )
