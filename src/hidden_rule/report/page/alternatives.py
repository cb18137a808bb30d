"""Text alternatives of charts: what each shows, and its main values."""

import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Setting
from hidden_rule.report.tables import cell, order_of
from hidden_rule.report.text.phrases import duration, in_table, percent, signed
from hidden_rule.report.text.training_cost import run_costs

SHOWN = {
    "accuracy": "Accuracy by condition with 95% CI, for other splits and decodings.",
    "forest": "Differences in accuracy of the planned comparisons with 95% CI; filled where significant.",
    "expected_cost": "Expected cost of mistakes per 1,000 cases by condition with 95% CI; lower is better.",
    "hidden_rule": "Recall and precision on each hidden rule by condition with 95% CI.",
    "suites": "Generalization suites by condition with 95% CI; the bluer, the better.",
    "cost": "Accuracy against training time with 95% CI, and the Pareto front.",
    "confusion": "Confusion matrix of each condition: predicted by true decision.",
    "calibration": "Calibration: accuracy by predicted probability with 95% CI, a panel per condition.",
    "learning": "Learning curves: validation accuracy over optimizer steps and over training time.",
    "training": "Training curves: reward and loss over optimizer steps.",
    "collapse": "Share of each decision among sampled answers over steps, with entropy and groups of equal rewards.",
    "labels": "Accuracy and recall on each hidden rule against labels, seconds, tokens, bits and label noise.",
}


def alternative(results: Results, chart: str) -> str:
    """What a chart shows, and its values where they are few; the table beside it has all."""
    makers = {
        "accuracy": lambda: of_settings(results),
        "forest": lambda: of_differences(results),
        "expected_cost": lambda: of_metric(results, "expected_cost"),
        "hidden_rule": lambda: of_metric(results, "hidden_recall"),
        "cost": lambda: of_times(results),
        "confusion": lambda: of_labels(results),
        "learning": lambda: of_validation(results),
    }
    values = makers[chart]() if chart in makers else ""
    return f"{SHOWN.get(chart, chart)} {values}".strip()


def values_of(results: Results, setting: Setting, metric: str) -> str:
    """`SFT 95.4% (93.9–96.5), …` of the conditions that have the metric."""
    found = {name: results.estimate(name, setting, metric) for name in order_of(results)}
    return ", ".join(f"{name} {cell(metric, of)}" for name, of in found.items() if of)


def of_metric(results: Results, metric: str) -> str:
    values = values_of(results, results.main, metric)
    what = {"hidden_recall": "Recall: "}.get(metric, "")
    return f"{what}{values}." if values else ""


def of_settings(results: Results) -> str:
    said = [(setting.words, values_of(results, setting, "accuracy")) for setting in results.evaluated[1:]]
    return " ".join(f"{words}: {values}." for words, values in said if values)


def of_differences(results: Results) -> str:
    rows = results.comparisons.filter(pl.col("seed").is_null(), metric="accuracy", **results.main.columns)
    said = []
    for row in rows.drop_nulls("difference").to_dicts():
        sign = -1 if row["difference"] < 0 else 1
        pair = (row["condition_a"], row["condition_b"])[::sign]
        said.append(f"{pair[0]} minus {pair[1]} {signed(sign * row['difference'])} points")
    return f"{', '.join(said)}." if said else ""


def of_times(results: Results) -> str:
    said = [
        f"{name} {duration(of.training_s)} and {in_table(results.estimate(name, results.main, 'accuracy'))}"
        for name, of in run_costs(results.costs, results.starts).items()
        if of.training
    ]
    return f"{', '.join(said)}." if said else ""


def of_labels(results: Results) -> str:
    """Recall of each decision by condition."""
    rows = results.metrics.filter(
        pl.col("seed").is_null(), pl.col("value").is_not_null(), metric="recall", **results.main.columns
    )
    said = []
    for name in order_of(results):
        of = rows.filter(condition=name)
        recalls = [f"{row['label']} {percent(row['value'])}" for row in of.to_dicts()]
        said += [f"{name}: {', '.join(recalls)}"] if recalls else []
    return f"Recall of each decision: {'; '.join(said)}." if said else ""


def of_validation(results: Results) -> str:
    """The last validation accuracy of each condition, mean over seeds."""
    last: dict[str, list[float]] = {}
    for run, history in results.histories.items():
        values = history.filter(metric="validation_accuracy").sort("step")["value"]
        if len(values):
            last.setdefault(run.condition, []).append(values[-1])
    said = [f"{name} {percent(sum(of) / len(of))}" for name, of in last.items()]
    return f"At the end: {', '.join(said)}." if said else ""
