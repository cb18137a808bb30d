"""Fit a plain classifier to the training split and record its predictions, as `evaluate` does for a model."""

import polars as pl

from hidden_rule.core.costs import Cost, Spent, write_costs
from hidden_rule.core.tables import predictions_schema, write_table
from hidden_rule.core.usage import Snapshot
from hidden_rule.evaluation import classifiers
from hidden_rule.evaluation.jobs import ReferenceJob
from hidden_rule.evaluation.predictions import predictions_frame
from hidden_rule.task.dataset import named_frames, read_split
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import load_ruleset


def fit_reference(job: ReferenceJob) -> None:
    """Write the predictions of one reference and seed, and what they cost; the classifier itself is not kept.

    The reply is that of the most probable label, and stands under structured decoding.
    """
    begun = Snapshot()
    ruleset = load_ruleset(job.ruleset)
    labels = ruleset.labels
    classifier = classifiers.fit(job.kind, ruleset, read_split(job.train, ruleset), job.seed)
    fitting = Cost(job.condition, job.seed, "train").row(Spent.since(begun))
    begun, frames = Snapshot(), []
    for _, suite, split in named_frames(job.splits, ruleset):
        probabilities = classifiers.label_probabilities(classifier, ruleset, split)
        replies = [render_reply(labels[i], labels) for i in probabilities.argmax(1)]
        frames.append(predictions_frame(split, labels, suite, "structured", replies, probabilities))
    write_table(pl.concat(frames), job.output.predictions, predictions_schema(list(labels)))
    deciding = Cost(job.condition, job.seed, "evaluate").row(Spent.since(begun))
    write_costs(job.output.cost, fitting, deciding)
