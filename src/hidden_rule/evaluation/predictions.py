"""The rows of predictions, the same for models and classifiers."""

import numpy as np
import polars as pl

from hidden_rule.task.replies import parse_reply


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
