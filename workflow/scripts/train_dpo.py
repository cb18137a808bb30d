"""Train one condition and seed with DPO (`hidden_rule/training/dpo.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.startup import load_libraries
from hidden_rule.training import launch
from hidden_rule.training.job import job_of_rule

with logged(snakemake.log[0]):
    job, place = job_of_rule(snakemake), launch.place_of_rule(snakemake)
    launch.start(["-m", "hidden_rule.training.dpo"], job, place)  # before torch is imported
    load_libraries()
    from hidden_rule.training.dpo import train_dpo

    launch.train(train_dpo, job, place)
