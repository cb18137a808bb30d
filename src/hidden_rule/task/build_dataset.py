"""Write the splits: balanced applications that a ruleset decides, or the cases of a file."""

import json

import yaml

from hidden_rule.core.files import write_text
from hidden_rule.core.tables import write_table
from hidden_rule.task.cases.own import case_settings, read_own_cases
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.ruleset import load_ruleset, observed_document


def label_counts(frame) -> str:
    """How many rows have each label, in words."""
    return ", ".join(f"{label} {n}" for label, n in sorted(frame["label"].value_counts().iter_rows()))


def build_dataset(ruleset_path, sizes: dict[str, int], seed: int, paths: dict) -> None:
    """Write a parquet table for each split to `paths[split]`; `sizes[split]` are rows."""
    ruleset = load_ruleset(ruleset_path)
    for split, frame in draw_splits(ruleset, sizes, seed, source=ruleset_path).items():
        write_table(frame, paths[split], dataset_schema(ruleset))
        print(f"{split}: {len(frame)} {ruleset.case.many} ({label_counts(frame)})")


def build_own_dataset(data: dict, paths: dict, ruleset_path) -> None:
    """Write a parquet table for each split of a file of cases, and the ruleset that goes with them; say what it holds.

    data: the config's section, checked.
    """
    own = read_own_cases(case_settings(data))
    for line in own.findings:
        print(line)
    for line in own.warnings:
        print(f"warning: {line}")
    document = json.loads(json.dumps(observed_document(own.ruleset)))  # tuples as lists
    write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), ruleset_path)
    ruleset = load_ruleset(ruleset_path)
    for split, frame in own.splits.items():
        write_table(frame, paths[split], dataset_schema(ruleset))
        print(f"{split}: {len(frame)} {ruleset.case.many} ({label_counts(frame)})")
