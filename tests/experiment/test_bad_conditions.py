"""Wrong conditions, references and sweeps stop with one line, as wrong settings do."""

import re

import pytest

from bad_inputs import breakable, the_line  # noqa: F401 - a fixture
from hidden_rule.experiment.config import load_config

pytestmark = pytest.mark.usefixtures("breakable")

# An overlay of the default config -> the line.
CONFIG = [
    # conditions
    (
        "conditions: {a: {method: gpro}}",
        "overlay.yaml: conditions.a.method: 'gpro' is not one of sft, grpo, rloo, rft, dpo, ppo; did you mean grpo?",
    ),
    (
        "conditions: {a: {method: grpo, start_from: stf}}",
        "overlay.yaml: conditions.a.start_from: unknown condition 'stf'; did you mean sft?",
    ),
    (
        "conditions: {a: {method: sft, start_from: b}, b: {method: sft, start_from: a}}",
        (
            "overlay.yaml: conditions.b.start_from: goes in a circle (a -> b -> a); "
            "let one of them start from the base model"
        ),
    ),
    (
        "conditions: {a: {method: sft, start_from: a}}",
        "overlay.yaml: conditions.a.start_from: goes in a circle (a -> a); let one of them start from the base model",
    ),
    (
        "conditions: {a: {method: sft, start_from: baseline}}",
        (
            "overlay.yaml: conditions.a.start_from: baseline is not trained and has no adapter; "
            "leave start_from out to start from the base model"
        ),
    ),
    (
        "conditions: {sft: false}",  # others start from it
        "overlay.yaml: conditions.sft: is left out, and sft_then_grpo starts from it; leave sft_then_grpo out too",
    ),
    (
        "conditions: {a: {start_from: sft}}",
        (
            "overlay.yaml: conditions.a.method: is missing, and start_from is given; "
            "add method: sft, grpo, rloo, rft, dpo or ppo"
        ),
    ),
    (
        "conditions: {a: {method: sft, with: {group_size: 4}}}",  # a setting of the other method
        (
            "overlay.yaml: conditions.a.with.group_size: unknown key; "
            "known: epochs, learning_rate, warmup_steps, batch_size, "
            "micro_batch_size, max_grad_norm, gradient_checkpointing, max_minutes, "
            "steps, train_rows, label_noise"
        ),
    ),
    (
        "conditions: {a: {method: grpo, with: {group_size: 0}}}",
        (
            "overlay.yaml: conditions.a.with.group_size: 0 is out of range; "
            "give a whole number, at least 2 and at most 4096"
        ),
    ),
    (
        "conditions: {a: {method: grpo, with: {micro_batch_size: 3}}}",
        "overlay.yaml: conditions.a.with.micro_batch_size: conflicts with grpo.batch_size: "
        "8 is not a multiple of micro_batch_size (3); for grpo.batch_size, take 9",
    ),
    # references
    (
        "conditions: {a: {reference: logistics}}",
        "overlay.yaml: conditions.a.reference: 'logistics' is not one of constant, logistic, boosting; "
        "did you mean logistic?",
    ),
    (
        "conditions: {a: {reference: logistic, method: sft}}",
        "overlay.yaml: conditions.a.method: does not go with reference, which trains no model; "
        "leave one of the two out, or make two conditions",
    ),
    (
        "conditions: {a: {reference: logistic, start_from: sft}}",
        "overlay.yaml: conditions.a.start_from: does not go with reference, which trains no model; "
        "leave one of the two out, or make two conditions",
    ),
    (
        "conditions: {a: {reference: logistic, prompt: oracle}}",
        "overlay.yaml: conditions.a.prompt: does not go with reference, which trains no model; "
        "leave one of the two out, or make two conditions",
    ),
    (
        "conditions: {a: {method: sft, prompt: oracle}}",
        "overlay.yaml: conditions.a.method: does not go with prompt, which trains no model; "
        "leave one of the two out, or make two conditions",
    ),
    (
        "conditions: {a: {prompt: oracle, with: {epochs: 1}}}",
        "overlay.yaml: conditions.a.with: does not go with prompt, which trains no model; "
        "leave one of the two out, or make two conditions",
    ),
    (
        "conditions: {a: {prompt: oracle, start_from: baseline}}",
        "overlay.yaml: conditions.a.start_from: baseline is not trained and has no adapter; "
        "leave start_from out to start from the base model",
    ),
    (
        "conditions: {a: {prompt: oracle}, b: {method: sft, start_from: a}}",
        "overlay.yaml: conditions.b.start_from: a is not trained and has no adapter; "
        "leave start_from out to start from the base model",
    ),
    (
        "conditions: {a: {prompt: orcale}}",
        "overlay.yaml: conditions.a.prompt: 'orcale' is not one of oracle; did you mean oracle?",
    ),
    (
        "conditions: {a: {prompt: 8}}",
        "overlay.yaml: conditions.a.prompt: must be a mapping of keys to values, is 8; "
        "write its keys below it, indented",
    ),
    (
        "conditions: {a: {prompt: {exampels: 8}}}",
        "overlay.yaml: conditions.a.prompt.exampels: unknown key; did you mean examples?",
    ),
    (
        "conditions: {a: {prompt: {}}}",
        "overlay.yaml: conditions.a.prompt.examples: is missing; add it (how many, balanced over the labels)",
    ),
    (
        "conditions: {a: {prompt: {examples: 0}}}",
        "overlay.yaml: conditions.a.prompt.examples: 0 is out of range; "
        "give a whole number, at least 1 and at most 256",
    ),
    (
        "data: {train: 31}\nconditions: {a: {prompt: {examples: 29}}}",  # three labels have 8 rows, one 7
        "overlay.yaml: conditions.a.prompt.examples: 29 examples cannot be drawn evenly from 31 rows of 4 labels; "
        "give at most 28",
    ),
    (
        "decoding: free\nevaluation: {structured: []}\nconditions: {a: {reference: constant}, baseline: false, "
        "sft: false, grpo: false, sft_then_grpo: false, boosting: false, constant: false, logistic: false}",
        "overlay.yaml: evaluation.structured: names no split, and a answers under structured decoding alone; "
        "name a split, as in [test]",
    ),
    (
        "conditions: {Big-One: {}}",
        (
            "overlay.yaml: conditions.Big-One: is not a valid name; "
            "use small letters, digits and underscores, a letter first"
        ),
    ),
    (
        "conditions: {a: }",
        "overlay.yaml: conditions.a: must be a mapping of keys to values, is empty; write {} if it has no keys",
    ),
    (
        "conditions:\n  a: {}\n  a: {method: sft}",
        "overlay.yaml: a: the key stands twice (lines 2 and 3); keep one",
    ),
    # rows, noise and steps of a training; sweeps
    (
        "conditions: {a: {method: sft, with: {train_rows: 641}}}",
        "overlay.yaml: conditions.a.with.train_rows: 641 is more than data.train (640); give at most 640",
    ),
    (
        "conditions: {a: {method: sft, sweep: {train_rows: [32, 2]}}}",
        (
            "overlay.yaml: conditions.a.sweep.train_rows[1]: 2 rows do not fill a batch (sft.batch_size is 4); "
            "give at least 4"
        ),
    ),
    (
        "sft: {batch_size: 2, micro_batch_size: 2}\nconditions: {a: {method: sft, with: {train_rows: 3}}}",
        "overlay.yaml: conditions.a.with.train_rows: 3 rows cannot hold each of 4 labels; give at least 4",
    ),
    (
        "grpo: {label_noise: 0.6}",
        "overlay.yaml: grpo.label_noise: 0.6 is out of range; give at least 0 and at most 0.5",
    ),
    (
        "conditions: {a: {method: sft, with: {train_rows: 25}, sweep: {label_noise: [0.01, 0.1]}}}",
        (
            "overlay.yaml: conditions.a.sweep.label_noise[0]: 0.01 of 25 rows is not one row; "
            "give at least 0.04, or leave it out"
        ),
    ),
    (
        "conditions: {a: {method: sft, with: {steps: 400}}}",
        (
            "overlay.yaml: conditions.a.with.steps: 400 steps are 2.5 passes over 640 rows (160 steps each); "
            "take 320 or 480"
        ),
    ),
    (
        "conditions: {a: {method: grpo, with: {steps: 200, train_rows: 640}, sweep: {epochs: [1, 2]}}}",
        "overlay.yaml: conditions.a.with.steps: stands beside epochs, which it replaces; keep one",
    ),
    (
        "conditions: {a: {method: sft, sweep: {group_size: [2, 4]}}}",
        (
            "overlay.yaml: conditions.a.sweep.group_size: unknown key; "
            "known: epochs, learning_rate, warmup_steps, batch_size, micro_batch_size, max_grad_norm, "
            "gradient_checkpointing, max_minutes, steps, train_rows, label_noise"
        ),
    ),
    (
        "conditions: {a: {method: sft, sweep: {train_rows: [25, many]}}}",
        ("overlay.yaml: conditions.a.sweep.train_rows[1]: must be a whole number, is 'many'; give a whole number"),
    ),
    (
        "conditions: {a: {method: grpo, sweep: {reward: [{correct: 1}]}}}",
        "overlay.yaml: conditions.a.sweep.reward[0]: is no plain value; give a number or a word",
    ),
    (
        "conditions: {a: {method: sft, sweep: {train_rows: [25], epochs: [1]}}}",
        "overlay.yaml: conditions.a.sweep: varies 2 settings; keep one, and write others into with",
    ),
    (
        "conditions: {a: {method: sft, with: {epochs: 1}, sweep: {epochs: [1, 2]}}}",
        "overlay.yaml: conditions.a.sweep.epochs: stands in with too; keep one",
    ),
    (
        "conditions: {a: {method: sft, sweep: {epochs: [1, 2]}}, a_2: {}}",
        "overlay.yaml: conditions.a.sweep.epochs[1]: makes a second condition a_2; rename one",
    ),
    (
        "conditions: {a: {method: sft, sweep: {epochs: []}}}",
        "overlay.yaml: conditions.a.sweep.epochs: is empty; add more",
    ),
    (
        "conditions: {a: {method: sft, sweep: {epochs: [1, 1]}}}",
        "overlay.yaml: conditions.a.sweep.epochs: 1 stands twice; keep one",
    ),
    (
        "conditions: {a: {sweep: {epochs: [1, 2]}}}",
        (
            "overlay.yaml: conditions.a.method: is missing, and sweep is given; "
            "add method: sft, grpo, rloo, rft, dpo or ppo"
        ),
    ),
    (
        "conditions: {a: {method: sft, sweep: {epochs: [1, 2]}}, b: {method: grpo, start_from: a}}",
        (
            "overlay.yaml: conditions.b.start_from: unknown condition 'a'; "
            "known: a_1, a_2, baseline, boosting, constant, grpo, logistic, sft, sft_then_grpo"
        ),
    ),
]


