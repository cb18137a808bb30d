"""Splits are balanced, distinct, stratified and the same for the same seed."""

import hashlib
from pathlib import Path

import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.task.build_dataset import build_dataset
from hidden_rule.task.dataset import SPLITS, dataset_schema, draw_splits, fill_equally, read_split
from hidden_rule.task.ruleset import load_ruleset

FINCORP = Path(__file__).resolve().parents[2] / "rulesets" / "fincorp.yaml"
PARCELS = Path(__file__).resolve().parents[1] / "rulesets" / "parcels.yaml"
SIZES = {"train": 640, "validation": 160, "test": 160, "holdout": 1000}


@pytest.fixture(scope="module")
def fincorp():
    return load_ruleset(FINCORP)


@pytest.fixture(scope="module")
def splits(fincorp):
    return draw_splits(fincorp, SIZES, seed=0)


def counts(frame, *columns):
    return dict(sorted((row[:-1], row[-1]) for row in frame.group_by(columns).len().iter_rows()))


def test_splits_have_their_sizes_columns_and_balance(fincorp, splits):
    assert tuple(splits) == SPLITS
    for name, frame in splits.items():
        assert frame.schema == dataset_schema(fincorp)
        assert counts(frame, "label") == {(label,): SIZES[name] // 4 for label in sorted(fincorp.labels)}


def test_labels_are_those_of_the_ruleset(fincorp, splits):
    for frame in splits.values():
        features = frame.select("application_id", *fincorp.feature_names)
        assert fincorp.decide(features).equals(frame)


def test_the_hidden_label_covers_all_other_profiles_equally(splits):
    cells = counts(splits["train"].filter(label="MANUAL_REVIEW"), "label_without_hidden")
    assert set(cells) == {("REJECT_RISK",), ("A_PLUS_TIER",), ("STANDARD_LOAN",)}
    assert max(cells.values()) - min(cells.values()) <= 1  # 160 over three


def test_no_application_and_no_identifier_stands_twice(fincorp, splits):
    together = pl.concat(splits.values())
    assert together.select(fincorp.feature_names).is_unique().all()
    assert together["application_id"].is_unique().all()


def test_rows_are_not_sorted_by_label(splits):
    # a trainer that does not shuffle must still see all labels early: 4 in the first 40, each with p > 0.99999
    assert splits["train"].head(40)["label"].n_unique() == 4


def test_sizes_need_not_divide(fincorp):
    sizes = {"train": 10, "validation": 5, "test": 4, "holdout": 7}
    for name, frame in draw_splits(fincorp, sizes, seed=3).items():
        n = list(counts(frame, "label").values())
        assert sum(n) == sizes[name] and len(n) == 4 and max(n) - min(n) <= 1


def test_another_seed_gives_other_rows(fincorp, splits):
    other = draw_splits(fincorp, SIZES, seed=1)
    assert not other["train"].equals(splits["train"])


def test_a_larger_training_split_leaves_the_others_as_they_are(fincorp, splits):
    larger = draw_splits(fincorp, {**SIZES, "train": 5000}, seed=0)
    for name in ("validation", "test", "holdout"):
        assert larger[name].equals(splits[name])


def test_same_seed_same_bytes(tmp_path):
    digests = []
    for run in ("a", "b"):
        paths = {split: tmp_path / run / f"{split}.parquet" for split in SPLITS}
        build_dataset(PARCELS, {**SIZES, "train": 900}, seed=5, paths=paths)
        digests.append([hashlib.sha256(paths[split].read_bytes()).hexdigest() for split in SPLITS])
    assert digests[0] == digests[1]
    assert len(read_split(paths["train"], load_ruleset(PARCELS))) == 900


def test_the_default_splits_are_those_of_published_results(splits):
    digests = {name: hashlib.sha256(frame.write_csv().encode()).hexdigest()[:16] for name, frame in splits.items()}
    assert digests == {
        "train": "4cde583ddc7adf4e",
        "validation": "5a7b6cffebf60ae8",
        "test": "0ad8d896610cd6b5",
        "holdout": "989beb267097b984",
    }


def test_a_split_of_another_ruleset_is_refused(tmp_path, fincorp):
    paths = {split: tmp_path / f"{split}.parquet" for split in SPLITS}
    build_dataset(PARCELS, dict.fromkeys(SPLITS, 6), seed=0, paths=paths)
    with pytest.raises(UserError, match="has other columns than declared"):
        read_split(paths["test"], fincorp)


def test_too_few_distinct_applications_is_an_error(tmp_path):
    text = (
        PARCELS.read_text(encoding="utf-8")
        .replace("high: 900", "high: 3")
        .replace("distance_km > 400", "distance_km > 1")
    )
    path = tmp_path / "tiny.yaml"
    # AIR: distances 2 and 3, weights 0.5 to 5.0 in steps of 0.5, three contents: 60 in all, six of them taken
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        draw_splits(load_ruleset(path), {"train": 300, "validation": 6, "test": 6, "holdout": 6}, 0, source=path)
    assert str(error.value) == (
        f"{path}: features: data.train needs 100 applications decided AIR, and only 54 distinct ones exist; "
        "lower data.train, or widen the features that lead to AIR"
    )


def test_all_of_a_small_world_can_be_drawn(tmp_path):
    text = (
        PARCELS.read_text(encoding="utf-8")
        .replace("high: 900", "high: 3")
        .replace("distance_km > 400", "distance_km > 1")
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    # AIR: distances 2 and 3, weights 0.5 to 5.0 in steps of 0.5, three contents: 60 in all, six of them taken
    splits = draw_splits(load_ruleset(path), {"train": 162, "validation": 6, "test": 6, "holdout": 6}, 0)
    assert len(splits["train"].filter(label="AIR")) == 54


@pytest.mark.parametrize(
    ("total", "available", "quota"),
    [
        (9, {"a": 5, "b": 5, "c": 5}, {"a": 3, "b": 3, "c": 3}),
        (9, {"a": 1, "b": 5, "c": 5}, {"a": 1, "b": 4, "c": 4}),  # what is scarce is used up, the rest shared
        (10, {"a": 0, "b": 20, "c": 4}, {"a": 0, "b": 6, "c": 4}),
        (11, {"a": 5, "b": 5}, {}),  # too little in all
        (0, {}, {}),
    ],
)
def test_shares_are_as_equal_as_what_is_there(total, available, quota):
    assert fill_equally(total, available) == quota
