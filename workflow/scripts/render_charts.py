"""Draw every chart and save it as an interactive page, a vector image and a bitmap."""

import itertools
from pathlib import Path

from hidden_rule.core.files import whole
from hidden_rule.core.tables import COMPARISONS, COSTS, METRICS, SUPERVISION, read_table
from hidden_rule.report.charts.build import build_charts
from hidden_rule.report.charts.files import chart_bytes


def render_charts(
    metrics,
    comparisons,
    costs,
    predictions,
    jobs,
    histories,
    trained,
    labels,
    config,
    outputs,
    starts,
    lacks,
    n_validation,
    supervision=None,
) -> None:
    """Save each chart to those of `outputs` whose stem is its name; the suffix (.html, .svg, .png) decides the format.

    metrics, comparisons, costs, supervision: paths of tables; the rest as for `build_charts`.
    """
    charts = build_charts(
        read_table(metrics, METRICS),
        predictions,
        jobs,
        histories,
        trained,
        labels,
        config,
        comparisons=read_table(comparisons, COMPARISONS),
        costs=read_table(costs, COSTS),
        starts=starts,
        lacks=lacks,
        n_validation=n_validation,
        supervision=supervision and read_table(supervision, SUPERVISION),
    )
    paths = sorted(map(Path, outputs))
    for name, group in itertools.groupby(paths, key=lambda path: path.stem):
        by_suffix = {path.suffix: path for path in group}
        for suffix, content in chart_bytes(name, charts[name], list(by_suffix)).items():
            with whole(by_suffix[suffix]) as temporary:
                temporary.write_bytes(content)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged
    from hidden_rule.task.ruleset import load_ruleset
    from hidden_rule.task.suites import KINDS, why_not

    with logged(snakemake.log[0]):
        ruleset = load_ruleset(snakemake.input.ruleset)
        render_charts(
            metrics=snakemake.input.metrics,
            comparisons=snakemake.input.comparisons,
            costs=snakemake.input.costs,
            predictions=list(snakemake.input.predictions),
            jobs=snakemake.params.jobs,
            histories=list(snakemake.input.histories),
            trained=snakemake.params.trained,
            labels=ruleset.labels,
            config=snakemake.params.charts,
            outputs=list(snakemake.output),
            starts=snakemake.params.starts,
            lacks={kind: why_not(ruleset, kind) for kind in KINDS},
            n_validation=snakemake.params.n_validation,
            supervision=next(iter(snakemake.input.supervision), None),
        )
