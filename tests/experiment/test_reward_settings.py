"""Rewards of three kinds and decision costs in a config: what replaces what, what is completed, what is refused."""

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.experiment.cautions import cautions
from hidden_rule.experiment.conditions import condition_settings
from hidden_rule.experiment.config import load_config
from hidden_rule.experiment.results import excerpt
from hidden_rule.experiment.reward_settings import reward_file

POINTS = {"correct": 100.0, "wrong": -50.0, "invalid": -100.0, "near": {}}
GOOD = """
def reward(replies, cases):
    return [float(reply == '{"decision": "%s"}' % case["label"]) for reply, case in zip(replies, cases)]
second = reward
"""
FLAT = "def reward(replies, cases):\n    return [0.0 for reply in replies]\n"


@pytest.fixture
def load(tmp_path):
    """The config of overlays over config.yaml; {good} and {flat} in them are reward files."""
    for name, text in {"good": GOOD, "flat": FLAT}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")

    def load(*overlays: str) -> dict:
        files = [tmp_path / f"overlay{i}.yaml" for i in range(len(overlays))]
        for file, text in zip(files, overlays, strict=True):
            for name in ("good", "flat", "none"):
                text = text.replace(f"{{{name}}}", str(tmp_path / f"{name}.py"))
            file.write_text(text, encoding="utf-8")
        return load_config(["config.yaml", *files])

    load.folder = tmp_path
    return load


def rewards(config: dict) -> dict[str, dict]:
    settings = {name: condition_settings(config, name)["settings"] for name in config["conditions"]}
    return {name: of["reward"] for name, of in settings.items() if "reward" in of}


def test_a_reward_of_another_kind_replaces_and_one_of_the_same_is_merged(load):
    own = {"file": str(load.folder / "good.py"), "function": "reward"}
    costs = {"decision_costs": {"costs": {"REJECT_RISK": {"STANDARD_LOAN": 9.0}}}}
    found = rewards(load(
        "grpo: {reward: {file: {good}}}\ndecision_costs: {costs: {REJECT_RISK: {STANDARD_LOAN: 9}}, invalid: 3}\n"
        "conditions:\n  points: {method: grpo, with: {reward: {correct: 7}}}\n"
        "  costs: {method: grpo, with: {reward: decision_costs}}\n"
        "  second: {method: grpo, with: {reward: {function: second}}}"
    ))  # fmt: skip
    assert found["grpo"] == found["sft_then_grpo"] == own
    assert found["points"] == POINTS | {"correct": 7.0}
    assert found["second"] == own | {"function": "second"}
    invalid = dict.fromkeys(["A_PLUS_TIER", "MANUAL_REVIEW", "REJECT_RISK", "STANDARD_LOAN"], 3.0)
    assert found["costs"] == {"decision_costs": costs["decision_costs"] | {"invalid": invalid}}
    back = load("grpo: {reward: {file: {flat}}}", "grpo: {reward: {wrong: -1}}")  # the file is never looked at
    assert rewards(back)["grpo"] == POINTS | {"wrong": -1.0}
    assert rewards(load("grpo: {reward: decision_costs}\ndecision_costs: {}", "grpo: {reward: {wrong: -1}}"))[
        "grpo"
    ] == (POINTS | {"wrong": -1.0})
    condition = "conditions: {grpo: {with: {reward: {file: {good}}}}}"
    assert rewards(load(condition))["grpo"] == own and rewards(load(condition))["sft_then_grpo"] == POINTS
    assert reward_file({"reward": own}) == [own["file"]] and reward_file({"reward": POINTS}) == reward_file({}) == []


def test_costs_are_completed_and_stay_so(load):
    config = load("decision_costs: {REJECT_RISK: {STANDARD_LOAN: 50}, unit: EUR, prevalence: {REJECT_RISK: 0.1}}")
    assert config["decision_costs"] == {
        "unit": "EUR",
        "costs": {"REJECT_RISK": {"STANDARD_LOAN": 50.0}},
        "invalid": {"A_PLUS_TIER": 1.0, "MANUAL_REVIEW": 1.0, "REJECT_RISK": 50.0, "STANDARD_LOAN": 1.0},
        "prevalence": {"REJECT_RISK": 0.1},
    }
    assert load(f"decision_costs: {config['decision_costs']}")["decision_costs"] == config["decision_costs"]
    assert "decision_costs" not in load("seeds: [1]")


def test_what_reruns_when_the_costs_change(load):
    """Trainings on points do not: their settings and excerpts do not hold the costs."""
    config = load("decision_costs: {}\nconditions: {b: {method: grpo, with: {reward: decision_costs}}}")
    assert "decision_costs" not in excerpt(config, ["sft", "grpo"], "decoding")
    assert "decision_costs" in excerpt(config, ["b"]) and "decision_costs" in excerpt(config, ["sft"], "decision_costs")
    assert rewards(excerpt(config, ["b"]))["b"] == rewards(config)["b"]
    priced = load(
        "decision_costs: {unit: EUR, prevalence: {REJECT_RISK: 0.3}}\n"
        "conditions: {b: {method: grpo, with: {reward: decision_costs}}}"
    )
    assert rewards(priced)["b"] == rewards(config)["b"]  # unit and prevalence are not trained on


