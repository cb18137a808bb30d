"""Before a training by reward: what its first groups will hold."""

import polars as pl

from hidden_rule.core.logs import logged
from hidden_rule.core.tables import FEASIBILITY, read_table, write_table
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.feasibility import assess_training
from hidden_rule.task.ruleset import load_ruleset

CASE = ("application_id", "label")  # of the tables of cases, beside the features

if "snakemake" in globals():
    with logged(snakemake.log[0]):
        ruleset = load_ruleset(snakemake.input.ruleset)
        cases = [read_table(path).select(*CASE, *ruleset.feature_names) for path in snakemake.input.cases]
        table = assess_training(
            snakemake.input.replies,
            Run(snakemake.wildcards.condition, int(snakemake.wildcards.seed), "grpo"),
            start=snakemake.params.start,
            settings=snakemake.params.settings | ({"cases": pl.concat(cases)} if cases else {}),
            ruleset=ruleset,
            free=snakemake.params.free,
        )
        write_table(table, snakemake.output[0], FEASIBILITY)
