"""Make the base model ready to load and write down what it is."""

import hidden_rule.models.startup  # noqa: F401, I001 - first, see there

from hidden_rule.core.logs import logged
from hidden_rule.models.loading import prepare_model

if "snakemake" in globals():
    with logged(snakemake.log[0]):
        prepare_model(snakemake.params.model, snakemake.output.manifest)
