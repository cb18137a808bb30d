"""Draw the balanced splits of applications that a ruleset decides, and write them."""

from hidden_rule.core.tables import write_table
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.ruleset import load_ruleset


def label_counts(frame) -> str:
    """How many rows have each label, in words."""
    return ", ".join(f"{label} {n}" for label, n in sorted(frame["label"].value_counts().iter_rows()))


def build_dataset(ruleset_path, sizes: dict[str, int], seed: int, paths: dict) -> None:
    """Write a parquet table for each split to `paths[split]`; `sizes[split]` are rows."""
    ruleset = load_ruleset(ruleset_path)
    for split, frame in draw_splits(ruleset, sizes, seed, source=ruleset_path).items():
        write_table(frame, paths[split], dataset_schema(ruleset))
        print(f"{split}: {len(frame)} applications ({label_counts(frame)})")
