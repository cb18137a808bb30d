"""Draw the balanced splits of applications that a ruleset decides."""

from hidden_rule.core.logs import logged
from hidden_rule.core.tables import write_table
from hidden_rule.task.dataset import SPLITS, dataset_schema, draw_splits
from hidden_rule.task.ruleset import load_ruleset


def build_dataset(ruleset_path, sizes: dict[str, int], seed: int, paths: dict[str, str]) -> None:
    """Write a parquet table for each split to `paths[split]`; `sizes[split]` are rows."""
    ruleset = load_ruleset(ruleset_path)
    for split, frame in draw_splits(ruleset, sizes, seed, source=ruleset_path).items():
        write_table(frame, paths[split], dataset_schema(ruleset))
        counts = ", ".join(f"{label} {n}" for label, n in sorted(frame["label"].value_counts().iter_rows()))
        print(f"{split}: {len(frame)} applications ({counts})")


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        build_dataset(
            ruleset_path=snakemake.input.ruleset,
            sizes={split: snakemake.params.data[split] for split in SPLITS},
            seed=snakemake.params.data["seed"],
            paths={split: snakemake.output[split] for split in SPLITS},
        )
