"""All charts by name, built with Altair from an experiment's results.

A condition has the same colour in every chart. Figures that a study published about the same ruleset stand beside ours
as diamonds. The main setting is the holdout suite under structured decoding, if it was evaluated.
"""

import itertools
from pathlib import Path

import altair as alt

from hidden_rule.core.files import whole
from hidden_rule.experiment.display import displayed
from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.accuracy import accuracy_chart, hidden_rule_chart
from hidden_rule.report.charts.calibration import calibration_chart
from hidden_rule.report.charts.collapse import collapse_chart
from hidden_rule.report.charts.confusion import confusion_chart
from hidden_rule.report.charts.cost import cost_chart
from hidden_rule.report.charts.expected_cost import expected_cost_chart
from hidden_rule.report.charts.files import chart_bytes
from hidden_rule.report.charts.forest import forest_chart
from hidden_rule.report.charts.labels import label_chart
from hidden_rule.report.charts.learning import learning_chart
from hidden_rule.report.charts.style import WARNING, Chart
from hidden_rule.report.charts.suites import suites_chart
from hidden_rule.report.charts.training import training_chart
from hidden_rule.report.text.badges import ONE_SEED, SMOKE, badges

CHARTS = {
    "accuracy": accuracy_chart,
    "forest": forest_chart,
    "expected_cost": expected_cost_chart,
    "hidden_rule": hidden_rule_chart,
    "suites": suites_chart,
    "cost": cost_chart,
    "confusion": confusion_chart,
    "calibration": calibration_chart,
    "learning": learning_chart,
    "training": training_chart,
    "collapse": collapse_chart,
    "labels": label_chart,
}


def build_charts(results: Results, names=CHARTS) -> dict[str, Chart]:
    """Charts by name, all or those of `names`; conditions stand in them by their display names.

    Charts travel alone: the run's badges stand in each.
    """
    shown, of_run = displayed(results), badges(results)
    charts = {name: CHARTS[name](shown) for name in names}
    for chart in charts.values():
        mark_run(chart.title, of_run)
    return charts


def mark_run(title: alt.TitleParams, of_run: list[str]) -> None:
    """Put a run's badges into the title of its chart: a smoke test's above it, in red; that of one seed below it."""
    if ONE_SEED in of_run:
        notes = [] if title.subtitle is alt.Undefined else title.subtitle
        title.subtitle = [ONE_SEED.capitalize(), *notes]
    if SMOKE in of_run:
        title.text = [SMOKE.capitalize(), title.text]
        title.color = WARNING


def render_charts(results: Results, outputs) -> None:
    """Save each chart to those of `outputs` whose stem is its name; the suffix (.html, .svg, .png) decides the form."""
    paths = sorted(map(Path, outputs))
    by_name = {name: list(group) for name, group in itertools.groupby(paths, key=lambda path: path.stem)}
    for name, chart in build_charts(results, by_name).items():
        by_suffix = {path.suffix: path for path in by_name[name]}
        for suffix, content in chart_bytes(name, chart, list(by_suffix)).items():
            with whole(by_suffix[suffix]) as temporary:
                temporary.write_bytes(content)
