"""Before a training by reward: what its first groups will hold."""

from hidden_rule.feasibility import assess_training
from hidden_rule.logs import logged
from hidden_rule.ruleset import load_ruleset
from hidden_rule.tables import FEASIBILITY, write_table

if "snakemake" in globals():
    with logged(snakemake.log[0]):
        table = assess_training(
            snakemake.input.replies,
            condition=snakemake.wildcards.condition,
            start=snakemake.params.start,
            seed=int(snakemake.wildcards.seed),
            settings=snakemake.params.settings,
            ruleset=load_ruleset(snakemake.input.ruleset),
            free=snakemake.params.free,
        )
        write_table(table, snakemake.output[0], FEASIBILITY)
