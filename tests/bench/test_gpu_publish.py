"""What is published of a GPU's run, from a made-up run: every answer right but one condition's, which is constant."""

import json
from pathlib import Path

import polars as pl
import pytest

from hidden_rule.core.costs import write_costs
from hidden_rule.core.tables import COSTS, predictions_schema
from hidden_rule.experiment.config import load_config
from hidden_rule.task.build_dataset import build_dataset
from hidden_rule.task.ruleset import load_ruleset

ROOT = Path(__file__).resolve().parents[2]

import gpu_publish  # noqa: E402

SEEDS, N = [4, 5], 16


def test_shortcuts_by_hand():
    features = pl.DataFrame({"application_id": [1, 2, 3, 4], "kind": ["a", "a", "b", "b"]})
    rows = {"application_id": [4, 3, 2, 1], "predicted": ["X", "Y", "X", "X"], "label": ["Y", "Y", "X", None]}
    table = pl.DataFrame(rows).with_columns(
        condition=pl.lit("sft"), seed=pl.lit(7), suite=pl.lit("holdout"), decoding=pl.lit("structured")
    )
    others = table.with_columns(suite=pl.lit("test"))  # are not looked at
    found = gpu_publish.shortcuts(pl.concat([table, others]), features).rows(named=True)
    assert found == [{"condition": "sft", "seed": 7, "feature": "kind", "share": 0.75, "right_share": 0.75, "n": 4}]


@pytest.fixture
def run(tmp_path):
    """A folder as `gpu_experiment.py` writes it."""
    config = load_config([ROOT / "config.yaml"])
    config["data"] |= dict.fromkeys(("train", "validation", "test", "holdout"), N)
    paths = {split: tmp_path / f"{split}.parquet" for split in ("train", "validation", "test", "holdout")}
    build_dataset(config["ruleset"], dict.fromkeys(paths, N), 0, paths)
    truth = pl.read_parquet(paths["holdout"]).select("application_id", "label", "fired_rule", "label_without_hidden")
    schema = predictions_schema(load_ruleset(config["ruleset"]).labels)
    tables, costs = [], []
    for condition in ("grpo", "sft", "sft_then_grpo"):
        answer = pl.lit("MANUAL_REVIEW") if condition == "grpo" else pl.col("label")
        for seed in SEEDS:
            tables.append(
                truth.with_columns(
                    suite=pl.lit("holdout"), decoding=pl.lit("structured"), reply=answer, predicted=answer,
                    is_valid=pl.lit(True), condition=pl.lit(condition), seed=pl.lit(seed),
                    **{name: pl.lit(0.25) for name in schema if name.startswith("p_")},
                ).select(*schema, "condition", "seed")
            )  # fmt: skip
            costs.append(dict.fromkeys(COSTS) | {"condition": condition, "seed": seed, "stage": "train", "wall_s": 9.0})
    pl.concat(tables).write_parquet(tmp_path / "predictions.parquet")
    write_costs(tmp_path / "costs.parquet", *costs)
    for name, value in {"config": config, "circumstances": {"seeds": SEEDS}, "checks": {"rows": 1}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return tmp_path, config


def test_a_run_is_published(run, tmp_path):
    folder, config = run
    gpu_publish.publish(folder, tmp_path / "published")
    metrics = pl.read_parquet(tmp_path / "published/metrics.parquet")
    pooled = metrics.filter(pl.col("seed").is_null(), metric="accuracy").sort("condition")
    assert pooled["value"].to_list() == [0.25, 1.0, 1.0]
    compared = pl.read_parquet(tmp_path / "published/comparisons.parquet").select("condition_a", "condition_b").unique()
    assert sorted(compared.rows()) == [("grpo", "sft"), ("sft_then_grpo", "sft")]  # as config.yaml plans
    shares = pl.read_parquet(tmp_path / "published/shortcuts.parquet").filter(condition="grpo")
    assert shares.height and set(shares["share"]) == {1.0}
    checks = json.loads((tmp_path / "published/checks.json").read_text(encoding="utf-8"))
    assert checks["settings"]["sft"] == config["sft"] and checks["rows"] == 1


def test_a_run_on_a_cpu_beside_it_has_the_same_settings_and_seeds(run, tmp_path):
    folder, config = run
    gpu_publish.publish(folder, tmp_path / "cpu")
    place = {"config": config, "created": "2030", "git": {}, "hardware": {}, "packages": {"torch": "2"}}
    (tmp_path / "cpu/provenance.json").write_text(json.dumps(place), encoding="utf-8")
    checks = {"settings": config, "seeds": SEEDS}
    found = gpu_publish.same_seeds(tmp_path / "cpu", checks)["accuracy"]
    assert found == {"grpo": [0.25, 0.25], "sft": [1.0, 1.0], "sft_then_grpo": [1.0, 1.0]}
    with pytest.raises(SystemExit, match=r"grpo has the seeds \[4, 5\], not \[4, 6\]"):
        gpu_publish.same_seeds(tmp_path / "cpu", {**checks, "seeds": [4, 6]})
    with pytest.raises(SystemExit, match="sft has other settings"):
        gpu_publish.same_seeds(tmp_path / "cpu", {**checks, "settings": {**config, "sft": {}}})
