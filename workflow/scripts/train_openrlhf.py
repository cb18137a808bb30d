"""Train one condition and seed by OpenRLHF, whatever the method (`hidden_rule/training/engines/openrlhf.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.startup import load_libraries
from hidden_rule.training.job import job_of_rule
from hidden_rule.training.launch import place_of_rule

with logged(snakemake.log[0]):
    job, place = job_of_rule(snakemake), place_of_rule(snakemake)
    lease_devices(place.gpus)  # before torch is imported
    load_libraries()
    from hidden_rule.training.engines.openrlhf import OpenRLHF
    from hidden_rule.training.engines.training import train_by_engine

    train_by_engine(OpenRLHF(), snakemake.params.method, job, place)
