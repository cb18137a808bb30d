"""A sweep is several conditions, and says what is wrong with it where it was written."""

from pathlib import Path

import pytest

from hidden_rule.experiment.conditions import condition_settings
from hidden_rule.experiment.config import load_config
from hidden_rule.experiment.sweep import as_written, expand_sweeps, member_name

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)

    def loaded(*texts):
        paths = []
        for i, text in enumerate(texts):
            paths.append(tmp_path / f"{i}.yaml")
            paths[-1].write_text(text, encoding="utf-8")
        return load_config(["config.yaml", *paths])

    return loaded


@pytest.mark.parametrize(
    ("value", "name"),
    [(25, "a_25"), (0.05, "a_0_05"), (0.0, "a_0"), (1e-5, "a_1e_05"), ("dr_grpo", "a_dr_grpo"), (True, "a_true")],
)
def test_what_a_member_is_called(value, name):
    assert member_name("a", value) == name


def test_a_sweep_is_a_condition_for_each_value(load):
    config = load(
        "conditions: {few: {method: grpo, start_from: sft, with: {beta: 0.1}, sweep: {train_rows: [25, 50]}}}"
    )
    few = {name: condition for name, condition in config["conditions"].items() if name.startswith("few")}
    assert few == {
        "few_25": {"method": "grpo", "start_from": "sft", "with": {"beta": 0.1, "train_rows": 25}},
        "few_50": {"method": "grpo", "start_from": "sft", "with": {"beta": 0.1, "train_rows": 50}},
    }
    settings = condition_settings(config, "few_25")["settings"]
    assert settings == {**config["grpo"], "beta": 0.1, "train_rows": 25}


def test_a_sweep_written_out_by_hand_is_the_same_config(load):
    swept = load("conditions: {few: {method: sft, sweep: {label_noise: [0.0, 0.1]}}}")
    by_hand = load(
        "conditions:\n  few_0: {method: sft, with: {label_noise: 0}}\n"
        "  few_0_1: {method: sft, with: {label_noise: 0.1}}"
    )
    assert repr(swept) == repr(by_hand)


def test_a_later_file_drops_a_member_or_the_whole(load):
    sweep = "conditions: {few: {method: sft, sweep: {train_rows: [25, 50]}}}"
    assert "few_25" not in load(sweep, "conditions: {few_25: false}")["conditions"]
    assert "few_50" in load(sweep, "conditions: {few_25: false}")["conditions"]
    assert not [name for name in load(sweep, "conditions: {few: false}")["conditions"] if name.startswith("few")]


def test_settings_that_are_left_out_are_not_there(load):
    """So that what conditions without them train with is what it was."""
    config = load("seeds: [0]")
    assert not {"steps", "train_rows", "label_noise"} & {*config["sft"], *config["grpo"]}


def test_steps_become_epochs_for_each_number_of_rows(load):
    config = load(
        "data: {train: 1600}\nsft: {steps: 200, batch_size: 16}\n"
        "conditions: {s: {method: sft, sweep: {train_rows: [25, 100, 1600]}}}"
    )
    epochs = {
        name: condition_settings(config, name)["settings"]["epochs"] for name in ("s_25", "s_100", "s_1600", "sft")
    }
    assert epochs == {"s_25": 100, "s_100": 29, "s_1600": 2, "sft": 2}
    assert condition_settings(config, "grpo")["settings"]["epochs"] == config["grpo"]["epochs"]


def test_the_label_experiments_hold_equal_what_they_say(load):
    rows = {}
    for name in ("label-efficiency", "label-noise"):
        config = load_config(["config.yaml", ROOT / "experiments" / f"{name}.yaml"])
        settings = {c: condition_settings(config, c) for c in config["conditions"]}
        rows[name] = {c: of for c, of in settings.items() if of["method"]}
    given = {c: of["settings"] for c, of in rows["label-efficiency"].items()}
    assert sorted(of["train_rows"] for of in given.values()) == sorted(2 * [25, 50, 100, 200, 400, 800, 1600])
    assert {of["steps"] for of in given.values()} == {200}
    assert (given["sft_labels_1600"]["epochs"], given["grpo_labels_25"]["epochs"]) == (2, 200)
    noise = [(of["settings"]["label_noise"], of["settings"]["epochs"]) for of in rows["label-noise"].values()]
    assert sorted(noise) == sorted(2 * [(p, 4) for p in (0.0, 0.05, 0.1, 0.2)])


def test_faults_are_placed_where_the_sweep_stands():
    _, places = expand_sweeps({"few": {"method": "sft", "with": {"steps": 9}, "sweep": {"train_rows": [25, 50]}}})
    assert as_written(("conditions", "few_50", "with", "train_rows"), places) == (
        "conditions", "few", "sweep", "train_rows", 1
    )  # fmt: skip
    assert as_written(("conditions", "few_50", "with", "steps"), places) == ("conditions", "few", "with", "steps")
    assert as_written(("conditions", "sft", "with", "steps"), places) == ("conditions", "sft", "with", "steps")
    assert as_written(("data", "train"), places) == ("data", "train")
