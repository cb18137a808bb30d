"""Example replies of the report: a few of each condition, correct, wrong and invalid ones."""

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run, Setting

EXAMPLES = 2  # replies of each kind (correct, wrong, invalid) of each condition
MAX_REPLY = 300  # characters of a reply that are shown


def examples(results: Results, setting: Setting) -> list[dict]:
    """Of each condition's first seed some replies of each kind, those of the lowest ids.

    A dictionary a reply: `condition`, `seed`, `application_id`, `kind`, `label` and `reply`, cut to MAX_REPLY.
    """
    first = {run.condition: run for run in reversed(results.runs)}
    shown = []
    for name in results.conditions:
        shown += [row | first[name].columns for row in examples_of(results, first[name], setting)]
    return shown


def examples_of(results: Results, run: Run, setting: Setting) -> list[dict]:
    """Some replies of a run, as `examples` says."""
    kind = (
        pl.when(pl.col("predicted").is_null())
        .then(pl.lit("invalid"))
        .when(pl.col("predicted") == pl.col("label"))
        .then(pl.lit("correct"))
        .otherwise(pl.lit("wrong"))
    )
    rows = (
        results.predictions(run)
        .filter(**setting.columns)
        .select("application_id", "label", pl.col("reply").str.slice(0, MAX_REPLY + 1), kind=kind)
        .sort("application_id")
        .group_by("kind", maintain_order=True)
        .head(EXAMPLES)
        .sort("kind", "application_id")
        .collect()
    )
    return [row | {"reply": shortened(row["reply"] or "")} for row in rows.iter_rows(named=True)]


def shortened(reply: str) -> str:
    """At most MAX_REPLY characters of a reply, with an ellipsis where it was longer."""
    return reply[:MAX_REPLY] + "…" if len(reply) > MAX_REPLY else reply
