"""Jobs by rule, counted from the config: by hand, and as Snakemake counts them."""

import re

import pytest
from shapes import config_of

from hidden_rule.planning.jobs import counts, planned_jobs
from hidden_rule.planning.workload import kind_of, kinds_of, prompts_of, works_of

LAST = {  # one of each, whatever the experiment
    *("find_rules", "extract_rules", "write_cases", "record_run", "render_charts", "write_report", "write_manifest"),
    *("prepare_model", "inspect_model", "build_dataset", "judge_collapse", "summarize"),
}
# By hand: 4 conditions with the model of which 3 are trained, 3 classifiers; RL's first groups of 2 conditions
DEFAULT = {"train": 3, "keep_states": 2, "evaluate": 4, "fit_reference": 3, "assess_feasibility": 2}
# 5 seeds, and suites
SEEDS = {
    "train": 15,
    "keep_states": 2,
    "evaluate": 20,
    "fit_reference": 15,
    "assess_feasibility": 10,
    "build_suites": 1,
}
# a sweep of 3 sizes, free decoding, no classifier, side effects: GRPO and its 3 sizes are RL
SWEPT = """
experiment: planned
decoding: free
side_effects: true
conditions:
  sft_then_grpo: false
  constant: false
  logistic: false
  boosting: false
  few: {method: grpo, sweep: {train_rows: [40, 80, 160]}}
  informed: {prompt: oracle}
comparisons: {against: sft}
"""
FREE = {
    **{"train": 5, "keep_states": 2, "evaluate": 7, "assess_feasibility": 4, "sample_start": 4, "vary_training": 3},
    **{"measure_side_effects": 5, "summarize_side_effects": 1, "measure_supervision": 1},
}


def expected(own: dict[str, int]) -> dict[str, int]:
    return {**dict.fromkeys(LAST, 1), **own}


@pytest.mark.parametrize(
    ("text", "files", "own"),
    [
        pytest.param("", [], DEFAULT, id="default"),
        pytest.param("", ["experiments/seeds.yaml"], SEEDS, id="seeds"),
        pytest.param(SWEPT, [], FREE, id="sweep, free decoding, side effects"),
    ],
)
def test_counts_by_hand(tmp_path, text, files, own):
    config = config_of(tmp_path, text or "purpose: comparison\n", *files)
    assert counts(planned_jobs(config)) == expected(own)


def test_a_hub_model_is_fetched(tmp_path):
    config = config_of(tmp_path, "experiment: planned\n", "experiments/qwen3-14b.yaml")
    assert counts(planned_jobs(config))["fetch_model"] == 1


def test_work_of_the_default_experiment(tmp_path):
    config = config_of(tmp_path)
    found = works_of(config, planned_jobs(config))
    works = {(job.rule, job.run.condition): work for job, work in found.items() if job.run}
    kept = {job.cases: work.kept for job, work in found.items() if job.rule == "keep_states"}
    assert kept == {"training": 640 + 160, "evaluated": 160 + 1000}
    assert works["train", "sft"].steps == 4 * 640 // 4
    assert works["train", "sft"].validated == (4 + 1) * 160
    assert works["train", "grpo"].steps == works["train", "sft_then_grpo"].steps == 3 * 640 // 8
    assert works["train", "grpo"].patience == 50
    for condition in ("baseline", "sft", "grpo", "sft_then_grpo"):
        assert works["evaluate", condition].structured == works["evaluate", condition].known == 160 + 1000
        assert works["evaluate", condition].free == 160


def test_suites_are_asked_too(tmp_path):
    config = config_of(
        tmp_path, "experiment: planned\nsuites: {size: 2, kinds: [boundaries]}\n", "experiments/seeds.yaml"
    )
    works = works_of(config, planned_jobs(config))
    rows = {work.structured - 1160 for job, work in works.items() if job.rule == "evaluate"}
    assert len(rows) == 1 and 4 <= rows.pop() <= 6  # two families of two or three


def test_conditions_that_differ_in_no_step_share_a_kind(tmp_path):
    config = config_of(tmp_path, SWEPT)
    kinds = [kind.condition for kind in kinds_of(config, set(config["conditions"]))]
    assert kinds == ["few_40", "sft"]  # grpo and its sizes are one
    assert prompts_of(config) == ["null", '"oracle"']


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 16}, {"gradient_checkpointing": True}, {"group_size": 4}, {"beta": 0.1}, {"estimator": "exact"}],
)
def test_settings_that_change_a_step_make_a_kind(tmp_path, change):
    config = config_of(tmp_path)
    base = {"method": "grpo", "settings": config["grpo"]}
    other = {"method": "grpo", "settings": {**config["grpo"], **change}}
    assert kind_of(config, "grpo", base).name != kind_of(config, "grpo", other).name


@pytest.mark.parametrize("change", [{"learning_rate": 1e-5}, {"epochs": 9}, {"entropy_coef": 0.0}, {"train_rows": 80}])
def test_settings_that_change_no_step_do_not(tmp_path, change):
    config = config_of(tmp_path)
    base = {"method": "grpo", "settings": config["grpo"]}
    other = {"method": "grpo", "settings": {**config["grpo"], **change}}
    assert kind_of(config, "grpo", base).name == kind_of(config, "grpo", other).name


def test_rft_and_dpo_sample_before_they_train(tmp_path):
    config = config_of(tmp_path, "experiment: planned\n", "experiments/methods.yaml")
    works = {
        job.run.condition: work for job, work in works_of(config, planned_jobs(config)).items() if job.rule == "train"
    }
    assert works["rft"].structured == 4 * 640  # a round an epoch, all rows scored
    assert works["dpo"].structured == 640  # the reference
    assert works["sft_then_dpo"].structured == 640 + 640  # and the start's errors
    assert works["sft"].structured == works["rloo"].structured == 0


@pytest.mark.slow
def test_counts_are_those_of_snakemake(tmp_path_factory):
    from conftest import Checkout

    checkout = Checkout(tmp_path_factory.mktemp("counted"))
    overlay = checkout.folder / "overlay.yaml"
    overlay.write_text(SWEPT, encoding="utf-8")
    done = checkout.snakemake("-n", "--configfile", "overlay.yaml")
    stats = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", done.stdout + done.stderr, re.DOTALL)
    found = dict(line.split() for line in stats[1].splitlines())
    assert {rule: int(n) for rule, n in found.items() if rule != "all"} == expected(FREE)
