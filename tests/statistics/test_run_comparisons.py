"""Two runs compared: what is paired, what is not and why, and known answers for both."""

import dataclasses

import polars as pl
import pytest

from hidden_rule.core.tables import predictions_schema, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, Run, Setting
from hidden_rule.statistics.intervals import mcnemar_exact, wilson
from hidden_rule.statistics.run_comparisons import (
    compare_runs,
    independent_difference,
    seed_pairs,
)
from synthetic import make_ruleset, make_truth, write_results

RULESET = make_ruleset(4)
SIZES = [("test", "structured", 40, 0), ("holdout", "structured", 200, 1000)]
WORLD = {"sft": {"method": "sft", "accuracy": 0.9}, "baseline": {"method": None, "accuracy": 0.25}}
MAIN = Setting("holdout", "structured")


def run_of(folder, world=None, seeds=(0,), sizes=None, ruleset=RULESET) -> Results:
    folder.mkdir()
    return write_results(folder, ruleset, world or WORLD, seeds, sizes=sizes or SIZES)


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ([0], [0], [(0, 0)]),
        ([3, 1], [1, 2, 3], [(1, 1), (3, 3)]),
        ([0], [7], [(0, 7)]),
        ([5, 4], [0, 1], [(4, 0), (5, 1)]),
        ([0], [1, 2], []),
    ],
)
def test_seeds_in_common_are_paired_or_as_many_in_order(a, b, pairs):
    assert seed_pairs(a, b) == pairs


def test_newcombes_example():
    """56/70 against 48/80: 0.2 (0.0524 to 0.3339), the hybrid score interval of Newcombe (1998), table II (a)."""
    a, b = (Estimate(k / n, *map(float, wilson(k / n, n)), n) for k, n in ((48, 80), (56, 70)))
    found = independent_difference(a, b)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert found.n == 70
    turned = independent_difference(b, a)
    assert (turned.low, turned.high) == pytest.approx((-0.3339, -0.0524), abs=5e-5)


def planted(folder, wrong: set[int]) -> Results:
    """One condition, 40 holdout cases, wrong where the place is in `wrong`."""
    made = run_of(folder, {"sft": {"method": "sft", "accuracy": 1.0}}, sizes=[("holdout", "structured", 40, 0)])
    path = made.layout.predictions(Run("sft", 0))
    truth = make_truth(RULESET, 40)
    other = [RULESET.labels[(RULESET.labels.index(label) + 1) % 4] for label in truth["label"]]
    predicted = [other[i] if i in wrong else label for i, label in enumerate(truth["label"])]
    frame = pl.read_parquet(path).with_columns(predicted=pl.Series(predicted))
    write_table(frame, path, predictions_schema(RULESET.labels))
    return made


def test_the_same_cases_are_paired(tmp_path):
    """A is wrong on 12 cases, B on 2 of these and on 1 other: 10 against 1 discordant, exact McNemar."""
    a, b = planted(tmp_path / "a", set(range(12))), planted(tmp_path / "b", {0, 1, 20})
    (found,) = compare_runs(a, b)
    assert found.why_unpaired is None and found.setting == MAIN
    row = next(row for row in found.rows if row.metric == "accuracy")
    assert row.a.value == pytest.approx(28 / 40) and row.b.value == pytest.approx(37 / 40)
    assert row.difference.value == pytest.approx(9 / 40) and row.difference.n == 40
    assert row.p_value == pytest.approx(mcnemar_exact(10, 1)) and row.test == "mcnemar_exact"
    assert row.difference.low < 9 / 40 < row.difference.high
    mirrored = next(row for row in compare_runs(b, a)[0].rows if row.metric == "accuracy")
    assert mirrored.difference.value == pytest.approx(-9 / 40) and mirrored.p_value == pytest.approx(row.p_value)


def test_conditions_of_one_setting_and_metric_are_one_family(tmp_path):
    a = run_of(tmp_path / "a", WORLD | {"sft": {"method": "sft", "accuracy": 0.6}})
    b = run_of(tmp_path / "b")
    for of in compare_runs(a, b):
        rows = {row.condition: row for row in of.rows if row.metric == "accuracy"}
        assert {*rows} == {"sft", "baseline"}
        least = min(rows.values(), key=lambda row: row.p_value)
        assert least.p_adjusted == pytest.approx(min(1.0, 2 * least.p_value))
        assert rows["baseline"].difference.value == 0 and rows["baseline"].p_value == 1  # the same answers


def test_what_is_not_the_same_is_unpaired_and_says_why(tmp_path):
    a = run_of(tmp_path / "a")
    fewer = [("test", "structured", 40, 0), ("holdout", "structured", 100, 1000)]
    reasons = {
        "A answered 200 cases and B 100": run_of(tmp_path / "fewer", sizes=fewer),
        "200 of 200 cases of A are not among those of B": run_of(
            tmp_path / "ids", sizes=[SIZES[0], ("holdout", "structured", 200, 5000)]
        ),
        "the runs have no seed in common, and not as many (1 and 2)": run_of(tmp_path / "seeds", seeds=(1, 2)),
    }
    other = run_of(tmp_path / "truth")
    for run in other.runs:
        path = other.layout.predictions(run)
        frame = pl.read_parquet(path).with_columns(
            label=pl.when(pl.col("application_id") == 1000).then(pl.lit("LABEL_D")).otherwise("label")
        )
        write_table(frame, path, predictions_schema(RULESET.labels))
    reasons["the right decision, or the rule behind it, differs for 1 of 200 cases"] = Results(
        other.layout.folder, other.config, ruleset=RULESET
    )
    without = run_of(tmp_path / "without")
    without.layout.predictions(Run("sft", 0)).unlink()
    reasons["the folder of B does not hold the predictions"] = without
    for reason, b in reasons.items():
        found = {of.setting: of for of in compare_runs(a, b)}
        assert found[MAIN].why_unpaired == reason
        row = next(row for row in found[MAIN].rows if row.condition == "sft" and row.metric == "accuracy")
        assert row.p_value is None and row.difference == independent_difference(row.a, row.b)
    assert {of.setting: of.why_unpaired for of in compare_runs(a, reasons["A answered 200 cases and B 100"])}[
        Setting("test", "structured")
    ] is None  # a setting of the same cases stays paired


def test_runs_without_a_common_condition_have_no_rows(tmp_path):
    a, b = run_of(tmp_path / "a"), run_of(tmp_path / "b", {"grpo": {"method": "grpo", "accuracy": 0.9}})
    assert all(of.rows == [] and of.why_unpaired == "no condition is in both runs" for of in compare_runs(a, b))
    assert dataclasses.is_dataclass(compare_runs(a, b)[0])
