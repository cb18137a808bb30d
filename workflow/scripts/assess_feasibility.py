"""Before a training by reward: what its first groups will hold."""

from hidden_rule.core.logs import logged
from hidden_rule.core.tables import FEASIBILITY, write_table
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.feasibility import assess_training
from hidden_rule.task.ruleset import load_ruleset

if "snakemake" in globals():
    with logged(snakemake.log[0]):
        table = assess_training(
            snakemake.input.replies,
            Run(snakemake.wildcards.condition, int(snakemake.wildcards.seed), "grpo"),
            start=snakemake.params.start,
            settings=snakemake.params.settings,
            ruleset=load_ruleset(snakemake.input.ruleset),
            free=snakemake.params.free,
        )
        write_table(table, snakemake.output[0], FEASIBILITY)
