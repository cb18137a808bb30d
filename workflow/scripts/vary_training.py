"""Write a condition's own training data (`hidden_rule/task/vary_training.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.task.vary_training import vary_training

with logged(snakemake.log[0]):
    vary_training(
        train=snakemake.input.train,
        ruleset_path=snakemake.input.ruleset,
        rows=snakemake.params.rows,
        noise=snakemake.params.noise,
        seed=snakemake.params.seed,
        output=snakemake.output.train,
    )
