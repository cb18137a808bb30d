"""Users' names collide with none of ours: a world under other names gives the same numbers, words and marks."""

import json
from xml.etree import ElementTree

import polars as pl
import pytest

from hidden_rule.core.tables import COLLAPSE, HISTORY, write_table
from hidden_rule.experiment.conditions import in_order
from hidden_rule.report.charts.build import render_charts
from hidden_rule.report.page import tables_of
from hidden_rule.report.text.findings import conclude
from hidden_rule.report.text.training_runs import feasibility_sentences
from hidden_rule.statistics import feasibility
from hidden_rule.statistics.collapse import judge_all, read_signals
from hidden_rule.statistics.confusion import INVALID, confusion_table
from hidden_rule.statistics.shortcuts import deciding_feature
from hidden_rule.statistics.supervision import curve_names
from synthetic import WORLD, named_ruleset, write_results

# By part, names that are plain and such as we use ourselves, or as JavaScript does; both in the same order.
LABELS = {"L1x": "INVALID", "L2x": "all", "L3x": "constructor", "L4x": "hidden", "L5x": "step"}
RULES = {"R1x": "all", "R2x": "hidden", "R3x": "label", "R4x": "overall"}
CONDITIONS = {"C1x": "all", "C2x": "constructor", "C3x": "predicted"}
OURS = {"plain": ({}, {}, {}), "ours": (LABELS, RULES, CONDITIONS)}
CHARTS = ("accuracy", "confusion", "collapse", "cost")


def world_of(folder, labels: dict, rules: dict, conditions: dict):
    """A collapse, a success and an untrained model on two hidden rules; the dictionaries give names to plain names."""
    ruleset = named_ruleset([labels.get(x, x) for x in LABELS], [rules.get(x, x) for x in RULES], n_hidden=2)
    facts = dict(zip(CONDITIONS, (WORLD["baseline"], WORLD["sft"], WORLD["grpo"]), strict=True))
    world = {conditions.get(name, name): of for name, of in facts.items()}
    sizes = [("holdout", "structured", 250, 0), ("test", "free", 100, 10_000)]
    results = write_results(folder, ruleset, world, config={"charts": {"width": 300}}, sizes=sizes)
    even = dict.fromkeys(ruleset.labels, 1 / len(ruleset.labels))
    write_table(judge_all(results.histories, even, dict.fromkeys(world, 16)), folder / "collapse.parquet", COLLAPSE)
    return results


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    return {name: world_of(tmp_path_factory.mktemp(name), *renamed) for name, renamed in OURS.items()}


def test_tables_are_the_same_under_other_names(worlds):
    plain, ours = worlds["plain"], worlds["ours"]
    of_conditions = ["condition", "condition_a", "condition_b"]
    of_rulesets = {"label": LABELS, "rule": RULES}
    for table in ("metrics", "comparisons", "collapse"):
        frame, other = getattr(plain, table), getattr(ours, table)
        renamed = frame.with_columns(
            pl.col([name for name in of_conditions if name in frame.columns]).replace(CONDITIONS),
            *(pl.col(name).replace(names) for name, names in of_rulesets.items() if name in frame.columns),
        )
        assert renamed.equals(other), table
    answers = {run: plain.predictions(run) for run in plain.runs}
    counts = confusion_table(answers, plain.labels).with_columns(
        pl.col("condition").replace(CONDITIONS), pl.col("label", "predicted").replace(LABELS)
    )
    other = confusion_table({run: ours.predictions(run) for run in ours.runs}, ours.labels)
    assert counts.equals(other)
    assert other.filter(predicted=INVALID)["n"].sum() > 0 and INVALID not in LABELS.values()


def words_of(results) -> str:
    """All sentences and tables of the page."""
    shown = tables_of(results)
    return json.dumps([conclude(results), *(shown[name] for name in sorted(shown) if name != "examples")])


def test_sentences_and_tables_of_the_page_are_the_same_under_other_names(worlds):
    assert in_order(CONDITIONS.values()) == list(CONDITIONS.values())
    plain = words_of(worlds["plain"])
    for name, other in (LABELS | CONDITIONS | RULES).items():
        plain = plain.replace(name, other)
    assert plain == words_of(worlds["ours"])


def marks(path) -> dict[str, int]:
    """How many elements of each kind a picture has."""
    kinds = [element.tag.split("}")[-1] for element in ElementTree.parse(path).getroot().iter()]
    return {kind: kinds.count(kind) for kind in ("path", "text", "line")}


@pytest.mark.parametrize("chart", CHARTS)
def test_charts_have_the_same_marks_under_other_names(tmp_path, worlds, chart):
    found = []
    for name, results in worlds.items():
        (tmp_path / name).mkdir()
        render_charts(results, [tmp_path / name / f"{chart}.svg"])
        found.append(marks(tmp_path / name / f"{chart}.svg"))
    assert found[0] == found[1] and found[0]["path"] > 5


def test_first_groups_of_labels_that_are_called_like_subsets():
    ruleset = named_ruleset(["hidden", "all", "overall"], ["a", "b"])
    rows = pl.DataFrame(
        [("hidden", "a", 0.01), ("all", "b", 0.9), ("overall", "default", 0.9)],
        schema=["label", "fired_rule", "p"],
        orient="row",
    )
    found = feasibility.assess(rows, ruleset, 8, {"correct": 1, "wrong": 0})
    table = pl.DataFrame([{"condition": "grpo", "start": "base", "seed": 0} | row for row in found])
    (said,) = feasibility_sentences(table, {"grpo": 8})
    assert said.endswith("reinforce are rare (7.7% for the hidden rule, 7.7% for hidden).")


@pytest.mark.parametrize("label", ["step", "value", "metric", "index", "label"])
def test_a_history_whose_labels_are_called_like_its_columns(label):
    rows = [
        (step, 0.0, 0, "predicted_share", name, share) for step in (1, 2) for name, share in ((label, 0.7), ("b", 0.3))
    ]
    signals = read_signals(pl.DataFrame(rows, schema=HISTORY, orient="row"), [label, "b", "never"])
    assert signals.shares.tolist() == [[0.7, 0.3, 0.0]] * 2


@pytest.mark.parametrize("feature", ["predicted", "label", "row", "application_id_right", "count"])
def test_a_feature_that_is_called_like_a_column_of_predictions(feature):
    """It says nothing about the answers, and is not called what decides."""
    answers = pl.DataFrame({"predicted": ["a", "b"] * 100, "label": ["a", "a", "b", "b"] * 50})
    features = pl.DataFrame({feature: ["x", "y", "y", "x", "x", "x", "y", "y"] * 25})
    assert deciding_feature(answers, features) is None
    assert deciding_feature(answers, features.with_columns(answers["predicted"].alias(feature)))[0] == feature


def test_curves_of_conditions_never_share_a_name():
    def of(rate, rows):
        return {"method": "sft", "start_from": None, "settings": {"learning_rate": rate, "train_rows": rows}}

    settings = {"a": of(1, 5), "a_1": of(2, 1), "a_2": of(2, 2), "abc": of(3, 1), "xyz": of(3, 2), "abc_1": of(4, 1)}
    settings |= {"abc_2": of(4, 2)}
    curves = curve_names(settings)
    groups = [{"a"}, {"a_1", "a_2"}, {"abc", "xyz"}, {"abc_1", "abc_2"}]
    by_curve = {}
    for name, curve in curves.items():
        by_curve.setdefault(curve, set()).add(name)
    assert sorted(map(sorted, by_curve.values())) == sorted(map(sorted, groups))