BAD = [
    ("grpo: {reward: decision_cost}", "grpo.reward: 'decision_cost' is not one of decision_costs; did you mean"),
    ("grpo: {reward: 5}", "grpo.reward: must be a mapping of keys to values, is 5"),
    ("grpo: {reward: decision_costs}", "grpo.reward: is decision_costs, and the config has none; add decision_costs"),
    (
        "grpo: {reward: decision_costs}\ndecision_costs: {costs: {REJECT_RISK: {STANDARD_LOAN: 0}}}",
        "grpo.reward: is decision_costs, and STANDARD_LOAN costs nothing where REJECT_RISK is right: it earns as much; "
        "let",
    ),
    (
        "grpo: {reward: decision_costs}\ndecision_costs: {invalid: 0}",
        "grpo.reward: is decision_costs, and no valid reply costs nothing where",
    ),
    ("grpo: {reward: {file: {none}}}", "none.py: no such file; check the path"),
    ("grpo: {reward: {file: .}}", "grpo.reward.file: .: is a folder; name a file"),
    ("grpo: {reward: {fle: x.py}}", "grpo.reward.fle: unknown key; did you mean file?"),
    ("grpo: {reward: {function: f}}", "grpo.reward.file: is missing, and function is given; give the path of a Python"),
    ("grpo: {reward: {file: {good}, wrong: 1}}", "grpo.reward.wrong: does not go with file, which"),
    (
        "conditions: {grpo: {with: {reward: {file: {good}, near: {}}}}}",
        "conditions.grpo.with.reward.near: does not go with file",
    ),
    ("conditions: {grpo: {with: {reward: {file: {none}}}}}", "conditions.grpo.with.reward.file: "),
    ("grpo: {reward: {file: {good}, function: rewards}}", "good.py: has no function 'rewards'; did you mean reward?"),
    ("grpo: {reward: {file: {flat}}}", "flat.py:1: reward(): pays 0 for the right reply"),
    (
        "decision_costs: {costs: {REJECT: {STANDARD_LOAN: 1}}}",
        "decision_costs.costs.REJECT: no decision is called 'REJECT'",
    ),
    (
        "decision_costs: {costs: {REJECT_RISK: {STANDARD: 1}}}",
        "decision_costs.costs.REJECT_RISK.STANDARD: no decision is",
    ),
    ("decision_costs: {REJECT: {STANDARD_LOAN: 1}}", "decision_costs.costs.REJECT: no decision is called 'REJECT'"),
    (
        "decision_costs: {costs: {REJECT_RISK: {REJECT_RISK: 1}}}",
        "REJECT_RISK.REJECT_RISK: is the right decision itself",
    ),
    (
        "decision_costs: {costs: {REJECT_RISK: {STANDARD_LOAN: -1}}}",
        "STANDARD_LOAN: -1 is out of range; give at least 0",
    ),
    ("decision_costs: {costs: {REJECT_RISK: {STANDARD_LOAN: x}}}", "STANDARD_LOAN: must be a number, is 'x'"),
    ("decision_costs: {costs: {REJECT_RISK: {STANDARD_LOAN: '5'}}}", "STANDARD_LOAN: must be a number, is '5'"),
    ("decision_costs: {costs: {REJECT_RISK: 5}}", "costs.REJECT_RISK: must be a mapping of keys to values"),
    ("decision_costs: {costs: [1, 2]}", "decision_costs.costs: must be a mapping of keys to values"),
    ("decision_costs: 5", "decision_costs: must be a mapping of keys to values, is 5"),
    ("decision_costs: {unt: EUR}", "decision_costs.unt: unknown key; did you mean unit?"),
    ("decision_costs: {unit: ''}", "decision_costs.unit: '' is not valid; give what costs are in"),
    ("decision_costs: {invalid: -1}", "decision_costs.invalid: -1 is out of range"),
    ("decision_costs: {invalid: {REJECT: 1}}", "decision_costs.invalid.REJECT: no decision is called"),
    ("decision_costs: {prevalence: {REJECT: 0.1}}", "decision_costs.prevalence.REJECT: no decision is called"),
    ("decision_costs: {prevalence: {REJECT_RISK: 10}}", "prevalence.REJECT_RISK: 10 is out of range; give"),
    ("decision_costs: {prevalence: {REJECT_RISK: 0.7, A_PLUS_TIER: 0.6}}", "prevalence: shares sum to 1.3; give"),
    (
        "decision_costs: {prevalence: {REJECT_RISK: 0.1, A_PLUS_TIER: 0.2, MANUAL_REVIEW: 0.3, STANDARD_LOAN: 0.3}}",
        "decision_costs.prevalence: shares of all labels sum to 0.9; give shares that sum to 1, or leave a label out",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("overlay", "expected"), BAD)
def test_refused(load, overlay, expected):
    with pytest.raises(UserError) as caught:
        load(overlay)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    if ".py:" not in expected or "no such" in expected:
        assert "overlay0.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("overlay", "cautioned"),
    [
        ("decision_costs: {invalid: 0.5}\ndecoding: free", True),
        ("decision_costs: {invalid: 0.5}", False),  # structured decoding has no invalid replies
        ("decision_costs: {}\ndecoding: free", False),
    ],
)
def test_a_cheap_invalid_reply_is_cautioned_against(load, overlay, cautioned):
    config = load(f"{overlay}\ngrpo: {{reward: decision_costs}}")
    assert (
        any("it pays to decide nothing; raise decision_costs.invalid" in line for line in cautions(config)) == cautioned
    )
