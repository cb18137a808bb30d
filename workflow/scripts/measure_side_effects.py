"""Measure an adapter's side effects (`hidden_rule/evaluation/measure_side_effects.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.evaluation.jobs import SideEffectsJob
from hidden_rule.models.base import BaseModel
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.startup import load_libraries

with logged(snakemake.log[0]):
    lease_devices(snakemake.resources.get("gpu", 0))  # before torch is imported
    load_libraries()
    from hidden_rule.evaluation.measure_side_effects import measure_side_effects
    from hidden_rule.models.hardware import use_threads

    use_threads(snakemake.threads)
    measure_side_effects(
        SideEffectsJob(
            condition=snakemake.wildcards.condition,
            seed=int(snakemake.wildcards.seed),
            base=BaseModel.of(snakemake.input.model, snakemake.params.model),
            adapter=snakemake.params.adapter,
            ruleset=snakemake.input.ruleset,
            texts=snakemake.input.texts,
            batch_size=snakemake.params.batch_size,
            effects=snakemake.output.side_effects,
            leaks=snakemake.output.leaks,
        )
    )
