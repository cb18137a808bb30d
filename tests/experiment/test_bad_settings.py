"""A wrong setting stops with one line that names the file, the key, what is wrong and what would be right."""

import pytest

from bad_inputs import PARCELS, breakable, the_line  # noqa: F401 - a fixture
from hidden_rule.experiment.config import check_config, load_config

pytestmark = pytest.mark.usefixtures("breakable")

# An overlay of the default config -> the line.
CONFIG = [
    # misspelled keys, at every depth
    ("sft: {learning_rat: 1.0e-3}", "overlay.yaml: sft.learning_rat: unknown key; did you mean learning_rate?"),
    ("sedes: [1]", "overlay.yaml: sedes: unknown key; did you mean seeds?"),
    (
        "grpo: {reward: {corect: 1}}",
        "overlay.yaml: grpo.reward.corect: unknown key; did you mean correct?",
    ),
    (
        "data: {zzz: 1}",
        "overlay.yaml: data.zzz: unknown key; known: source, seed, train, test, validation, holdout, path, label, "
        "labels, id, text, features, group, time, split, balance, ruleset, prompt, cut_texts, encoding, separator, "
        "decimal",
    ),
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
    ("seeds: 3", "overlay.yaml: seeds: must be a list, is 3; write [3]"),
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
        "charts: {width: 56}",
        "overlay.yaml: charts.width: 56 is out of range; give a whole number, at least 200 and at most 4000",
    ),
    ("lora: {target_modules: []}", "overlay.yaml: lora.target_modules: is empty; add more"),
    (
        "lora: {target_modules: [q_proj, lm_head]}",
        "overlay.yaml: lora.target_modules[1]: 'lm_head' is the output layer, which stays as it is: its own weights "
        "give the policy's probabilities; leave it out",
    ),
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
            "give small letters, digits, points, dashes and underscores, and no word that a system keeps for itself "
            "(con)"
        ),
    ),
    # settings that do not fit together
    (
        "sft: {batch_size: 16, micro_batch_size: 5}",
        "overlay.yaml: sft.batch_size: 16 is not a multiple of micro_batch_size (5); take 20",
    ),
    (
        "launch: {processes: 6}",
        ("overlay.yaml: launch.processes: 8 prompts a step (grpo.batch_size) do not divide among 6 processes; take 4"),
    ),
    ("tracking: [wandb]", "overlay.yaml: tracking[0]: wandb is not installed; pip install wandb, or leave it out"),
    (
        "data: {train: 7}",
        "overlay.yaml: data.train: 7 rows do not fill a batch (grpo.batch_size is 8); give at least 8",
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
            "indent with blanks, not with tabs"
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
