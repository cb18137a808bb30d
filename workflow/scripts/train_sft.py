"""Train one condition and seed with SFT (`hidden_rule/training/sft.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.startup import load_libraries
from hidden_rule.training import launch
from hidden_rule.training.job import job_of_rule

with logged(snakemake.log[0]):
    job, place = job_of_rule(snakemake), launch.place_of_rule(snakemake)
    launch.start(["-m", "hidden_rule.training.sft"], job, place)  # before torch is imported
    load_libraries()
    from hidden_rule.training.sft import train_sft

    launch.train(train_sft, job, place)
