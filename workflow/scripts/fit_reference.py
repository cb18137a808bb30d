"""Fit a plain classifier to the training split and write down what it decides, as `evaluate` does for a model."""

import time
from pathlib import Path

import polars as pl

from hidden_rule.core.costs import cost_frame
from hidden_rule.core.logs import logged
from hidden_rule.core.tables import COSTS, predictions_schema, write_table
from hidden_rule.evaluation import classifiers
from hidden_rule.evaluation.predictions import named_frames, predictions_frame
from hidden_rule.task.dataset import read_split
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import load_ruleset


def fit_reference(*, kind, ruleset, train, splits, condition, seed, predictions, cost) -> None:
    """Write the predictions of one reference and seed, and what they cost; the classifier itself is not kept.

    `kind` is constant, logistic or boosting; `splits` maps a split to its parquet file, and `suites` to that of all
    suites. The reply is that of the most probable label, and stands under structured decoding.
    """
    began = time.perf_counter()
    ruleset = load_ruleset(ruleset)
    labels = ruleset.labels
    classifier = classifiers.fit(kind, ruleset, read_split(train, ruleset), seed)
    costs = [cost_frame(condition=condition, seed=seed, stage="train", began=began)]
    began, frames = time.perf_counter(), []
    for _, suite, split in named_frames(splits, ruleset):
        probabilities = classifiers.label_probabilities(classifier, ruleset, split)
        replies = [render_reply(labels[i]) for i in probabilities.argmax(1)]
        frames.append(predictions_frame(split, labels, suite, "structured", replies, probabilities))
    write_table(pl.concat(frames), predictions, predictions_schema(list(labels)))
    costs.append(cost_frame(condition=condition, seed=seed, stage="evaluate", began=began))
    write_table(pl.concat(costs), cost, COSTS)


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        fit_reference(
            kind=snakemake.params.kind,
            ruleset=snakemake.input.ruleset,
            train=snakemake.input.train,
            splits={Path(path).stem: path for path in snakemake.input.splits},
            condition=snakemake.wildcards.condition,
            seed=int(snakemake.wildcards.seed),
            predictions=snakemake.output.predictions,
            cost=snakemake.output.cost,
        )
