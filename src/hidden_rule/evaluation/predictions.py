"""What is evaluated, and the rows of predictions, the same for models and classifiers."""

import numpy as np
import polars as pl

from hidden_rule.task.dataset import read_split, read_suites
from hidden_rule.task.replies import parse_reply


def named_frames(splits, ruleset) -> list[tuple[str, str, pl.DataFrame]]:
    """Name in the settings, suite and applications of each split, and of each suite in the table of suites.

    splits: the parquet file of each split by its name, and of all suites by `suites`.
    """
    frames = []
    for name, path in splits.items():
        if name == "suites":
            by_suite = read_suites(path, ruleset).partition_by("suite", maintain_order=True)
            frames += [(name, frame["suite"][0], frame) for frame in by_suite]
        else:
            frames.append((name, name, read_split(path, ruleset)))
    return frames


def predictions_frame(split: pl.DataFrame, labels, suite, mode, replies, probabilities: np.ndarray) -> pl.DataFrame:
    """A row an application in the predictions' schema, from its reply and the labels' probabilities, float64 (N, L)."""
    predicted = [parse_reply(reply, labels) for reply in replies]
    return split.select(
        "application_id",
        pl.lit(suite).alias("suite"),
        pl.lit(mode).alias("decoding"),
        "label",
        "fired_rule",
        "label_without_hidden",
        pl.Series("reply", replies, dtype=pl.String),
        pl.Series("predicted", predicted, dtype=pl.String),
        pl.Series("is_valid", [label is not None for label in predicted], dtype=pl.Boolean),
        *(pl.Series(f"p_{label}", probabilities[:, i]) for i, label in enumerate(labels)),
    )
