"""Fit a plain classifier, to compare with (`hidden_rule/evaluation/fit_reference.py`)."""

from pathlib import Path

from hidden_rule.core.logs import logged
from hidden_rule.evaluation.fit_reference import fit_reference
from hidden_rule.evaluation.jobs import EvaluationOutput, ReferenceJob

with logged(snakemake.log[0]):
    fit_reference(
        ReferenceJob(
            condition=snakemake.wildcards.condition,
            seed=int(snakemake.wildcards.seed),
            kind=snakemake.params.kind,
            ruleset=snakemake.input.ruleset,
            train=snakemake.input.train,
            splits={Path(path).stem: path for path in snakemake.input.splits},
            output=EvaluationOutput(snakemake.output.predictions, snakemake.output.cost),
        )
    )
