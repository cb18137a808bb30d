"""Fetch a Hub model: the one job that may ask the network (`hidden_rule/models/files.py`)."""

from hidden_rule.core.logs import logged

with logged(snakemake.log[0], hub=True):
    from hidden_rule.models.files import fetch_model

    fetch_model(snakemake.params.model, snakemake.output.done)
