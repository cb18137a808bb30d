"""Make the base model ready to load, inspect it, and write down what it is (`hidden_rule/models/inspection.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.base import BaseModel
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.startup import load_libraries

with logged(snakemake.log[0]):
    lease_devices(snakemake.resources.get("gpu", 0))  # before torch is imported
    load_libraries()
    from hidden_rule.models.hardware import use_threads
    from hidden_rule.models.inspection import Use, prepare_and_inspect

    use_threads(snakemake.threads)
    params = snakemake.params
    base, cases = BaseModel.of(params.record, params.model), tuple(snakemake.input.get("cases", ()))
    use = Use(base, snakemake.input.ruleset, cases=cases, **params.inspected)
    prepare_and_inspect(params.model, params.base, use, snakemake.output.manifest)
