"""Turn prediction tables into metrics with intervals, paired comparisons, and one table of costs."""

from hidden_rule.core.tables import COMPARISONS, COSTS, METRICS, write_table
from hidden_rule.experiment.planned_comparisons import planned_pairs
from hidden_rule.experiment.results import Results
from hidden_rule.statistics.expected_cost import CostScheme
from hidden_rule.statistics.metrics import summarize_predictions


def summarize(results: Results, metrics_path, comparisons_path, costs_path) -> None:
    """Write the tables METRICS, COMPARISONS and COSTS of all runs."""
    predictions = {run: results.predictions_path(run) for run in results.runs}
    suites = results.split("suites") if results.has_suites else None
    planned = planned_pairs(results.config)
    costs = results.config.get("decision_costs")
    scheme = CostScheme.of(costs, results.ruleset) if costs else None
    metrics, comparisons = summarize_predictions(predictions, results.ruleset, suites, planned, scheme)
    write_table(metrics, metrics_path, METRICS)
    write_table(comparisons, comparisons_path, COMPARISONS)
    write_table(results.costs_of_runs, costs_path, COSTS)


if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        summarize(
            Results(Path(snakemake.output.metrics).parent, snakemake.params.config, snakemake.input),
            metrics_path=snakemake.output.metrics,
            comparisons_path=snakemake.output.comparisons,
            costs_path=snakemake.output.costs,
        )
