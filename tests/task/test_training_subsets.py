"""Training data with fewer rows or wrong labels: nested, balanced, of the share asked for, the same each time."""

from pathlib import Path

import polars as pl
import pytest

from hidden_rule.statistics.supervision import rows_of_steps
from hidden_rule.task.build_dataset import build_dataset
from hidden_rule.task.dataset import SPLITS, draw_splits, read_split
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.training_subsets import balanced_order, passes, steps_a_pass, vary
from hidden_rule.task.vary_training import vary_training
from hidden_rule.training import grpo, sft

FINCORP = Path(__file__).resolve().parents[2] / "rulesets" / "fincorp.yaml"
LABELS = ["A", "B", "C"]


@pytest.fixture(scope="module")
def fincorp():
    return load_ruleset(FINCORP)


@pytest.fixture(scope="module")
def train(fincorp):
    return draw_splits(fincorp, {"train": 640, "validation": 4, "test": 4, "holdout": 4}, seed=0)["train"]


def ids(frame):
    return set(frame["application_id"])


def wrong(frame, train):
    """Identifiers of the rows whose label is not the true one, and the label that they have."""
    truth = dict(train.select("application_id", "label").iter_rows())
    return {i: label for i, label in frame.select("application_id", "label").iter_rows() if truth[i] != label}


def test_a_balanced_order_by_hand():
    frame = pl.DataFrame(
        {
            "row": list("abcdefg"),
            "label": ["A", "A", "A", "A", "B", "B", "B"],
            "label_without_hidden": ["x", "x", "x", "y", "B", "B", "B"],
            "draw": [0.1, 0.2, 0.3, 0.9, 0.5, 0.4, 0.6],
        }
    )
    # cells: (A, x) a b c, (A, y) d, B f e g; label A takes its cells in turn, a d b c; then the labels take turns
    assert balanced_order(frame, "draw")["row"].to_list() == ["a", "f", "e", "d", "b", "g", "c"]


@pytest.mark.parametrize("rows", [4, 25, 50, 101, 400, 639])
def test_rows_are_balanced_and_among_those_of_any_larger_number(train, fincorp, rows):
    fewer = vary(train, fincorp.labels, rows=rows, noise=0, seed=0)
    assert len(fewer) == rows
    counts = fewer["label"].value_counts()["count"]
    assert len(counts) == 4 and counts.max() - counts.min() <= 1
    hidden = fewer.filter(label="MANUAL_REVIEW")["label_without_hidden"].value_counts()["count"]
    assert hidden.max() - hidden.min() <= 1 or rows == 639  # at the end a profile runs out
    for larger in (rows + 1, 640):
        assert ids(fewer) <= ids(vary(train, fincorp.labels, rows=larger, noise=0, seed=0))
    assert fewer.equals(train.filter(pl.col("application_id").is_in(ids(fewer))))  # unchanged, in the split's order


def test_all_rows_without_noise_are_the_split_itself(train, fincorp):
    assert vary(train, fincorp.labels, rows=None, noise=0, seed=0).equals(train)
    assert vary(train, fincorp.labels, rows=640, noise=0, seed=0).equals(train)


@pytest.mark.parametrize(("rows", "noise", "n"), [(None, 0.05, 32), (None, 0.5, 320), (100, 0.1, 10), (25, 0.05, 1)])
def test_the_share_asked_for_is_wrong_and_no_other_column_changes(train, fincorp, rows, noise, n):
    noisy = vary(train, fincorp.labels, rows=rows, noise=noise, seed=0)
    assert len(wrong(noisy, train)) == n
    rest = pl.exclude("label")
    assert noisy.select(rest).equals(vary(train, fincorp.labels, rows=rows, noise=0, seed=0).select(rest))


def test_wrong_labels_are_nested_and_spread_over_labels(train, fincorp):
    found = [wrong(vary(train, fincorp.labels, rows=400, noise=p, seed=0), train) for p in (0.05, 0.1, 0.2)]
    assert found[0].items() <= found[1].items() <= found[2].items()  # the same rows, the same wrong labels
    of_truth = train.filter(pl.col("application_id").is_in(found[2]))["label"].value_counts()
    assert of_truth["count"].to_list() == [20] * 4


def test_every_other_label_is_as_likely():
    n = 30_000
    frame = pl.DataFrame({"application_id": range(n), "label": ["B"] * n, "label_without_hidden": ["B"] * n})
    noisy = vary(frame, LABELS, rows=None, noise=0.5, seed=3)
    counts = dict(noisy["label"].value_counts().iter_rows())
    assert counts["B"] == n / 2
    assert abs(counts["A"] - n / 4) < 4 * (n / 2 * 0.25) ** 0.5  # four standard deviations of a fair coin


