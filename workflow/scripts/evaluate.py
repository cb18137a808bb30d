"""Evaluate one condition and seed (`hidden_rule/evaluation/evaluate.py`)."""

from pathlib import Path

from hidden_rule.core.logs import logged
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
from hidden_rule.models.base import BaseModel
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.startup import load_libraries

with logged(snakemake.log[0]):
    lease_devices(snakemake.resources.get("gpu", 0))  # before torch is imported
    load_libraries()
    from hidden_rule.evaluation.evaluate import evaluate
    from hidden_rule.models.hardware import use_threads

    use_threads(snakemake.threads)
    evaluate(
        EvaluationJob(
            condition=snakemake.wildcards.condition,
            seed=int(snakemake.wildcards.seed),
            base=BaseModel.of(snakemake.input.model, snakemake.params.model),
            adapter=snakemake.params.adapter,
            ruleset=snakemake.input.ruleset,
            splits={Path(path).stem: path for path in snakemake.input.splits},
            settings=snakemake.params.settings,
            output=EvaluationOutput(snakemake.output.predictions, snakemake.output.cost),
            prompt=snakemake.params.prompt,
            train=next(iter(snakemake.input.examples), None),
            log=snakemake.log[0],
            states=next(iter(snakemake.input.states), None),
        )
    )
