"""Write the report: one HTML page with the answer, its evidence, cost and provenance."""

import polars as pl

from hidden_rule.core.files import read_json, write_text
from hidden_rule.core.tables import (
    COLLAPSE,
    COMPARISONS,
    COSTS,
    FEASIBILITY,
    HISTORY,
    LEAKS,
    METRICS,
    SIDE_EFFECTS_SUMMARY,
    SUPERVISION,
    read_table,
)
from hidden_rule.report.page import build_report, render_report
from hidden_rule.report.side_effects_page import section


def write_report(
    metrics,
    comparisons,
    costs,
    histories,
    trained,
    predictions,
    jobs,
    svgs,
    provenance,
    ruleset,
    config,
    template,
    output,
    feasibility=(),
    collapse=None,
    supervision=None,
    side_effects=None,
    leaks=(),
    splits=(),
) -> None:
    """All are paths but `trained` and `jobs` (as in render_charts), `ruleset` (loaded) and `config` (resolved).

    `feasibility` are the tables of the trainings by reward, `collapse` is the one of the verdicts on them;
    `supervision` is the table of that name, `side_effects` the summary of what was measured, where there is one, and
    `leaks` are the tables of the same trainings; `splits` are those that were answered.
    """
    measured = None
    if side_effects:
        answers = pl.concat([read_table(path, LEAKS) for path in leaks])
        measured = section(read_table(side_effects, SIDE_EFFECTS_SUMMARY), answers)
    context = build_report(
        metrics=read_table(metrics, METRICS),
        comparisons=read_table(comparisons, COMPARISONS),
        costs=read_table(costs, COSTS),
        histories=[read_table(path, HISTORY) for path in histories],
        trained=trained,
        predictions=predictions,
        jobs=jobs,
        svgs=svgs,
        provenance=read_json(provenance),
        ruleset=ruleset,
        config=config,
        output=output,
        feasibility=pl.concat([read_table(path, FEASIBILITY) for path in feasibility]) if feasibility else None,
        collapse=None if collapse is None else read_table(collapse, COLLAPSE),
        supervision=supervision and read_table(supervision, SUPERVISION),
        side_effects=measured,
        splits=splits,
    )
    write_text(render_report(context, template), output)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged
    from hidden_rule.task.ruleset import load_ruleset

    with logged(snakemake.log[0]):
        write_report(
            metrics=snakemake.input.metrics,
            comparisons=snakemake.input.comparisons,
            costs=snakemake.input.costs,
            histories=list(snakemake.input.histories),
            trained=snakemake.params.trained,
            predictions=list(snakemake.input.predictions),
            jobs=snakemake.params.jobs,
            svgs=list(snakemake.input.svgs),
            provenance=snakemake.input.provenance,
            ruleset=load_ruleset(snakemake.input.ruleset),
            config=snakemake.params.config,
            template=snakemake.input.template,
            output=snakemake.output[0],
            feasibility=list(snakemake.input.feasibility),
            collapse=snakemake.input.collapse,
            supervision=next(iter(snakemake.input.supervision), None),
            side_effects=next(iter(snakemake.input.side_effects), None),
            leaks=list(snakemake.input.leaks),
            splits=list(snakemake.input.splits),
        )
