"""Worlds of three rulesets with all suites, and predictions made by a function of a row."""

from pathlib import Path

import polars as pl
import pytest

from hidden_rule.core.tables import METRICS, predictions_schema
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS, SuiteSettings, draw_suites

HERE = Path(__file__).resolve().parent
FINCORP = HERE.parent / "rulesets" / "fincorp.yaml"
PARCELS = HERE / "rulesets" / "parcels.yaml"
SIZES = {"train": 640, "validation": 160, "test": 160, "holdout": 1000}
TRUTH = ["label", "fired_rule", "label_without_hidden"]
WORDINGS = """
paraphrases:
  - {feature: contents, value: cheese, text: a wheel of gouda}
decoys:
  - {feature: contents, value: toys, text: a plastic cheese}
  - {feature: contents, value: books, text: a book on cheese}
"""
# A hidden rule about numbers and a text, rules whose thresholds lie off the grid, between values and in a product.
ODD = """
name: odd
features:
  kind_of: {kind: choice, choices: ["yes", "no"], text: "Kind {value}"}
  size: {kind: number, low: 0, high: 20, step: 0.5, text: "Size {value}"}
  weight: {kind: number, low: 0, high: 100, text: "Weight {value}"}
rules:
  - {name: secret, label: AA, hidden: true, when: "size > 17.25 AND kind_of = 'yes'"}
  - {name: between, label: BB, when: "weight BETWEEN 40 AND 50"}
  - {name: product, label: CC, when: "weight * size > 300"}
default: DD
prompt: {system: "Decide: {labels}", user: "{features}"}
paraphrases: [{feature: kind_of, value: "yes", text: indeed}]
decoys: [{feature: kind_of, value: "no", text: yes and no}]
"""


class World:
    """A ruleset, its training split and its suites."""

    def __init__(self, path, size=60, without=()):
        self.ruleset = load_ruleset(path)
        self.train = draw_splits(self.ruleset, SIZES, seed=0)["train"]
        kinds = tuple(kind for kind in KINDS if kind not in without)
        self.suites = draw_suites(self.ruleset, SuiteSettings(kinds, size, 0.02, 0), self.train)

    def members(self, suite, *roles):
        """The rows of each role, family by family."""
        rows = self.suites.filter(suite=suite)
        return [rows.filter(role=role).sort("family") for role in roles]


@pytest.fixture(scope="module", params=["fincorp", "parcels", "odd"])
def world(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "ruleset.yaml"
    texts = {
        "fincorp": FINCORP.read_text(encoding="utf-8"),
        "parcels": PARCELS.read_text(encoding="utf-8") + WORDINGS,
        "odd": ODD,
    }
    path.write_text(texts[request.param], encoding="utf-8")
    return World(path)


@pytest.fixture(scope="module")
def fincorp():
    return World(FINCORP, size=40)


def answered(suites, ruleset, answer):
    """Predictions of the suites by `answer`, a function of a row (a dictionary)."""
    schema = predictions_schema(list(ruleset.labels))
    frame = suites.select("application_id", "suite", *TRUTH).with_columns(
        decoding=pl.lit("structured"),
        reply=pl.lit(""),
        predicted=pl.Series([answer(row) for row in suites.iter_rows(named=True)], dtype=pl.String),
        **{f"p_{label}": pl.lit(0.0) for label in ruleset.labels},
    )
    return frame.with_columns(is_valid=pl.col("predicted").is_not_null()).select(list(schema))


def values_of(tmp_path, world, answer, seeds=1):
    """{(suite, metric): row} pooled over seeds."""
    paths = {Run("x", seed): tmp_path / f"{seed}.parquet" for seed in range(seeds)}
    for path in paths.values():
        answered(world.suites, world.ruleset, answer).write_parquet(path)
    metrics, comparisons = summarize_predictions(paths, world.ruleset, world.suites)
    assert metrics.schema == METRICS and comparisons.is_empty()
    pooled = metrics.filter(pl.col("seed").is_null())
    return {(row["suite"], row["metric"]): row for row in pooled.iter_rows(named=True)}