def test_another_seed_another_choice_and_the_same_one_the_same(train, fincorp):
    first, again, other = (vary(train, fincorp.labels, rows=100, noise=0.2, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert ids(first) != ids(other)


def test_a_training_file_is_written_and_nothing_else_changes(tmp_path, fincorp):
    paths = {split: tmp_path / f"{split}.parquet" for split in SPLITS}
    build_dataset(FINCORP, {"train": 40, "validation": 8, "test": 8, "holdout": 8}, seed=0, paths=paths)
    before = {split: paths[split].read_bytes() for split in SPLITS}
    vary_training(paths["train"], FINCORP, 20, 0.2, 0, tmp_path / "train" / "some.parquet")
    assert {split: paths[split].read_bytes() for split in SPLITS} == before
    some = read_split(tmp_path / "train" / "some.parquet", fincorp)
    assert len(some) == 20 and len(wrong(some, read_split(paths["train"], fincorp))) == 4
    vary_training(paths["train"], FINCORP, 20, 0.2, 0, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "train" / "some.parquet").read_bytes()


@pytest.mark.parametrize(
    ("method", "rows", "a_pass", "n_passes"),
    [
        ("sft", 25, 2, 50),  # 16 and 9
        ("grpo", 25, 1, 100),  # 9 rows fill no micro-batch
        ("grpo", 100, 6, 17),  # 102 steps are nearer to 100 than 96
        ("sft", 100, 7, 14),
        ("sft", 1600, 100, 1),
        ("sft", 10_000, 625, 1),  # one pass at least
    ],
)
def test_steps_become_whole_passes(method, rows, a_pass, n_passes):
    settings = {"batch_size": 16, "micro_batch_size": 16, "steps": 100} | (
        {"group_size": 8} if method == "grpo" else {}
    )
    assert steps_a_pass(settings, rows) == a_pass
    assert passes(settings, rows) == n_passes


def test_accumulated_micro_batches_leave_fewer_rows_out():
    settings = {"batch_size": 16, "micro_batch_size": 4, "group_size": 8}
    assert steps_a_pass(settings, 25) == 2  # 24 rows: a batch, and half of one


def test_both_methods_train_on_the_changed_labels(tiny_jobs, fincorp, monkeypatch):
    """What SFT's loss is taken on and what GRPO's reward takes for right are the labels of the file, true or not.

    A pass has the rows and steps that are counted: of eleven rows, five a step, GRPO leaves one out.
    """
    train = tiny_jobs.data / "train.parquet"
    vary_training(train, FINCORP, 11, 0.5, 0, tiny_jobs.data / "noisy.parquet")
    frame = read_split(tiny_jobs.data / "noisy.parquet", fincorp)
    assert len(wrong(frame, read_split(train, fincorp))) == 6
    expected = {
        messages[-1]["content"]: label
        for messages, label in zip(render_prompts(fincorp, frame), frame["label"], strict=True)
    }
    seen = {"sft": {}, "grpo": {}}

    class Trainer(sft.ClockedSFTTrainer):
        def compute_loss(self, model, inputs, **kwargs):
            for ids, labels in zip(inputs["input_ids"], inputs["labels"], strict=True):
                text = self.processing_class.decode(ids)
                (application,) = [application for application in expected if application in text]
                reply = self.processing_class.decode(labels[labels != -100])
                seen["sft"][application] = next(label for label in fincorp.labels if label in reply)
            return super().compute_loss(model, inputs, **kwargs)

    class Reward(grpo.WatchedReward):
        def __call__(self, completions, label, prompts, **kwargs):
            applications = list(expected)  # a prompt names its row
            seen["grpo"] |= {applications[int(prompt)]: name for prompt, name in zip(prompts, label, strict=True)}
            return super().__call__(completions, label, **kwargs)

    monkeypatch.setattr(sft, "ClockedSFTTrainer", Trainer)
    monkeypatch.setattr(grpo, "WatchedReward", Reward)
    changes = {"epochs": 1, "batch_size": 5, "micro_batch_size": 5, "warmup_steps": 0, "label_noise": 0.5}
    for method, train_by in [("sft", sft.train_sft), ("grpo", grpo.train_grpo)]:
        settings = {**tiny_jobs.config[method], **changes} | ({"group_size": 2} if method == "grpo" else {})
        job = tiny_jobs.make(method, settings, train="noisy")
        train_by(job)
        rows = rows_of_steps(settings, 11, pl.read_parquet(job.output.history)["step"].max())
        assert rows.tolist() == ([5, 5, 1] if method == "sft" else [5, 5])
        assert len(seen[method]) == rows.sum()
        assert seen[method].items() <= expected.items()
