"""Train one condition and seed with GRPO (`hidden_rule/training/grpo.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.startup import load_libraries
from hidden_rule.training import launch
from hidden_rule.training.job import job_of_rule

with logged(snakemake.log[0]):
    job, place = job_of_rule(snakemake), launch.place_of_rule(snakemake)
    launch.start(["-m", "hidden_rule.training.grpo"], job, place)  # before torch is imported
    load_libraries()
    from hidden_rule.training.grpo import train_grpo

    launch.train(train_grpo, job, place)
