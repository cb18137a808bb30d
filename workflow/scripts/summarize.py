"""Turn prediction tables into metrics with intervals, paired comparisons, and one table of costs."""

import polars as pl

from hidden_rule.core.tables import COMPARISONS, COSTS, METRICS, read_table, write_table
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.task.dataset import read_suites


def summarize(predictions, jobs, costs, ruleset, metrics_path, comparisons_path, costs_path, suites=None) -> None:
    """Write the tables METRICS, COMPARISONS and COSTS.

    predictions: paths; jobs: [condition, seed] of each, in the same order; costs: paths of tables in the COSTS schema;
    suites: path of the table of suites, if any were answered.
    """
    runs = {Run(*job): path for job, path in zip(jobs, predictions, strict=True)}
    metrics, comparisons = summarize_predictions(runs, ruleset, suites and read_suites(suites, ruleset))
    write_table(metrics, metrics_path, METRICS)
    write_table(comparisons, comparisons_path, COMPARISONS)
    frames = [COSTS.to_frame(), *(read_table(path, COSTS) for path in costs)]
    write_table(pl.concat(frames).sort("condition", "seed", "stage"), costs_path, COSTS)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged
    from hidden_rule.task.ruleset import load_ruleset

    with logged(snakemake.log[0]):
        summarize(
            predictions=list(snakemake.input.predictions),
            jobs=snakemake.params.jobs,
            costs=list(snakemake.input.costs),
            ruleset=load_ruleset(snakemake.input.ruleset),
            metrics_path=snakemake.output.metrics,
            comparisons_path=snakemake.output.comparisons,
            costs_path=snakemake.output.costs,
            suites=next(iter(snakemake.input.suites), None),
        )
