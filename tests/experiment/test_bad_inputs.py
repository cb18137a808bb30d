"""A wrong input stops with one line that names the file, the key, what is wrong and what would be right."""

import shutil
from pathlib import Path

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.experiment.config import check_config, load_config
from hidden_rule.task.dataset import draw_splits, read_split
from hidden_rule.task.ruleset import load_ruleset

ROOT = Path(__file__).resolve().parents[2]
PARCELS = Path(__file__).resolve().parents[1] / "rulesets" / "parcels.yaml"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """The default config and the rulesets, in a place where files can be broken."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    shutil.copytree(ROOT / "rulesets", tmp_path / "rulesets")
    shutil.copy(PARCELS, tmp_path)
    (tmp_path / "empty_folder").mkdir()
    monkeypatch.chdir(tmp_path)


def the_line(function, *arguments) -> str:
    with pytest.raises(UserError) as error:
        function(*arguments)
    line = str(error.value)
    assert "\n" not in line and "Traceback" not in line and len(line) < 300
    return line


# An overlay of the default config -> the line.
CONFIG = [
    # misspelled keys, at every depth
    ("sft: {learning_rat: 1.0e-3}", "overlay.yaml: sft.learning_rat: unknown key; did you mean learning_rate?"),
    ("sedes: [1]", "overlay.yaml: sedes: unknown key; did you mean seeds?"),
    (
        "grpo: {reward: {corect: 1}}",
        "overlay.yaml: grpo.reward.corect: unknown key; did you mean correct?",
    ),
    ("data: {zzz: 1}", "overlay.yaml: data.zzz: unknown key; known: seed, train, test, validation, holdout"),
    (
        "sft: {group_size: 8}",
        (
            "overlay.yaml: sft.group_size: unknown key; "
            "known: epochs, learning_rate, warmup_steps, batch_size, "
            "micro_batch_size, max_grad_norm, gradient_checkpointing, max_minutes, "
            "steps, train_rows, label_noise"
        ),
    ),
    # wrong types
    (
        "sft: {learning_rate: 2e-4}",  # no point: YAML 1.1 reads text
        "overlay.yaml: sft.learning_rate: '2e-4' is read as text, not a number; write 2.0e-4",
    ),
    ("sft: {epochs: many}", "overlay.yaml: sft.epochs: must be a whole number, is 'many'; give a whole number"),
    ("sft: {epochs: 1.5}", "overlay.yaml: sft.epochs: must be a whole number, is 1.5; give a whole number"),
    (
        "sft: {gradient_checkpointing: 1}",
        "overlay.yaml: sft.gradient_checkpointing: must be true or false, is 1; give true or false",
    ),
    ("seeds: 3", "overlay.yaml: seeds: must be a list, is 3; give a list"),
    ("experiment: 14", "overlay.yaml: experiment: must be text, is 14; put it in quotes"),
    ("sft:", "overlay.yaml: sft: must be a mapping of keys to values, is empty; write {} if it has no keys"),
    # out of range
    (
        "grpo: {group_size: 1}",  # a group of one has no advantage
        "overlay.yaml: grpo.group_size: 1 is out of range; give a whole number, at least 2 and at most 4096",
    ),
    (
        "sft: {learning_rate: -1.0}",
        "overlay.yaml: sft.learning_rate: -1.0 is out of range; give more than 0 and at most 1",
    ),
    ("sft: {learning_rate: .nan}", "overlay.yaml: sft.learning_rate: is not a finite number; give a plain number"),
    (
        "charts: {published: {accuracy: {sft: 88.3}}}",
        "overlay.yaml: charts.published.accuracy.sft: 88.3 is out of range; give at least 0 and at most 1",
    ),
    ("lora: {target_modules: []}", "overlay.yaml: lora.target_modules: is empty; add more"),
    ("seeds: []", "overlay.yaml: seeds: is empty; add more"),
    ("seeds: [0, 1, 0]", "overlay.yaml: seeds: 0 stands twice; keep one"),
    # not one of the choices
    (
        "decoding: strucured",
        "overlay.yaml: decoding: 'strucured' is not one of structured, free; did you mean structured?",
    ),
    (
        "evaluation: {free: [train]}",
        (
            "overlay.yaml: evaluation.free[0]: 'train' is not one of validation, test, holdout, suites; "
            "choose validation or test or holdout or suites"
        ),
    ),
    (
        "experiment: ../mine",  # would leave results/
        (
            "overlay.yaml: experiment: '../mine' is not valid; "
            "give small letters, digits, points, dashes and underscores"
        ),
    ),
    # settings that do not fit together
    (
        "sft: {batch_size: 16, micro_batch_size: 5}",
        "overlay.yaml: sft.batch_size: 16 is not a multiple of micro_batch_size (5); take 20",
    ),
    (
        "launch: {processes: 6}",
        ("overlay.yaml: launch.processes: 16 prompts a step (grpo.batch_size) do not divide among 6 processes; take 4"),
    ),
    ("tracking: [wandb]", "overlay.yaml: tracking[0]: wandb is not installed; pip install wandb, or leave it out"),
    (
        "data: {train: 8}",
        "overlay.yaml: data.train: 8 rows do not fill a batch (grpo.batch_size is 16); give at least 16",
    ),
    ("data: {test: 3}", "overlay.yaml: data.test: 3 rows cannot hold each of 4 labels; give at least 4"),
    (
        "evaluation: {structured: [], free: []}",
        "overlay.yaml: evaluation.structured: nothing is evaluated; name a split, as in [test]",
    ),
    (
        "evaluation: {structured: [suites], free: []}",  # suites show how a decision is made, not how well
        "overlay.yaml: evaluation.structured: nothing is evaluated; name a split, as in [test]",
    ),
    # suites
    (
        "suites: {size: 0}",
        "overlay.yaml: suites.size: 0 is out of range; give a whole number, at least 1 and at most 10000",
    ),
    (
        "suites: {prevalence: 2}",  # meant as percent
        "overlay.yaml: suites.prevalence: 2 is out of range; give at least 0.001 and at most 0.5",
    ),
    (
        "suites: {kinds: [paraphrase]}",
        (
            "overlay.yaml: suites.kinds[0]: 'paraphrase' is not one of counterfactuals, paraphrases, decoys, "
            "conflicts, boundaries, field_order, prevalence; did you mean paraphrases?"
        ),
    ),
    ("suites: {kinds: []}", "overlay.yaml: suites.kinds: is empty; add more"),
    (
        "suites: [paraphrases]",
        (
            'overlay.yaml: suites: must be a mapping of keys to values, is ["paraphrases"]; '
            "write its keys below it, indented"
        ),
    ),
    ("suites: {sizes: 40}", "overlay.yaml: suites.sizes: unknown key; did you mean size?"),
    (
        "ruleset: parcels.yaml\nevaluation: {structured: [test, suites]}\nsuites: {kinds: [boundaries, decoys]}",
        "overlay.yaml: suites.kinds[1]: decoys cannot be made: parcels.yaml lists no decoys; leave it out",
    ),
    (
        "grpo: {use_vllm: true}",
        (
            "overlay.yaml: grpo.use_vllm: vLLM serves free decoding only, and decoding is structured; "
            "set decoding: free, or use_vllm: false"
        ),
    ),
    (
        "grpo: {reward: {wrong: 100}}",  # nothing to learn
        (
            "overlay.yaml: grpo.reward: does not pay more for a correct reply than for a wrong or invalid one; "
            "raise correct above the others"
        ),
    ),
    (
        "grpo: {reward: {near: {REJECT_RISK: {MANUAL_REVIEW: 100}}}}",  # nothing to lose by it
        (
            "overlay.yaml: grpo.reward.near.REJECT_RISK.MANUAL_REVIEW: pays 100 for a wrong label, and a correct one "
            "earns 100; pay less"
        ),
    ),
    (
        "conditions: {a: {method: grpo, with: {reward: {near: {REJECT: {MANUAL_REVIEW: 1}}}}}}",
        (
            "overlay.yaml: conditions.a.with.reward.near.REJECT: no decision is called 'REJECT'; "
            "did you mean REJECT_RISK?"
        ),
    ),
    (
        "grpo: {reward: {near: {REJECT_RISK: {REVIEW: 1}}}}",
        (
            "overlay.yaml: grpo.reward.near.REJECT_RISK.REVIEW: no decision is called 'REVIEW'; "
            "did you mean MANUAL_REVIEW?"
        ),
    ),
    (
        "grpo: {reward: {near: {REJECT_RISK: {REJECT_RISK: 1}}}}",
        "overlay.yaml: grpo.reward.near.REJECT_RISK.REJECT_RISK: is the right label itself; set reward.correct",
    ),
    (
        "grpo: {reward: {near: {REJECT_RISK: 25}}}",
        (
            "overlay.yaml: grpo.reward.near.REJECT_RISK: must be a mapping of keys to values, is 25; "
            "write its keys below it, indented"
        ),
    ),
    # the exact gradient
    (
        "grpo: {estimator: exactly}",
        "overlay.yaml: grpo.estimator: 'exactly' is not one of sampled, exact; did you mean exact?",
    ),
    (
        "decoding: free\ngrpo: {estimator: exact}",
        (
            "overlay.yaml: grpo.estimator: sums over all valid replies, and free decoding has no end of them; "
            "set decoding: structured, or estimator: sampled"
        ),
    ),
    (
        "conditions: {a: {method: grpo, with: {estimator: exact, beta: 0.1}}}",
        "overlay.yaml: conditions.a.with.estimator: exact has no KL penalty, and beta is 0.1; set beta: 0",
    ),
    # curricula and limits of time
    (
        "grpo: {curriculum: {by: hidden}}",
        (
            "overlay.yaml: grpo.curriculum.by: 'hidden' is not one of none, hidden_rule, probability; "
            "did you mean hidden_rule?"
        ),
    ),
    (
        "grpo: {curriculum: {by: probability, share: 50}}",  # meant as percent
        "overlay.yaml: grpo.curriculum.share: 50 is out of range; give more than 0 and at most 1",
    ),
    (
        "grpo: {epochs: 3, curriculum: {by: probability, epochs: 3}}",
        (
            "overlay.yaml: grpo.curriculum.epochs: 3 easy epochs of 3 leave none for the rest; "
            "give less than 3, or more grpo.epochs"
        ),
    ),
    (
        "conditions: {a: {method: grpo, with: {max_minutes: 3, curriculum: {by: hidden_rule}}}}",
        (
            "overlay.yaml: conditions.a.with.curriculum: is laid out over all epochs, and max_minutes may end training "
            "before the last; set max_minutes: 0, or by: none"
        ),
    ),
    (
        "sft: {max_minutes: -1}",
        "overlay.yaml: sft.max_minutes: -1 is out of range; give at least 0 and at most 100000",
    ),
    (
        "sft: {curriculum: {by: hidden_rule}}",  # of grpo alone
        (
            "overlay.yaml: sft.curriculum: unknown key; known: epochs, learning_rate, warmup_steps, batch_size, "
            "micro_batch_size, max_grad_norm, gradient_checkpointing, max_minutes, steps, train_rows, label_noise"
        ),
    ),
    # conditions
    (
        "conditions: {a: {method: gpro}}",
        "overlay.yaml: conditions.a.method: 'gpro' is not one of sft, grpo; did you mean grpo?",
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
        "config.yaml: conditions.sft_then_grpo.start_from: unknown condition 'sft'; known: baseline, grpo",
    ),
    (
        "conditions: {a: {start_from: sft}}",
        "overlay.yaml: conditions.a.method: is missing, and start_from is given; add method: sft or grpo",
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
        "overlay.yaml: conditions.a.with.micro_batch_size: 16 is not a multiple of micro_batch_size (3); take 18",
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
        "decoding: free\nevaluation: {structured: []}\nconditions: {a: {reference: constant}}",
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
        "conditions: {a: {method: sft, sweep: {train_rows: [32, 8]}}}",
        (
            "overlay.yaml: conditions.a.sweep.train_rows[1]: 8 rows do not fill a batch (sft.batch_size is 16); "
            "give at least 16"
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
        "conditions: {a: {method: sft, with: {steps: 100}}}",
        (
            "overlay.yaml: conditions.a.with.steps: 100 steps are 2.5 passes over 640 rows (40 steps each); "
            "take 80 or 120"
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
        "overlay.yaml: conditions.a.method: is missing, and sweep is given; add method: sft or grpo",
    ),
    (
        "conditions: {a: {method: sft, sweep: {epochs: [1, 2]}}, b: {method: grpo, start_from: a}}",
        (
            "overlay.yaml: conditions.b.start_from: unknown condition 'a'; "
            "known: a_1, a_2, baseline, grpo, sft, sft_then_grpo"
        ),
    ),
    # model and ruleset
    (
        "model: {source: hub, id: Qwen/Qwen3-14B, revision: main}",
        (
            "overlay.yaml: model.revision: 'main' does not pin a commit; "
            "give the commit's 40 hexadecimal digits, not a branch or tag"
        ),
    ),
    (
        "model: {source: hub, id: Qwen3-14B}",
        "overlay.yaml: model.id: 'Qwen3-14B' is no Hub id; write owner/name, as in Qwen/Qwen3-14B",
    ),
    (
        "model: {id: SmolLM2-135M}",
        "overlay.yaml: model.id: no embedded model is called 'SmolLM2-135M'; did you mean SmolLM2-135M-Instruct?",
    ),
    (
        "model: {source: path, id: nowhere}",
        "overlay.yaml: model.id: no such folder: nowhere; give the path of a model folder",
    ),
    (
        "model: {source: path, id: empty_folder}",
        "overlay.yaml: model.id: empty_folder holds no config.json; give a folder written by save_pretrained",
    ),
    (
        "ruleset: rulesets/fincrop.yaml",
        "overlay.yaml: ruleset: no such file: rulesets/fincrop.yaml; did you mean rulesets/fincorp.yaml?",
    ),
    # not a document at all
    ("", "overlay.yaml: is empty; write keys and values (key: value)"),
    ("- sft", "overlay.yaml: holds a list at the top; write keys and values (key: value)"),
    ("3: x", "overlay.yaml: line 1: the key 3 is read as a number; put it in quotes"),
    (
        "sft: {epochs: 3\nseeds: [1]",
        (
            "overlay.yaml: line 2: is not valid YAML (expected ',' or '}', but got ':'); "
            "check brackets, quotes and indentation"
        ),
    ),
    (
        "sft:\n\tepochs: 3",
        (
            "overlay.yaml: line 2: is not valid YAML (found character '\\t' that cannot start any token); "
            "check brackets, quotes and indentation"
        ),
    ),
    (
        "sft: !!python/object/apply:os.system ['true']",  # never constructed
        (
            "overlay.yaml: line 1: is not valid YAML (could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'); check brackets, quotes and indentation"
        ),
    ),
]


@pytest.mark.parametrize(("text", "line"), CONFIG, ids=[text[:50] for text, _ in CONFIG])
def test_bad_config(tmp_path, text, line):
    (tmp_path / "overlay.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_config, ["config.yaml", tmp_path / "overlay.yaml"]) == line


# Pieces of the parcels ruleset and what they become -> the line after the file's name.
RULESET = [
    # keys, types, ranges
    ("description:", "descripton:", "descripton: unknown key; did you mean description?"),
    (
        "kind: choice",
        "kind: choise",
        "features.contents.kind: 'choise' is not one of choice, number; did you mean choice?",
    ),
    (
        "    unit: km\n",
        "    units: km\n",
        "features.distance_km.units: unknown key; did you mean unit?",
    ),
    ("default: ROAD\n", "", "default: is missing; add it (The decision where no rule holds.)"),
    ("low: 1\n", "low: one\n", "features.distance_km.low: must be a number, is 'one'; give a number"),
    ("low: 1\n", "low: 1000\n", "features.distance_km.low: 1000 is not below high (900); swap them or widen the range"),
    ("high: 900", "high: 90000000", "features.distance_km.step: makes more than 1000000 values; take a larger step"),
    ("step: 0.5", "step: 0", "features.weight_kg.step: 0 is out of range; give more than 0"),
    ("    mean: 8\n", "", "features.weight_kg.mean: is missing; a normal distribution needs it"),
    ("mean: 8", "mean: 80", "features.weight_kg.mean: 80 is outside 0.5 to 30; move it inside"),
    ("[4, 2, 1, 3]", "[4, 2, 1]", "features.contents.weights: 3 weights for 4 choices; give one a choice"),
    ("glass, cheese", "yes, cheese", "features.contents.choices[1]: must be text, is true; put it in quotes"),
    ("glass, cheese", "books, cheese", "features.contents.choices: 'books' stands twice; keep one"),
    (
        "Goes {value} km",
        "Goes far",
        (
            "features.distance_km.text: 'Goes far' is not valid; "
            'give one line with {value} in it, as in "Team size {value}"'
        ),
    ),
    (
        "  distance_km:\n",
        "  label:\n",
        "features.label: is a column of the data set itself; give the feature another name",
    ),
    # rules and labels
    (
        "name: far_and_light",
        "name: keep_cool",
        "rules[1].name: 'keep_cool' stands twice; give each rule a name of its own",
    ),
    ("name: far_and_light", "name: default", "rules[1].name: `default` means that no rule fired; give another name"),
    ("label: AIR", "label: ROADSIDE", "default: ROAD is a prefix of ROADSIDE; rename one of them"),
    (
        "label: AIR",
        "label: BY AIR",
        "rules[1].label: 'BY AIR' is not valid; give letters, digits and underscores, a letter first, at most 64",
    ),
    ("default: ROAD", "default: [ROAD]", 'default: must be text, is ["ROAD"]; put it in quotes'),
    # predicates
    (
        "distance_km > 400 AND",
        "distance_km > AND",
        "rules[1].when: is not a valid SQL predicate (invalid expression (found unexpected token '<')); mend the SQL",
    ),
    ("distance_km > 400", "distance > 400", "rules[1].when: unknown feature distance; did you mean distance_km?"),
    (
        "contents = 'cheese'",
        'contents = \\"cheese\\"',
        "rules[0].when: unknown feature cheese; write the value in single quotes: 'cheese'",
    ),
    (
        "contents = 'cheese'",
        "contents = 'chese'",
        "rules[0].when: 'chese' is not a choice of contents; did you mean cheese?",
    ),
    (
        "contents = 'cheese'",
        "contents IN ('cheese', 'Books')",  # case counts
        "rules[0].when: 'Books' is not a choice of contents; did you mean books?",
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "1 = 1",
        "rules[1].when: names no feature; compare a feature, one of contents, weight_kg, distance_km",
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "distance_km + 1",
        "rules[1].when: gives Int64, not true or false; compare the feature with a value",
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "distance_km > AVG(distance_km)",
        "rules[1].when: depends on other applications (an aggregate); judge one application at a time",
    ),
    (
        "distance_km > 400",
        "distance_km > 'far'",
        (
            "rules[1].when: cannot be evaluated (cannot compare string with numeric type (i64)); "
            "compare numbers with numbers and texts with texts"
        ),
    ),
    (
        "distance_km > 400",
        "distance_km > 4000",  # beyond the feature's range
        "rules[1].when: rule far_and_light holds for no application; mend the predicate or widen the features' ranges",
    ),
    (
        "distance_km > 400 AND",
        "contents = 'cheese' AND",
        (
            "rules[1].when: rule far_and_light never decides: keep_cool above it already covers all it holds for; "
            "move the rule up, narrow those above, or remove it"
        ),
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "contents <> 'cheese'",
        "default: no application is left for it; narrow the rules",
    ),
    (
        "label: CHILLED, hidden: true",
        "label: ROAD, hidden: true",
        None,  # still changes AIR to ROAD where both hold: a valid hidden rule
    ),
    # prompts
    ("{labels}?", "{lables}?", "prompt.system: unknown placeholder {lables}; did you mean {labels}?"),
    (
        'user: "{features}"',
        'user: "Decide."',
        "prompt.user: must hold {features} once; write {features} where the application goes",
    ),
    (
        "How does",
        "{features} How does",
        "prompt.system: holds {features}; move it to prompt.user; system is shared by all",
    ),
    (
        ", says: light parcels that go far",
        "",
        "rules[1].says: is missing, and prompt.system shows {rules}; say the rule in plain words",
    ),
    (
        "How does",
        "Cheese is CHILLED. How does",
        (
            "prompt.system: gives the hidden rule keep_cool away (its value 'cheese'); "
            "reword it, or set hidden: false for that rule"
        ),
    ),
]


@pytest.mark.parametrize(("old", "new", "line"), RULESET, ids=[f"{old[:20]}-{new[:30]}" for old, new, _ in RULESET])
def test_bad_ruleset(tmp_path, old, new, line):
    text = PARCELS.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "bad.yaml").write_text(text.replace(old, new), encoding="utf-8")
    if line is None:
        load_ruleset("bad.yaml")
    else:
        assert the_line(load_ruleset, "bad.yaml") == f"bad.yaml: {line}"


# Entries of `paraphrases` or `decoys` -> the line after the file's name.
WORDINGS = [
    (
        "paraphrases: [{feature: content, value: cheese, text: gouda}]",
        "paraphrases[0].feature: unknown feature content; did you mean contents?",
    ),
    (
        "paraphrases: [{feature: weight_kg, value: cheese, text: gouda}]",
        "paraphrases[0].feature: weight_kg is a number, and words stand for a choice; name a choice feature",
    ),
    (
        "paraphrases: [{feature: contents, value: chese, text: gouda}]",
        "paraphrases[0].value: 'chese' is not a choice of contents; did you mean cheese?",
    ),
    (
        "paraphrases: [{feature: contents, value: toys, text: a doll}]",
        "paraphrases[0].value: 'toys' does not trigger a hidden rule; name a value that does, or move it to decoys",
    ),
    (
        "decoys: [{feature: contents, value: toys, text: a doll}, {feature: contents, value: cheese, text: gouda}]",
        "decoys[1].value: 'cheese' triggers a hidden rule; name a value that does not, or move it to paraphrases",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: Cheese}]",
        "paraphrases[0].text: 'Cheese' occurs in training (features.contents.choices); use words that no prompt has",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: this parcel}]",
        "paraphrases[0].text: 'this parcel' occurs in training (prompt.system); use words that no prompt has",
    ),
    (
        "decoys: [{feature: contents, value: toys, text: far}]",
        "decoys[0].text: 'far' occurs in training (rules[1].says); use words that no prompt has",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: gouda}]\n"
        "decoys: [{feature: contents, value: toys, text: Gouda}]",
        "decoys[0].text: 'Gouda' stands twice; keep one",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese}]",
        (
            "paraphrases[0].text: is missing; "
            "add it (text on one line without blanks around it, shown instead of the value)"
        ),
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: ' gouda'}]",
        (
            "paraphrases[0].text: ' gouda' is not valid; "
            "give text on one line without blanks around it, shown instead of the value"
        ),
    ),
    (
        "decoys: [{feature: contents, value: toys, txt: a doll}]",
        "decoys[0].txt: unknown key; did you mean text?",
    ),
]


@pytest.mark.parametrize(("text", "line"), WORDINGS, ids=[line[:60] for _, line in WORDINGS])
def test_bad_paraphrases_and_decoys(tmp_path, text, line):
    (tmp_path / "bad.yaml").write_text(PARCELS.read_text(encoding="utf-8") + text, encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == f"bad.yaml: {line}"


def test_suites_that_are_not_asked_for_need_no_wordings(tmp_path):
    (tmp_path / "overlay.yaml").write_text("ruleset: parcels.yaml", encoding="utf-8")
    load_config(["config.yaml", "overlay.yaml"])  # which names kinds that parcels.yaml has no words for


def test_an_oracle_needs_every_rule_in_words(tmp_path):
    text = PARCELS.read_text(encoding="utf-8").replace(", says: dairy travels cold", "")
    (tmp_path / "mute.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "overlay.yaml").write_text("ruleset: mute.yaml\nconditions: {a: {prompt: oracle}}", encoding="utf-8")
    assert the_line(load_config, ["config.yaml", "overlay.yaml"]) == (
        "mute.yaml: rules[0].says: is missing, and the prompt of a tells every rule; say the rule in plain words"
    )


def test_no_rules(tmp_path):
    head, _, tail = PARCELS.read_text(encoding="utf-8").partition("rules:\n")
    (tmp_path / "bad.yaml").write_text(f"{head}rules: []\n{tail[tail.index('default:') :]}", encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == "bad.yaml: rules: is empty; add more"


def test_one_label(tmp_path):
    text = (
        PARCELS.read_text(encoding="utf-8")
        .replace("label: CHILLED", "label: ROAD")
        .replace("label: AIR", "label: ROAD")
    )
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == "bad.yaml: rules: every application is ROAD; give at least two labels"


def test_empty_and_missing_ruleset(tmp_path):
    (tmp_path / "bad.yaml").write_text("", encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == "bad.yaml: is empty; write keys and values (key: value)"
    assert the_line(load_ruleset, "none.yaml") == "none.yaml: no such file; check the path"


def test_a_hidden_rule_that_changes_nothing(tmp_path):
    text = PARCELS.read_text(encoding="utf-8").replace("label: CHILLED", "label: ROAD")
    text = text.replace("distance_km > 400", "contents <> 'cheese' AND distance_km > 400")
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == (
        "bad.yaml: rules[0].hidden: the hidden rules change no decision: there is nothing to learn from them; "
        "give the hidden rule a label of its own"
    )


def test_a_truncated_split(tmp_path):
    ruleset = load_ruleset(PARCELS)
    frame = draw_splits(ruleset, dict.fromkeys(("train", "validation", "test", "holdout"), 9), seed=0)["test"]
    frame.write_parquet("test.parquet")
    (tmp_path / "test.parquet").write_bytes((tmp_path / "test.parquet").read_bytes()[:200])
    line = the_line(read_split, "test.parquet", ruleset)
    assert line.startswith("test.parquet: is not a readable parquet file (")
    assert line.endswith("); delete it and run again to rebuild it")


def test_a_bad_ruleset_stops_the_config_check(tmp_path):
    text = PARCELS.read_text(encoding="utf-8").replace("distance_km > 400", "distance > 400")
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "overlay.yaml").write_text("ruleset: bad.yaml", encoding="utf-8")
    line = "bad.yaml: rules[1].when: unknown feature distance; did you mean distance_km?"
    assert the_line(load_config, ["config.yaml", "overlay.yaml"]) == line


def test_the_last_file_that_has_the_key_is_named(tmp_path):
    (tmp_path / "one.yaml").write_text("sft: {epochs: 0}", encoding="utf-8")
    (tmp_path / "two.yaml").write_text("sft: {epochs: -1}", encoding="utf-8")
    files = ["config.yaml", "one.yaml", "two.yaml"]
    assert the_line(load_config, files).startswith("two.yaml: sft.epochs: -1 is out of range")


def test_a_setting_from_the_command_line_is_named_as_such():
    assert the_line(check_config, {"sedes": 1}, ["config.yaml"]) == "--config: sedes: unknown key; did you mean seeds?"
