"""Write down how much each training was told: labels, replies, and bits of supervision at most."""

import polars as pl

from hidden_rule.core.tables import COSTS, HISTORY, SUPERVISION, read_table, write_table
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.supervision import TrainingRecord, measure
from hidden_rule.task.dataset import read_split


def measure_supervision(histories, costs, train, splits, trained, settings, ruleset, output) -> None:
    """Write table SUPERVISION.

    All are paths but `trained` ([condition, seed, method] of each of the `histories` and of the `splits` that it read),
    `settings` (`condition_settings` by condition) and `ruleset` (loaded); `train` is the whole training split.
    """
    costs = read_table(costs, COSTS).filter(stage="train")
    trainings = []
    for history, rows, (condition, seed, method) in zip(histories, splits, trained, strict=True):
        cost = costs.row(by_predicate=(pl.col("condition") == condition) & (pl.col("seed") == seed), named=True)
        record = TrainingRecord(
            run=Run(condition, seed, method),
            condition=settings[condition],
            history=read_table(history, HISTORY),
            cost=cost,
            rows=read_split(rows, ruleset),
        )
        trainings.append(record)
    write_table(measure(trainings, read_split(train, ruleset), len(ruleset.labels)), output, SUPERVISION)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged
    from hidden_rule.task.ruleset import load_ruleset

    with logged(snakemake.log[0]):
        measure_supervision(
            histories=list(snakemake.input.histories),
            costs=snakemake.input.costs,
            train=snakemake.input.train,
            splits=list(snakemake.input.splits),
            trained=snakemake.params.trained,
            settings=snakemake.params.settings,
            ruleset=load_ruleset(snakemake.input.ruleset),
            output=snakemake.output.supervision,
        )
