"""Draw replies of a training's start (`hidden_rule/evaluation/sample_start.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.evaluation.jobs import SamplingJob
from hidden_rule.models.base import BaseModel
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.startup import load_libraries

with logged(snakemake.log[0]):
    lease_devices(snakemake.resources.get("gpu", 0))  # before torch is imported
    load_libraries()
    from hidden_rule.evaluation.sample_start import sample_start
    from hidden_rule.models.hardware import use_threads

    use_threads(snakemake.threads)
    sample_start(
        SamplingJob(
            seed=int(snakemake.wildcards.seed),
            base=BaseModel.of(snakemake.input.model, snakemake.params.model),
            adapter=snakemake.params.adapter,
            ruleset=snakemake.input.ruleset,
            split=snakemake.input.split,
            settings=snakemake.params.settings,
            **snakemake.params.numbers,
            batch_size=snakemake.params.batch_size,
            output=snakemake.output[0],
        )
    )
