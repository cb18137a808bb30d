"""Settings of RLOO, RFT and DPO that cannot be met stop with one line; and what follows from those that can."""

import pytest

from bad_inputs import ROOT, breakable, the_line  # noqa: F401 - a fixture
from hidden_rule.experiment.conditions import condition_settings, explores, replies_a_prompt, start_of
from hidden_rule.experiment.config import load_config
from hidden_rule.experiment.reply_limits import reply_limits

# An overlay of the default config -> the line.
CONFIG = [
    (
        "conditions: {a: {method: rft, with: {rounds: 5}}}",
        (
            "overlay.yaml: conditions.a.with.rounds: 5 rounds do not fit 4 epochs: one has at least one; "
            "give at most 4, or more rft.epochs"
        ),
    ),
    (
        "conditions: {a: {method: rft, with: {keep: right}}}",
        "overlay.yaml: conditions.a.with.keep: 'right' is not one of best, all_right; did you mean all_right?",
    ),
    (
        "conditions: {a: {method: rft, with: {samples: 0}}}",
        "overlay.yaml: conditions.a.with.samples: 0 is out of range; give a whole number, at least 1 and at most 4096",
    ),
    (
        "{decoding: free, launch: {processes: 2, strategy: fsdp}, conditions: {a: {method: rft}}}",
        (
            "overlay.yaml: launch: conflicts with rft.keep: rft generates replies between steps, and fsdp shards the "
            "weights; for rft.keep, set launch.strategy: ddp, or decoding: structured"
        ),
    ),
    (
        "conditions: {a: {method: rft, with: {reward: {correct: 1, wrong: 1}}}}",
        (
            "overlay.yaml: conditions.a.with.reward: does not pay more for a correct reply than for a wrong or invalid "
            "one; raise correct above the others"
        ),
    ),
    (
        "conditions: {a: {method: dpo, with: {label_smoothing: 0.1}}}",
        (
            "overlay.yaml: conditions.a.with.label_smoothing: is of the loss robust alone, and loss_type is sigmoid; "
            "set loss_type: robust, or label_smoothing: 0"
        ),
    ),
    (
        "conditions: {a: {method: dpo, with: {loss_type: robust, label_smoothing: 0.5}}}",
        ("overlay.yaml: conditions.a.with.label_smoothing: 0.5 is out of range; give at least 0 and less than 0.5"),
    ),
    (
        "conditions: {a: {method: dpo, with: {pairs: error}}}",
        "overlay.yaml: conditions.a.with.pairs: 'error' is not one of labels, errors; did you mean errors?",
    ),
    (
        "conditions: {a: {method: rloo, with: {group_size: 1}}}",
        "overlay.yaml: conditions.a.with.group_size: 1 is out of range; "
        "give a whole number, at least 2 and at most 4096",
    ),
    (
        "conditions: {a: {method: rloo, with: {reward: {near: {REJECT_RISK: {MANUAL: 1}}}}}}",
        (
            "overlay.yaml: conditions.a.with.reward.near.REJECT_RISK.MANUAL: no decision is called 'MANUAL'; "
            "did you mean MANUAL_REVIEW?"
        ),
    ),
]


@pytest.mark.usefixtures("breakable")
@pytest.mark.parametrize(("overlay", "line"), CONFIG, ids=[overlay[:60] for overlay, _ in CONFIG])
def test_bad_config(tmp_path, overlay, line):
    (tmp_path / "overlay.yaml").write_text(overlay, encoding="utf-8")
    assert the_line(load_config, ["config.yaml", tmp_path / "overlay.yaml"]) == line


def test_what_samples_and_from_where(monkeypatch):
    """Groups of RLOO and samples of RFT are assessed before training; errors for DPO are sampled alone."""
    monkeypatch.chdir(ROOT)
    config = load_config(["config.yaml", "experiments/methods.yaml"])
    own = {name: condition_settings(config, name)["settings"] for name in ("rloo", "rft", "dpo", "sft_then_dpo")}
    assert {name: replies_a_prompt(of) for name, of in own.items()} == {
        "rloo": 8, "rft": 8, "dpo": None, "sft_then_dpo": None
    }  # fmt: skip
    assert [name for name, of in own.items() if explores(of)] == ["rloo", "rft", "sft_then_dpo"]
    assert [start_of(config, name) for name in own] == ["baseline", "baseline", None, None]
    limits = reply_limits({**config, "decoding": "free"})
    assert {"rloo.max_new_tokens", "rft.max_new_tokens", "dpo.max_new_tokens"} <= limits.keys()