@pytest.mark.parametrize(("text", "line"), CONFIG, ids=[text[:50] for text, _ in CONFIG])
def test_bad_config(tmp_path, text, line):
    (tmp_path / "overlay.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_config, ["config.yaml", tmp_path / "overlay.yaml"]) == line


def published(tmp_path, overlay: str, figures: str) -> list:
    """FinCorp's ruleset with other published figures, and a config that uses it."""
    text = (tmp_path / "rulesets/fincorp.yaml").read_text(encoding="utf-8")
    text = re.sub(r"accuracy: \{baseline.*", f"accuracy: {figures}", text)
    (tmp_path / "rulesets/fincorp.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "overlay.yaml").write_text(overlay, encoding="utf-8")
    return ["config.yaml", tmp_path / "overlay.yaml"]


def test_published_figures_of_an_unknown_condition(tmp_path):
    assert the_line(load_config, published(tmp_path, "seeds: [1]", "{stf: 0.9}")) == (
        "rulesets/fincorp.yaml: published.accuracy.stf: unknown condition 'stf'; did you mean sft?"
    )


@pytest.mark.parametrize(
    "overlay",
    [
        "conditions: {grpo: false, sft_then_grpo: false}",
        "conditions: {grpo: {method: grpo, sweep: {epochs: [1, 2]}}}",  # in its place grpo_1 and grpo_2
    ],
)
def test_published_figures_of_a_condition_that_is_left_out(tmp_path, overlay):
    load_config(published(tmp_path, overlay, "{grpo: 0.4, sft: 0.9}"))
