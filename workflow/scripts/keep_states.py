"""What layers below every adapter make of cases (`hidden_rule/models/kept_states.py`)."""

from pathlib import Path

from hidden_rule.core.logs import logged
from hidden_rule.models.base import BaseModel
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.startup import load_libraries
from hidden_rule.models.states_job import StatesJob

with logged(snakemake.log[0]):
    lease_devices(snakemake.resources.get("gpu", 0))  # before torch is imported
    load_libraries()
    from hidden_rule.models.hardware import use_threads
    from hidden_rule.models.kept_states import keep_states

    use_threads(snakemake.threads)
    keep_states(
        StatesJob(
            base=BaseModel.of(snakemake.input.model, snakemake.params.model),
            lora={name: snakemake.params[name] for name in ("last_layers", "target_modules")},
            ruleset=snakemake.input.ruleset,
            splits={Path(path).stem: path for path in snakemake.input.splits},
            output=snakemake.output.states,
            whole=frozenset(snakemake.params.whole),
        )
    )
