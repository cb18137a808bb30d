"""What is said of settings that are valid and hardly meant."""

import pytest
import yaml

from conftest import ROOT
from hidden_rule.experiment.cautions import cautions
from hidden_rule.experiment.config import load_config, read_experiment


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("seeds: [0]", None),
        # 160 steps of a warm-up of 1,000 end at 16% of the rate
        (
            "sft: {warmup_steps: 1000}",
            "sft: warmup_steps is 1000 and training has 640 steps: the learning rate ends at 0.0013",
        ),
        ("sft: {warmup_steps: 639}", None),
        (
            "decoding: free\ngrpo: {reward: {wrong: 0, invalid: 0.5}}",
            "grpo: reward.invalid (0.5) exceeds reward.wrong (0)",
        ),
        ("grpo: {reward: {wrong: 0, invalid: 0.5}}", None),  # structured decoding has no invalid replies
    ],
)  # fmt: skip
def test_cautions(tmp_path, monkeypatch, overlay, words):
    monkeypatch.chdir(ROOT)
    (tmp_path / "overlay.yaml").write_text(overlay, encoding="utf-8")
    lines = cautions(load_config(["config.yaml", tmp_path / "overlay.yaml"]))
    assert (lines == []) if words is None else lines[0].startswith(words)


@pytest.mark.parametrize("file", ["config.yaml", *sorted(map(str, (ROOT / "experiments").glob("*.yaml")))])
def test_no_experiment_of_ours_needs_one(monkeypatch, file):
    monkeypatch.chdir(ROOT)
    assert cautions(load_config(["config.yaml", file])) == []


@pytest.mark.parametrize(
    ("system", "line"),
    [
        ("How does this parcel travel: {labels}?", None),
        ("{rules}", None),
        ("How? CHILLED, AIR or ROAD", None),
        ("How? CHILLED or AIR", "the prompt names no ROAD: write {labels} into prompt.system"),
        ("Decide.", "the prompt names no CHILLED and no AIR and no ROAD: write {labels} into prompt.system"),
    ],
)
def test_labels_that_no_prompt_names(tmp_path, monkeypatch, system, line):
    monkeypatch.chdir(ROOT)
    ruleset = yaml.safe_load((ROOT / "tests/rulesets/parcels.yaml").read_text(encoding="utf-8"))
    ruleset["prompt"]["system"] = system
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(ruleset, sort_keys=False), encoding="utf-8")
    (tmp_path / "overlay.yaml").write_text(f"ruleset: {tmp_path}/mine.yaml", encoding="utf-8")
    said = read_experiment(["config.yaml", tmp_path / "overlay.yaml"]).cautions
    assert said == ([f"{tmp_path}/mine.yaml: {line}"] if line else [])
