"""Train one condition and seed with RFT (`hidden_rule/training/rft.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.startup import load_libraries
from hidden_rule.training import launch
from hidden_rule.training.job import job_of_rule

with logged(snakemake.log[0]):
    job, place = job_of_rule(snakemake), launch.place_of_rule(snakemake)
    launch.start(["-m", "hidden_rule.training.rft"], job, place)  # before torch is imported
    load_libraries()
    from hidden_rule.training.rft import train_rft

    launch.train(train_rft, job, place)
