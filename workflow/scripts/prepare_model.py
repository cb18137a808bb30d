"""Make the base model ready to load and write down what it is (`hidden_rule/models/prepare.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.models.startup import load_libraries

with logged(snakemake.log[0], hub=snakemake.params.model["source"] == "hub"):
    load_libraries()
    from hidden_rule.models.prepare import prepare_model

    prepare_model(snakemake.params.model, snakemake.output.manifest)
