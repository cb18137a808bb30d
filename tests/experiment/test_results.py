"""The tables of one experiment as one object: what it reads, from where, and what it refuses."""

import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import COSTS, HISTORY, METRICS, write_table
from hidden_rule.experiment.results import Results, UndeclaredInputError, excerpt
from hidden_rule.experiment.runs import Estimate, Run, Setting
from hidden_rule.statistics.training_costs import training_costs
from synthetic import costs_frame

CONFIG = {
    "ruleset": "rulesets/fincorp.yaml",
    "seeds": [0, 1],
    "data": {"train": 640},
    "sft": {"epochs": 5},
    "grpo": {"epochs": 3, "estimator": "expected", "temperature": 1.0},
    "decoding": "structured",
    "conditions": {
        "sft_then_grpo": {"method": "grpo", "start_from": "sft"},
        "baseline": {},
        "sft": {"method": "sft"},
        "a_tree": {"reference": "boosting"},
    },
}


def metric(condition, suite, decoding, value, seed=None):
    return {
        "condition": condition, "seed": seed, "suite": suite, "decoding": decoding, "metric": "accuracy",
        "label": None, "value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "n": 40,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    rows = [metric("sft", "test", "free", 0.7), metric("sft", "holdout", "structured", 0.9)]
    rows += [metric("sft", "decoys", "structured", 0.5), metric("sft", "test", "structured", 0.8)]
    write_table(pl.DataFrame(rows, schema=METRICS), tmp_path / "metrics.parquet", METRICS)
    history = pl.DataFrame([(1, 0.5, 10, "loss", None, 1.0)], schema=HISTORY, orient="row")
    write_table(history, tmp_path / "training/sft/seed1/history.parquet", HISTORY)
    return tmp_path


def test_runs_in_the_order_in_which_they_are_shown(folder):
    results = Results(folder, CONFIG)
    assert results.conditions == ["baseline", "sft", "sft_then_grpo", "a_tree"]
    assert results.runs[:3] == [Run("baseline", 0), Run("baseline", 1), Run("sft", 0, "sft")]
    assert [str(run) for run in results.trained if run.seed == 0] == ["sft (seed 0)", "sft_then_grpo (seed 0)"]
    assert results.starts == {"sft": None, "sft_then_grpo": "sft"}
    assert results.references == ["a_tree"]


def test_settings_the_main_one_first(folder):
    results = Results(folder, CONFIG)
    assert results.evaluated == [("holdout", "structured"), ("test", "structured"), ("test", "free")]
    assert results.main.words == "holdout, structured decoding"
    assert results.free == Setting("test", "free")
    assert results.estimate("sft", results.main, "accuracy") == Estimate(0.9, 0.8, 1.0, 40)
    assert results.estimate("baseline", results.main, "accuracy") is None


def test_each_table_is_read_once(folder):
    results = Results(folder, CONFIG)
    first = results.metrics
    (folder / "metrics.parquet").unlink()
    assert results.metrics is first


def test_without_a_declaration_what_is_missing_is_none_or_an_error(folder):
    results = Results(folder, CONFIG)
    assert results.collapse is results.supervision is results.side_effects is results.provenance is None
    assert results.feasibility is results.leaks is None
    assert list(results.histories) == [Run("sft", 1, "sft")]
    with pytest.raises(UserError, match=r"comparisons.parquet: is not a readable parquet file"):
        _ = results.comparisons


def test_a_table_that_the_rule_does_not_declare_is_refused(folder):
    results = Results(folder, CONFIG, declared=[str(folder / "metrics.parquet")])
    assert results.metrics.height == 4
    for undeclared in (
        lambda: results.costs,
        lambda: results.collapse,  # every experiment has it
        lambda: results.provenance,
        lambda: results.histories,
        lambda: results.history(Run("sft", 1, "sft")),
        lambda: results.predictions(Run("sft", 0, "sft")),
        lambda: results.split("holdout"),
        lambda: results.ruleset,
    ):
        with pytest.raises(UndeclaredInputError, match="is read, and no input of this rule"):
            undeclared()
    assert results.supervision is results.side_effects is results.feasibility is None  # this experiment has none


def test_another_schema_is_one_line(folder):
    write_table(pl.DataFrame(schema=COSTS), folder / "comparisons.parquet", COSTS)
    with pytest.raises(UserError, match=r"comparisons.parquet: has other columns than declared"):
        _ = Results(folder, CONFIG).comparisons


def costs_of(*rows):
    full = [(name, seed, "train", seconds, 100, 10, 1, device) for name, seed, seconds, device in rows]
    return costs_frame([*full, ("sft", 0, "evaluate", 9.0, 0, 0, 1, "cpu")])


def test_a_training_costs_what_it_starts_from_too():
    costs = costs_of(
        ("sft", 0, 180.0, "cpu"), ("sft", 1, 200.0, "cpu"), ("rl", 0, 110.0, "gpu"), ("rl", 1, 90.0, "gpu")
    )
    found = training_costs(costs, {"sft": None, "rl": "sft"})
    assert (found["sft"].seconds, found["sft"].starts) == (190.0, ())
    rl = found["rl"]
    assert (rl.seconds, rl.least, rl.most, rl.starts) == (290.0, 290.0, 290.0, ("sft",))
    assert (rl.tokens_trained, rl.tokens_generated, rl.devices) == (200.0, 20.0, {"cpu", "gpu"})


def test_a_chain_with_a_training_of_unknown_cost_has_none():
    assert list(training_costs(costs_of(("rl", 0, 9.0, "cpu")), {"sft": None, "rl": "sft"})) == []


def test_an_excerpt_holds_what_these_conditions_need_and_no_more():
    some = excerpt(CONFIG, ["sft", "a_tree"], "decoding")
    assert list(some) == ["conditions", "data", "ruleset", "seeds", "sft", "decoding"]
    assert some["conditions"] == {"sft": {"method": "sft"}, "a_tree": {"reference": "boosting"}}
    assert Results("results/x", some).trained == [Run("sft", 0, "sft"), Run("sft", 1, "sft")]
    assert Results("results/x", excerpt(CONFIG, [])).runs == []
