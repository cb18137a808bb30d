"""Draw the suites of applications (`hidden_rule/task/build_suites.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.task.build_suites import build_suites

with logged(snakemake.log[0]):
    build_suites(
        ruleset_path=snakemake.input.ruleset,
        settings=snakemake.params.suites,
        seed=snakemake.params.seed,
        train=snakemake.input.train,
        suites=snakemake.output.suites,
    )
