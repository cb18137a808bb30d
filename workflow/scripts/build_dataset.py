"""Draw the balanced splits of applications (`hidden_rule/task/build_dataset.py`)."""

from hidden_rule.core.logs import logged
from hidden_rule.task.build_dataset import build_dataset
from hidden_rule.task.dataset import SPLITS

with logged(snakemake.log[0]):
    build_dataset(
        ruleset_path=snakemake.input.ruleset,
        sizes={split: snakemake.params.data[split] for split in SPLITS},
        seed=snakemake.params.data["seed"],
        paths={split: snakemake.output[split] for split in SPLITS},
    )
