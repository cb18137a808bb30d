"""Write the splits, drawn from a ruleset or of a file of cases (`hidden_rule/task/build_dataset.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.task.build_dataset import build_dataset, build_own_dataset
from hidden_rule.task.dataset import SPLITS

with logged(snakemake.log[0]):
    data, paths = snakemake.params.data, {split: snakemake.output[split] for split in SPLITS}
    if data["source"] == "file":
        build_own_dataset(data, paths, snakemake.output.ruleset)
    else:
        sizes = {split: data[split] for split in SPLITS}
        build_dataset(snakemake.input.ruleset, sizes, data["seed"], paths)
