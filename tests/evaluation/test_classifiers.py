"""Plain classifiers: known answers, and the same numbers as scikit-learn called by hand."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from hidden_rule.core.tables import COSTS, predictions_schema, read_table, write_table
from hidden_rule.evaluation import classifiers
from hidden_rule.evaluation.fit_reference import fit_reference
from hidden_rule.evaluation.jobs import EvaluationOutput, ReferenceJob
from hidden_rule.task.dataset import dataset_schema, draw_splits, suites_schema
from hidden_rule.task.ruleset import load_ruleset

PARCELS = Path(__file__).resolve().parents[1] / "rulesets" / "parcels.yaml"
SIZES = {"train": 300, "validation": 3, "test": 300, "holdout": 30}
BY_CONTENTS = [
    {"name": "cool", "label": "CHILLED", "when": "contents = 'cheese'"},
    {"name": "light", "label": "AIR", "when": "contents = 'toys'"},
]
CROSSED = "(contents IN ('books', 'cheese')) = (distance_km > 450)"  # each half of the cases: neither decides alone


def parcels_with(tmp_path, rules, features=None):
    """The parcels ruleset with other rules, and of its features those named, in a file of its own."""
    document = yaml.safe_load(PARCELS.read_text(encoding="utf-8"))
    document["rules"] = rules
    document["features"] = {name: document["features"][name] for name in features or document["features"]}
    document["prompt"]["system"] = document["prompt"]["system"].replace("{rules}", "")
    path = tmp_path / "parcels.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def accuracy(kind, ruleset, splits):
    """Share of the test split that a classifier fitted to the training split decides rightly."""
    classifier = classifiers.fit(kind, ruleset, splits["train"], seed=0)
    best = classifiers.label_probabilities(classifier, ruleset, splits["test"]).argmax(1)
    return np.mean([ruleset.labels[i] == label for i, label in zip(best, splits["test"]["label"], strict=True)])


def test_what_each_can_learn(tmp_path):
    linear = load_ruleset(parcels_with(tmp_path, BY_CONTENTS))
    splits = draw_splits(linear, SIZES, seed=0)
    assert accuracy("logistic", linear, splits) == 1
    assert accuracy("constant", linear, splits) == 1 / 3
    crossed = load_ruleset(parcels_with(tmp_path, [{"name": "x", "label": "AIR", "when": CROSSED}]))
    splits = draw_splits(crossed, SIZES, seed=0)
    assert accuracy("logistic", crossed, splits) == pytest.approx(0.5, abs=0.1)
    assert accuracy("boosting", crossed, splits) > 0.95


@pytest.mark.parametrize("features", [["contents"], ["contents", "weight_kg"]])
def test_features_of_one_kind(tmp_path, features):
    ruleset = load_ruleset(parcels_with(tmp_path, BY_CONTENTS, features))
    drawn = ruleset.decide(ruleset.draw(200, np.random.default_rng(0)))
    numbers_alone = load_ruleset(
        parcels_with(tmp_path, [{"name": "heavy", "label": "AIR", "when": "weight_kg > 8"}], ["weight_kg"])
    )
    assert accuracy("logistic", ruleset, {"train": drawn, "test": drawn}) == 1
    drawn = numbers_alone.decide(numbers_alone.draw(200, np.random.default_rng(0)))
    assert accuracy("boosting", numbers_alone, {"train": drawn, "test": drawn}) > 0.95


@pytest.fixture(scope="module")
def parcels():
    ruleset = load_ruleset(PARCELS)
    return ruleset, draw_splits(ruleset, SIZES, seed=0)


@pytest.mark.parametrize(
    ("kind", "plain"),
    [("logistic", LogisticRegression(max_iter=2000)), ("boosting", HistGradientBoostingClassifier(random_state=7))],
)
def test_equal_to_scikit_learn(parcels, kind, plain):
    ruleset, splits = parcels
    numbers = ["weight_kg", "distance_km"]
    mean = splits["train"].select(pl.col(numbers).mean())
    sd = splits["train"].select(pl.col(numbers).std(ddof=0))

    def matrix(frame):
        scaled = [((frame[name] - mean[name]) / sd[name]).to_numpy() for name in numbers]
        return np.column_stack(
            [*scaled, *((frame["contents"] == value).to_numpy() for value in ruleset.features[0].choices)]
        )

    plain.fit(matrix(splits["train"]), splits["train"]["label"].to_list())  # its classes are in alphabetical order
    expected = dict(zip(plain.classes_, plain.predict_proba(matrix(splits["test"])).T, strict=True))
    classifier = classifiers.fit(kind, ruleset, splits["train"], seed=7)
    found = classifiers.label_probabilities(classifier, ruleset, splits["test"])
    assert ruleset.labels == ("CHILLED", "AIR", "ROAD")
    np.testing.assert_allclose(found, np.column_stack([expected[label] for label in ruleset.labels]), atol=1e-4)


@pytest.mark.parametrize(
    ("counts", "probabilities", "right"),
    [
        ({"ROAD": 5, "AIR": 3, "CHILLED": 2}, [0.2, 0.3, 0.5], 2),  # always ROAD
        ({"ROAD": 1, "AIR": 3}, [0.0, 0.75, 0.25], 1),  # always AIR; CHILLED never occurs
        ({"ROAD": 2, "AIR": 2}, [0.0, 0.5, 0.5], 1),  # equals: the first of the ruleset's labels
    ],
)
def test_constant_by_hand(parcels, counts, probabilities, right):
    ruleset, splits = parcels
    train = pl.concat([splits["train"].filter(label=label).head(n) for label, n in counts.items()])
    test = pl.concat([splits["test"].filter(label=label).head(n) for label, n in {"AIR": 1, "ROAD": 2}.items()])
    found = classifiers.label_probabilities(classifiers.fit("constant", ruleset, train, seed=0), ruleset, test)
    np.testing.assert_allclose(found, [probabilities] * 3)
    said = [ruleset.labels[i] for i in found.argmax(1)]
    assert sum(a == b for a, b in zip(said, test["label"], strict=True)) == right


def test_words_of_a_suite_are_seen_and_not_what_they_stand_for(parcels):
    ruleset, splits = parcels
    frame = splits["test"].head(1).select(pl.exclude("contents"))
    rows = pl.concat([frame.with_columns(contents=pl.lit(value)) for value in ("cheese", "cheese", "books")])
    shown = rows.with_columns(
        shown_feature=pl.Series([None, "contents", "contents"]), shown_text=pl.Series([None, "gouda", "gouda"])
    )
    classifier = classifiers.fit("logistic", ruleset, splits["train"], seed=0)
    value, cheese, books = classifiers.label_probabilities(classifier, ruleset, shown)
    np.testing.assert_array_equal(cheese, books)
    assert value.argmax() == 0 and value[0] - cheese[0] > 0.1
    plain = classifiers.label_probabilities(classifier, ruleset, rows)
    np.testing.assert_array_equal(plain[0], plain[1])  # without words the same row


def test_tables_are_those_of_any_condition(parcels, tmp_path):
    ruleset, splits = parcels
    for name in ("train", "test"):
        write_table(splits[name], tmp_path / f"{name}.parquet", dataset_schema(ruleset))
    schema = suites_schema(ruleset)
    suites = splits["holdout"].with_columns(
        suite=pl.when(pl.int_range(pl.len()) < 20).then(pl.lit("decoys")).otherwise(pl.lit("prevalence")),
        family=pl.col("application_id"), role=pl.lit("drawn"), shown_feature=pl.lit(None, pl.String),
        shown_text=pl.lit(None, pl.String), field_order=pl.lit(None, pl.List(pl.String)),
    )  # fmt: skip
    write_table(suites.select(list(schema)), tmp_path / "suites.parquet", schema)
    written = []
    for turn in range(2):
        output = EvaluationOutput(tmp_path / f"{turn}.parquet", tmp_path / f"{turn}.cost.parquet")
        files = {name: tmp_path / f"{name}.parquet" for name in ("test", "suites")}
        fit_reference(ReferenceJob("plain", 3, "logistic", PARCELS, tmp_path / "train.parquet", files, output))
        written.append(output.predictions.read_bytes())
    assert written[0] == written[1]
    frame = read_table(tmp_path / "0.parquet", predictions_schema(list(ruleset.labels)))
    counts = dict(frame.group_by("suite").len().iter_rows())
    assert counts == {"test": 300, "decoys": 20, "prevalence": 10}
    assert set(frame["decoding"]) == {"structured"} and frame["is_valid"].all()
    assert frame["reply"][0] == f'{{"decision": "{frame["predicted"][0]}"}}'
    probabilities = frame.select(f"p_{label}" for label in ruleset.labels).to_numpy()
    assert [ruleset.labels[i] for i in probabilities.argmax(1)] == frame["predicted"].to_list()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    truth = splits["test"].select("application_id", "label", "fired_rule", "label_without_hidden")
    assert frame.filter(suite="test").select(truth.columns).equals(truth)
    cost = read_table(tmp_path / "0.cost.parquet", COSTS)
    assert cost.select("condition", "seed", "stage", "n_tokens_trained").rows() == [
        ("plain", 3, "train", 0),
        ("plain", 3, "evaluate", 0),
    ]
    assert (cost["wall_s"] > 0).all() and (cost["peak_bytes"] > 0).all()
