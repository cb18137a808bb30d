"""Learning curves over labels and label noise: which conditions are points of which line, and their values."""

import polars as pl

from hidden_rule.experiment.runs import Setting

METRICS = ("accuracy", "hidden_recall")
AMOUNTS = ("n_labels", "wall_s", "n_tokens", "bits")  # columns of SUPERVISION: what a training received and cost
KINDS = {  # kind of line -> the column that varies along it, and the one that is constant
    "labels": ("train_rows", "label_noise"),
    "noise": ("label_noise", "train_rows"),
}


def curve_points(metrics: pl.DataFrame, supervision: pl.DataFrame, setting: Setting) -> pl.DataFrame:
    """A row for each line, condition, metric and hidden rule (`rule`; null: none, or all together).

    Columns: `kind` (a key of KINDS), `line` (its name), `condition`, `method`, `curve`, `train_rows`, `label_noise`,
    `wrong_share`, AMOUNTS (means over seeds), `metric`, `rule`, the pooled `value`, `ci_low`, `ci_high`, and `n`.

    A line of kind `labels` joins the conditions of a curve that differ in rows and have the same noise, one of kind
    `noise` those that differ in noise and have the same rows; a single condition is no line. A line's name includes
    what is constant where the curve has several such lines.
    """
    means = supervision.group_by("condition", "method", "curve", "train_rows", "label_noise").agg(
        pl.mean(*AMOUNTS, "wrong_share")
    )
    values = metrics.filter(
        pl.col("seed").is_null(), pl.col("label").is_null(), pl.col("metric").is_in(METRICS), **setting.columns
    ).select("condition", "metric", "rule", "value", "ci_low", "ci_high", "n")
    names = {
        "labels": pl.format("{}, {}% wrong", "curve", (100 * pl.col("label_noise")).round(6)),
        "noise": pl.format("{}, {} labels", "curve", "train_rows"),
    }
    frames = []
    for kind, (varied, same) in KINDS.items():
        several = pl.col(same).n_unique().over("curve") > 1
        lines = means.filter(pl.col(varied).n_unique().over("curve", same) > 1).with_columns(
            kind=pl.lit(kind), line=pl.when(several).then(names[kind]).otherwise("curve")
        )
        frames.append(lines.sort("curve", same, varied, "condition"))
    return pl.concat(frames).join(values, on="condition", how="inner", maintain_order="left")


def rising(points: pl.DataFrame, varied: str, column: str) -> pl.DataFrame:
    """The points of those lines along which `column` rises with `varied`; others would run back and forth."""
    steps = points.sort(varied).with_columns(step=pl.col(column).diff().over("line", "metric", "rule"))
    back = steps.filter(pl.col("step") <= 0)
    keys = ["line", "metric", "rule"]
    return points.join(back, on=keys, how="anti", nulls_equal=True, maintain_order="left")
