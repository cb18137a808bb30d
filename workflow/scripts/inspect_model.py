"""What the model's inspection finds: as when it was prepared, or anew (`hidden_rule/models/inspection.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.base import BaseModel
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.inspected import earlier_findings, write_findings
from hidden_rule.models.startup import load_libraries

with logged(snakemake.log[0]):
    manifest, settings = snakemake.input.model, snakemake.params.inspected
    found = earlier_findings(manifest, settings)
    if found is None:
        lease_devices(snakemake.resources.get("gpu", 0))  # before torch is imported
        load_libraries()
        from hidden_rule.models.hardware import use_threads
        from hidden_rule.models.inspection import Use, inspect_model, warn

        use_threads(snakemake.threads)
        base, cases = BaseModel.of(manifest, snakemake.params.model), tuple(snakemake.input.get("cases", ()))
        found = inspect_model(Use(base, snakemake.input.ruleset, cases=cases, **settings))
        warn(found)
    write_findings(found, snakemake.output.inspection)
