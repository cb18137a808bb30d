"""What is said of settings that are valid and hardly meant."""

import pytest

from conftest import ROOT
from hidden_rule.experiment.cautions import cautions
from hidden_rule.experiment.config import load_config


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("seeds: [0]", None),
        # 160 steps of a warm-up of 1,000 end at 16% of the rate
        (
            "sft: {warmup_steps: 1000}",
            "sft: warmup_steps is 1000 and training has 160 steps: the learning rate ends at 0.00032",
        ),
        ("sft: {warmup_steps: 159}", None),
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
