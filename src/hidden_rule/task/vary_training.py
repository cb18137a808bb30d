"""Write a condition's own training data: fewer rows than the split has, or labels that are partly wrong."""

from hidden_rule.core.tables import write_table
from hidden_rule.task.build_dataset import label_counts
from hidden_rule.task.dataset import dataset_schema, read_split
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.training_subsets import vary


def vary_training(train, ruleset_path, rows: int | None, noise: float, seed: int, output) -> None:
    """Write the table at `train` with `rows` of its rows (None: all), a share `noise` of their labels replaced."""
    ruleset = load_ruleset(ruleset_path)
    split = read_split(train, ruleset)
    varied = vary(split, ruleset.labels, rows=rows, noise=noise, seed=seed, balanced=not ruleset.is_observed)
    write_table(varied, output, dataset_schema(ruleset))
    print(f"{len(varied)} of {len(split)} {ruleset.case.many} ({label_counts(varied)})")
