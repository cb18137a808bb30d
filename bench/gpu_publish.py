"""The tables of a GPU's run for `results/published/gpu/`: `python bench/gpu_publish.py RUN`, on any machine.

RUN is the `--output` of `gpu_experiment.py`. Metrics, planned comparisons and shortcuts are made by the pipeline's own
functions from its predictions; predictions themselves are not published. `checks.json` says when, where and with which
settings the run was. `--cpu` names the folder of a published run with the same settings and seeds: what it reached is
kept beside, in `cpu.json`.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import polars as pl

import measure
from measure import ROOT

TRAINED = ("data", "lora", "sft", "grpo")  # settings that accuracy depends on
SETTINGS = (*TRAINED, "evaluation")
CONDITIONS = ("grpo", "sft", "sft_then_grpo")


def shortcuts(predictions: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Of each run's structured answers to the holdout split, the share that each feature alone predicts.

    features: `application_id` and the features of the split's cases. Columns of the result: `condition`, `seed`,
    `feature`, `share`, `right_share` (the same of the labels) and `n`.
    """
    from hidden_rule.statistics.shortcuts import explained, levels

    rows = []
    answers = predictions.filter(suite="holdout", decoding="structured")
    for (condition, seed), of_run in sorted(answers.group_by("condition", "seed")):
        table = features.join(
            of_run.select("application_id", "predicted", "label"), on="application_id", validate="1:1"
        )
        answered, n = table["predicted"].fill_null(""), table.height
        for name in features.drop("application_id").columns:
            of = levels(table[name])
            shares = {"share": explained(answered, of) / n, "right_share": explained(table["label"], of) / n}
            rows.append({"condition": condition, "seed": seed, "feature": name, **shares, "n": n})
    return pl.DataFrame(rows, schema_overrides={"seed": pl.Int64})


def summarize(predictions: pl.DataFrame, config: dict) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables METRICS and COMPARISONS; of the comparisons the planned pairs whose conditions were run."""
    from hidden_rule.experiment.planned_comparisons import planned_pairs
    from hidden_rule.experiment.runs import Run
    from hidden_rule.statistics.metrics import summarize_predictions
    from hidden_rule.task.ruleset import load_ruleset

    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for (condition, seed), of_run in sorted(predictions.group_by("condition", "seed")):
            paths[Run(condition, seed)] = path = Path(folder) / f"{condition}-{seed}.parquet"
            of_run.drop("condition", "seed").write_parquet(path)
        return summarize_predictions(paths, load_ruleset(config["ruleset"]), None, planned_pairs(config))


def main() -> None:
    """Read the options and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder that gpu_experiment.py wrote")
    parser.add_argument("--output", type=Path, default=ROOT / "results/published/gpu")
    parser.add_argument("--cpu", type=Path, help="a published run on a CPU with the same settings and seeds")
    options = parser.parse_args()
    run, output, cpu = options.run.resolve(), options.output.resolve(), options.cpu and options.cpu.resolve()
    os.chdir(ROOT)
    publish(run, output)
    if cpu:
        measure.write_json(
            same_seeds(cpu, json.loads((output / "checks.json").read_text("utf-8"))), output / "cpu.json"
        )


def same_seeds(published: Path, checks: dict) -> dict:
    """Accuracy of each seed of a published run under structured decoding of the holdout split, by condition.

    checks: those of the GPU's run; other settings or seeds end the program.
    """
    run = json.loads((published / "provenance.json").read_text(encoding="utf-8"))
    for name in TRAINED:
        if run["config"][name] != checks["settings"][name]:
            raise SystemExit(f"{published}: {name} has other settings than the run on the GPU")
    metrics = pl.read_parquet(published / "metrics.parquet").filter(pl.col("seed").is_not_null())
    metrics = metrics.filter(suite="holdout", decoding="structured", metric="accuracy").sort("seed")
    accuracy = {}
    for name in CONDITIONS:
        of = metrics.filter(condition=name)
        if of["seed"].to_list() != checks["seeds"]:
            raise SystemExit(f"{published}: {name} has the seeds {of['seed'].to_list()}, not {checks['seeds']}")
        accuracy[name] = of["value"].to_list()
    where = {name: run[name] for name in ("created", "git", "hardware")}
    return {**where, "torch": run["packages"]["torch"], "seeds": checks["seeds"], "accuracy": accuracy}


def publish(run: Path, output: Path) -> None:
    """Write what `results/published/gpu/` has of a run."""
    from hidden_rule.core.costs import read_costs
    from hidden_rule.core.tables import COMPARISONS, COSTS, METRICS, write_table
    from hidden_rule.task.build_dataset import build_dataset
    from hidden_rule.task.ruleset import load_ruleset

    output.mkdir(parents=True, exist_ok=True)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    predictions = pl.read_parquet(run / "predictions.parquet")
    metrics, comparisons = summarize(predictions, config)
    write_table(metrics, output / "metrics.parquet", METRICS)
    write_table(comparisons, output / "comparisons.parquet", COMPARISONS)
    costs = read_costs(run / "costs.parquet").sort("condition", "seed", "stage")
    write_table(costs, output / "costs.parquet", COSTS)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {split: config["data"][split] for split in ("train", "validation", "test", "holdout")}
        paths = {split: Path(folder) / f"{split}.parquet" for split in sizes}
        build_dataset(config["ruleset"], sizes, 0, paths)
        features = [feature.name for feature in load_ruleset(config["ruleset"]).features]
        holdout = pl.read_parquet(paths["holdout"]).select("application_id", *features)
    shortcuts(predictions, holdout).write_parquet(output / "shortcuts.parquet")
    where, checks = (json.loads((run / f"{name}.json").read_text("utf-8")) for name in ("circumstances", "checks"))
    settings = {name: config[name] for name in SETTINGS}
    measure.write_json({**where, "model": config["model"], "settings": settings, **checks}, output / "checks.json")


if __name__ == "__main__":
    main()
