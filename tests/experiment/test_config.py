"""A config is checked, filled in and always the same value for the same settings."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from hidden_rule.core.schemas import load_schema, resolve
from hidden_rule.experiment.conditions import condition_settings, in_order, model_slug
from hidden_rule.experiment.config import check_config, load_config, read_experiment
from hidden_rule.task.ruleset import load_ruleset

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
SCHEMAS = ("config.schema.yaml", "ruleset.schema.yaml")


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def overlay(tmp_path, text, name="overlay.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_config_passes():
    config = load_config(["config.yaml"])
    assert config["experiment"] == "laptop"
    assert config["model"]["source"] == "package"  # needs no network


def test_conditions_stand_in_the_order_of_the_numbers_in_their_names():
    names = ["sft_1600", "sft", "grpo_0_1", "sft_25", "grpo_0_05", "grpo_g64", "1st"]
    assert in_order(names) == ["1st", "grpo_0_05", "grpo_0_1", "grpo_g64", "sft", "sft_25", "sft_1600"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_every_experiment_passes(path):
    assert load_config(["config.yaml", path])["experiment"] == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "rulesets").glob("*.yaml")), ids=lambda path: path.name)
def test_every_ruleset_passes(path):
    assert len(load_ruleset(path).labels) >= 2


def test_the_default_config_names_every_setting_with_its_default():
    # so that a reader of config.yaml sees all there is to set, and the schema's defaults cannot drift from it
    written = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    bare = {key: written[key] for key in ("experiment", "ruleset", "model", "conditions", "charts")}
    filled = check_config(bare, [])
    for section in ("data", "lora", "sft", "grpo", "suites", "evaluation"):
        assert set(written[section]) == set(filled[section]), section
    for key in ("decoding", "lora", "data", "suites", "seeds"):
        assert written[key] == filled[key]


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_valid_describe_every_key_and_refuse_unknown_ones(name):
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)

    def walk(node, at):
        node = resolve(node, schema)
        for key, child in node.get("properties", {}).items():
            child = resolve(child, schema)
            assert "const" in child or child.get("description"), f"{at}.{key} has no description"
            walk(child, f"{at}.{key}")
        if "properties" in node and "allOf" not in node:
            assert node.get("additionalProperties") is False, f"{at} lets unknown keys pass"

    walk(schema, name)
    for part, child in schema["$defs"].items():
        walk(child, part)


def test_a_sparse_config_is_filled_in():
    config = check_config(
        {
            "experiment": "x",
            "ruleset": "rulesets/fincorp.yaml",
            "model": {"source": "hub", "id": "Qwen/Qwen3-14B", "revision": "0" * 40},
            "conditions": {"grpo": {"method": "grpo", "with": {"reward": {"wrong": -1}, "group_size": 64}}},
        },
        [],
    )
    assert config["grpo"]["reward"] == {"correct": 100.0, "wrong": -50.0, "invalid": -100.0, "near": {}}
    assert config["model"]["dtype"] == "auto"
    settings = condition_settings(config, "grpo")["settings"]
    assert settings["reward"] == {
        "correct": 100.0,
        "wrong": -1.0,
        "invalid": -100.0,
        "near": {},
    }  # merged
    assert settings["group_size"] == 64
    assert config["grpo"]["group_size"] == 8


def test_key_order_and_spelling_of_numbers_do_not_matter():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["sft"]["max_grad_norm"] = 1.0
    reordered = json.loads(json.dumps(dict(reversed(config.items()))))
    reordered["sft"] = dict(reversed(reordered["sft"].items())) | {
        "max_grad_norm": 1,
        "epochs": float(config["sft"]["epochs"]),
    }
    assert repr(check_config(config, [])) == repr(check_config(reordered, []))
    assert repr(condition_settings(check_config(config, []), "sft")) == repr(
        condition_settings(check_config(reordered, []), "sft")
    )


def test_what_a_condition_trains_with(tmp_path):
    path = overlay(tmp_path, "conditions:\n  slow: {method: sft, with: {learning_rate: 1.0e-4}}")
    config = load_config(["config.yaml", path])
    assert condition_settings(config, "baseline") == {"method": None, "start_from": None, "settings": {}}
    assert condition_settings(config, "sft") == {"method": "sft", "start_from": None, "settings": config["sft"]}
    assert condition_settings(config, "slow")["settings"] == {**config["sft"], "learning_rate": 1.0e-4}
    assert condition_settings(config, "sft_then_grpo")["start_from"] == "sft"


def test_references_train_nothing_and_a_count_of_examples_is_a_whole_number(tmp_path):
    shots = "shots: {prompt: {examples: 4.0}, start_from: sft}"
    others = "told: {prompt: oracle}, plain: {reference: constant}"
    text = f"conditions: {{{shots}, {others}}}"
    config = load_config(["config.yaml", overlay(tmp_path, text)])
    assert repr(config["conditions"]["shots"]["prompt"]) == "{'examples': 4}"
    assert condition_settings(config, "shots") == {"method": None, "start_from": "sft", "settings": {}}
    for name in ("told", "plain"):
        assert condition_settings(config, name) == {"method": None, "start_from": None, "settings": {}}


def test_a_change_of_one_method_leaves_the_other_as_it_is(tmp_path):
    before = load_config(["config.yaml"])
    after = load_config(["config.yaml", overlay(tmp_path, "sft: {learning_rate: 1.0e-3}")])
    assert repr(condition_settings(before, "grpo")) == repr(condition_settings(after, "grpo"))
    assert repr(condition_settings(before, "sft")) != repr(condition_settings(after, "sft"))


def test_false_drops_a_condition(tmp_path):
    config = load_config(["config.yaml", overlay(tmp_path, "conditions: {grpo: false, sft_then_grpo: false}")])
    assert list(config["conditions"]) == ["baseline", "boosting", "constant", "logistic", "sft"]
    references = "conditions: {constant: false, logistic: false, boosting: false}"
    config = load_config(["config.yaml", overlay(tmp_path, references)])
    assert list(config["conditions"]) == ["baseline", "grpo", "sft", "sft_then_grpo"]
    back = overlay(tmp_path, "conditions: {logistic: {reference: logistic}}", "back.yaml")
    assert "logistic" in load_config(["config.yaml", tmp_path / "overlay.yaml", back])["conditions"]


def test_a_local_folder_is_a_model(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    path = overlay(tmp_path, f"model: {{source: path, id: {tmp_path}}}")
    model = load_config(["config.yaml", path])["model"]
    assert model["revision"] == ""  # that of the embedded model is not the folder's


def test_a_config_without_structured_evaluation_passes(tmp_path):
    path = overlay(tmp_path, "decoding: free\nevaluation: {structured: []}\ngrpo: {use_vllm: true}")
    experiment = read_experiment(["config.yaml", path])
    assert experiment.config["evaluation"]["structured"] == []
    assert list(experiment.config["conditions"]) == ["baseline", "grpo", "sft", "sft_then_grpo"]
    (line,) = [line for line in experiment.cautions if "classifiers" in line]
    assert line == (
        "conditions: without boosting, constant, logistic: evaluation.structured names no split, and classifiers "
        "answer under structured decoding alone"
    )


@pytest.mark.parametrize("structured", ["[suites]", "[]"])
def test_references_that_cannot_answer_are_left_out(tmp_path, structured):
    path = overlay(tmp_path, f"decoding: free\nevaluation: {{structured: {structured}, free: [test]}}")
    assert "boosting" not in load_config(["config.yaml", path])["conditions"]
    assert (
        "boosting" in load_config(["config.yaml", overlay(tmp_path, "evaluation: {structured: [test]}")])["conditions"]
    )


def test_only_the_smoke_experiment_is_one():
    purposes = {path.stem: load_config(["config.yaml", path])["purpose"] for path in EXPERIMENTS}
    assert {name for name, purpose in purposes.items() if purpose == "smoke"} == {"smoke"}


def test_models_have_folders_of_their_own():
    model = {"source": "hub", "id": "Qwen/Qwen3-14B", "revision": "a" * 40}
    other = [{**model, "revision": "b" * 40}, {**model, "id": "Else/Qwen3-14B"}, {**model, "source": "path"}]
    assert model_slug(model).startswith("qwen3-14b-")
    assert len({model_slug(m) for m in [model, *other]}) == 4
    assert model_slug({**model, "id": ".."}).startswith("model-")  # never leaves the folder of models
