"""Estimates from a made-up table of times, by hand; budgets that refuse; checks of disk, memory and token."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from shapes import config_of, qwen3_14b

from hidden_rule.core.errors import UserError
from hidden_rule.planning import checks, model_facts
from hidden_rule.planning.derived_rates import Planned, derived_rates
from hidden_rule.planning.estimate import JOB_S, START_S, Estimate, Place, estimate, preparation_seconds, work_seconds
from hidden_rule.planning.experiment import Experiment
from hidden_rule.planning.findings import find
from hidden_rule.planning.jobs import planned_jobs
from hidden_rule.planning.machine import Machine, described_machine
from hidden_rule.planning.memory import MemoryNeed, Model
from hidden_rule.planning.model_facts import ModelFacts
from hidden_rule.planning.prompt_sizes import PromptSizes
from hidden_rule.planning.rates import Rates, Span
from hidden_rule.planning.storage import DiskNeed, disk_need
from hidden_rule.planning.workload import Work, kept_rows, kinds_of, prompts_of, works_of

CPU = Machine((), 16 * 10**9, 12 * 10**9, 4, 10**12, cpu_bfloat16=True)
HUB = {"source": "hub", "id": "owner/model-7B", "revision": "0" * 40}


def exact(value: float) -> Span:
    return Span(value, value, value)


def rates_of(config: dict, step: float = 2.0) -> Rates:
    """Steps of so many seconds; a row of validation takes 0.1 s, a scored one 0.01 s, a generated one 0.5 s."""
    kinds = [kind.name for kind in kinds_of(config, set(config["conditions"]))]
    prompts = prompts_of(config)
    return Rates(
        load=exact(10),
        write=exact(1),
        step=dict.fromkeys(kinds, Span(step, step / 2, step * 2)),
        validated=dict.fromkeys(kinds, exact(0.1)),
        structured=dict.fromkeys(prompts, exact(0.01)),
        free=dict.fromkeys(prompts, exact(0.5)),
        origin="a test",
    )


def works_by_name(config: dict) -> dict[tuple[str, str], Work]:
    """The works of an experiment's jobs, by rule, and condition or cases."""
    found = works_of(config, planned_jobs(config))
    return {(job.rule, job.run.condition if job.run else job.cases): work for job, work in found.items()}


def test_seconds_of_a_job_by_hand(tmp_path):
    config = config_of(tmp_path)
    works = works_by_name(config)
    rates = rates_of(config)
    assert work_seconds(works["train", "sft"], rates).value == 10 + 640 * 2 + 800 * 0.1 + 1
    assert work_seconds(works["train", "sft"], rates).low == 10 + 640 * 1 + 800 * 0.1 + 1
    assert work_seconds(works["evaluate", "grpo"], rates).value == pytest.approx(10 + 1160 * 0.01 + 160 * 0.5)


def test_what_frozen_layers_make_of_a_row_is_computed_once(tmp_path):
    config = config_of(tmp_path, "experiment: planned\nlora: {last_layers: 10}\n")
    works = works_by_name(config)
    assert works["train", "sft"].kept == works["evaluate", "sft"].kept == 0
    rates = replace(rates_of(config), kept=exact(0.02))
    assert work_seconds(works["keep_states", "training"], rates).value == 10 + (640 + 160) * 0.02
    assert work_seconds(works["train", "sft"], rates).value == 10 + 640 * 2 + 800 * 0.1 + 1
    rates = replace(rates, kept=exact(0.004))
    assert work_seconds(works["keep_states", "evaluated"], rates).value == pytest.approx(10 + 1160 * 0.004)
    assert work_seconds(works["evaluate", "sft"], rates).value == pytest.approx(10 + 1160 * 0.006 + 160 * 0.5)
    assert rates.structured["null"].less(exact(0.02)).value == pytest.approx(0.001)  # of what was measured apart
    assert Rates.from_json(json.loads(json.dumps(rates.as_json())), "x") == rates
    free = config_of(tmp_path, "experiment: planned\nlora: {last_layers: 10}\ndecoding: free\n")
    assert kept_rows(free, "sft") == 800 and kept_rows(free, "grpo") == 0  # whose replies are new each time
    whole = config_of(tmp_path, "experiment: planned\nlora: {last_layers: 0}\n")
    assert kept_rows(whole, "sft") == 0 and ("keep_states", "training") not in works_by_name(whole)


def test_a_limit_of_minutes_ends_a_training(tmp_path):
    config = config_of(tmp_path)
    (kind,) = (kind for kind in kinds_of(config, {"sft"}))
    work = Work(kind, steps=640, validated=800, max_minutes=3)
    assert work_seconds(work, rates_of(config)) == Span(191, 191, 191)


def test_a_whole_experiment_by_hand(tmp_path):
    config = config_of(tmp_path)
    jobs, place = planned_jobs(config), Place(gpus_each=2, at_once=1)
    whole = estimate(jobs, works_of(config, jobs), rates_of(config), lambda job: exact(3), place)
    train = 3 * (10 + 1 + JOB_S.value) + (640 + 240 + 240) * 2 + (5 + 4 + 4) * 160 * 0.1
    evaluate = 4 * (10 + JOB_S.value + 11.6 + 80)
    states = 2 * (10 + JOB_S.value)
    others = 3 * (len(jobs) - 3 - 4 - 2)
    assert whole.hours.value == pytest.approx((train + evaluate + states + others + START_S.value) / 3600)
    rules = {of.rule: of for of in whole.rules}
    assert rules["train"].jobs == 3 and rules["train"].hours.value == pytest.approx(train / 3600)
    assert rules["train"].gpu_hours.value == pytest.approx(2 * train / 3600)
    assert rules["evaluate"].seconds_each.value == pytest.approx(evaluate / 4)
    assert rules["build_dataset"].gpu_hours.value == 0
    assert whole.gpu_hours.value == pytest.approx(
        2 * (train + evaluate + states + 3 + 3) / 3600
    )  # both jobs of the model's files
    assert whole.money is None


def test_jobs_side_by_side_share_the_time(tmp_path):
    config = config_of(tmp_path, "experiment: planned\n", "experiments/seeds.yaml")
    jobs = [job for job in planned_jobs(config) if job.rule == "train"]
    works, rates = works_of(config, jobs), rates_of(config)
    one = estimate(jobs, works, rates, None, Place(0, 1)).hours.value * 3600 - START_S.value
    five = estimate(jobs, works, rates, None, Place(0, 5)).hours.value * 3600 - START_S.value
    assert five == pytest.approx(one / 5)
    longest = work_seconds(works[next(j for j in jobs if j.run.condition == "sft")], rates) + JOB_S
    many = estimate(jobs, works, rates, None, Place(0, 15)).hours.value * 3600 - START_S.value
    assert many == pytest.approx(longest.value)  # no experiment ends before its longest job


BUDGET = {"hours": 10.0, "gpu_hours": 5.0, "money": 20.0}
SPENT = Estimate((), Span(12, 8, 16), price_per_hour=2.0)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({}, None),
        ({"hours": 8.0}, None),  # the low end is not over it
        ({"hours": 7.9}, "budget.hours: the estimate, 8.00 to 16.0 hours, exceeds 7.9"),
        ({"money": 16.0}, None),
        ({"money": 15.0}, "budget.money: the estimate, 16.0 to 32.0, exceeds 15"),
        ({"gpu_hours": 0.1}, None),  # no GPU is held
    ],
)
def test_a_budget_refuses_by_the_low_end(budget, said):
    if said is None:
        assert checks.check_budget({"budget": budget}, SPENT) is None
    else:
        with pytest.raises(UserError) as error:
            checks.check_budget({"budget": budget}, SPENT)
        assert said in str(error.value) and "make preflight" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("budget: {}", "budget"),
        ("budget: {hours: 0}", "budget.hours"),
        ("budget: {hours: -1}", "budget.hours"),
        ("budget: {hours: soon}", "budget.hours"),
        ("budget: {hours: .inf}", "budget.hours"),
        ("budget: {hour: 3}", "budget.hour: unknown key; did you mean hours"),
        ("budget: 3", "budget"),
        ("budget: {money: 3}", "price_per_hour: is missing, and budget.money is given"),
    ],
)
def test_no_other_budget_is_taken(tmp_path, text, said):
    with pytest.raises(UserError) as error:
        config_of(tmp_path, f"experiment: planned\n{text}\n")
    assert said in str(error.value)


def test_a_budget_of_money_with_a_price(tmp_path):
    config = config_of(tmp_path, "experiment: planned\nprice_per_hour: 2\nbudget: {money: 3}\n")
    assert config["budget"] == {"money": 3}


def test_derived_times_of_the_14b_steps(tmp_path):
    """The published seconds of steps (docs/gpus.md) are met within the range that is stated."""
    config = config_of(tmp_path, "experiment: planned\n", "experiments/qwen3-14b.yaml")
    machine = described_machine('{"gpus": 1, "gpu": "H200", "gpu_gb": 141}')
    model = Model(qwen3_14b(), 20_971_520, 2)
    kinds = kinds_of(config, {"sft", "grpo"})
    for free, seconds in ((True, {"sft": 0.71, "grpo": 7.86}), (False, {"grpo": 2.76})):
        planned = Planned(model, PromptSizes(76, 57, 5), machine, free)
        rates = derived_rates(planned, kinds, ["null"], config["evaluation"])
        for kind in kinds:
            if kind.method in seconds:
                step = rates.step[kind.name]
                assert step.low <= seconds[kind.method] <= step.high, kind.method
    assert rates.step[kinds[0].name].high == pytest.approx(4 * rates.step[kinds[0].name].low)


def test_disk_by_hand(tmp_path):
    config = config_of(tmp_path)
    facts = ModelFacts(qwen3_14b(), None)
    need = disk_need(config, facts, lora=1_000_000, jobs=planned_jobs(config), answered=10_000, at_once=2)
    assert need.adapters == 3 * (4e6 + 12e6)
    assert need.checkpoints == 2 * 3 * (12e6 + 12e6)
    assert need.tables == 25e6 + 600_000
    assert need.model == qwen3_14b().bytes
    here = ModelFacts(qwen3_14b(), tmp_path)
    assert disk_need(config, here, 1_000_000, planned_jobs(config), 0, 1).model == 0
    never = {**config, "checkpoint": {"steps": 0, "minutes": 0}}
    assert disk_need(never, here, 1_000_000, planned_jobs(config), 0, 1).checkpoints == 0


def test_a_full_disk_refuses(monkeypatch, tmp_path):
    real = os.statvfs

    def nearly_full(path):
        return SimpleNamespace(f_bavail=10, f_frsize=10**6, f_bfree=0) if Path(path) == tmp_path else real(path)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    need = DiskNeed(model=0, adapters=8e6, checkpoints=0, tables=1e6)
    assert "9 MB for results" in checks.check_disk(need, tmp_path / "results", tmp_path / "models", CPU)
    need = DiskNeed(model=5e6, adapters=8e6, checkpoints=0, tables=1e6)  # both on one disk
    with pytest.raises(UserError, match=r"14 MB are needed .*10 MB are free; free some space"):
        checks.check_disk(need, tmp_path / "results", tmp_path / "models", CPU)


def test_a_described_disk_refuses():
    machine = described_machine('{"gpus": 0, "disk_gb": 1}')
    with pytest.raises(UserError, match=r"MACHINE: disk_gb: needs 2\.0 GB for results"):
        checks.check_disk(DiskNeed(0, 2e9, 0, 0), Path("results"), Path("results"), machine)


@pytest.mark.parametrize(
    ("need", "said"),
    [
        (MemoryNeed(1e9, 1e6, 1e9, 1e9), "needs some 3.0 GB (1.0 GB weights, 1.0 GB activations) of 16.0 GB"),
        (MemoryNeed(10e9, 1e6, 1e9, 2e9), "more than is free now (12.0 GB)"),
        (MemoryNeed(10e9, 1e6, 9e9, 2e9), "more than the 16.0 GB that there are: lower micro_batch_size"),
    ],
)
def test_memory_that_may_do_is_said(need, said):
    assert said in checks.check_memory(need, "a training", CPU)


def test_weights_that_do_not_fit_refuse():
    need = MemoryNeed(28e9, 0.3e9, 1e9, 1e9)
    with pytest.raises(UserError, match=r"need 28\.3 GB of memory, and the machine has 16\.0 GB"):
        checks.check_memory(need, "a training", CPU)
    with pytest.raises(UserError, match=r"need 28\.3 GB of memory, more than a GPU of 24 GB has"):
        checks.check_memory(need, "a training", described_machine('{"gpu": "A10", "gpu_gb": 24}'))


def test_more_processes_than_gpus_refuse(tmp_path):
    config = config_of(tmp_path, "experiment: planned\nlaunch: {processes: 4}\n")
    with pytest.raises(UserError, match=r"launch\.processes: 4 processes need as many GPUs, and there are 2; take 2"):
        checks.check_processes(config, described_machine('{"gpus": 2, "gpu": "A100", "gpu_gb": 80}'))
    checks.check_processes(config, CPU)


# --- models on the Hub ------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that answers with what the test says; nothing is in the cache."""
    import huggingface_hub

    def absent(*args, **kwargs):
        raise OSError("not here")

    for name in model_facts.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: answers.token)
    answers = SimpleNamespace(token=None, gated=False, shape=qwen3_14b())
    monkeypatch.setattr(model_facts, "hub_metadata", lambda name, revision: (answers.shape, answers.gated))
    return answers


def test_a_gated_model_without_a_token_refuses(hub):
    hub.gated, hub.shape = True, None
    facts = model_facts.model_facts(HUB)
    assert facts.gated and facts.shape.parameters == 7 * 10**9  # by its name
    with pytest.raises(UserError, match=r"model\.id: owner/model-7B is gated on the Hub, and no token is set"):
        checks.check_token(HUB, facts)
    hub.token = "hf_secret"
    assert checks.check_token(HUB, facts) == "the model is gated; a token is set"


def test_the_hubs_headers_are_used(hub):
    facts = model_facts.model_facts(HUB)
    assert facts.shape.parameters == qwen3_14b().parameters and facts.folder is None
    assert checks.check_token(HUB, facts) == "the model is not gated; a token is not set"


def test_offline_the_hub_is_not_asked(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(model_facts, "hub_metadata", lambda name, revision: pytest.fail("the Hub was asked"))
    facts = model_facts.model_facts(HUB)
    assert facts.gated is None and "HF_HUB_OFFLINE forbids" in facts.note and facts.shape.layers > 10


def test_a_hub_that_does_not_answer_is_said(hub, monkeypatch):
    def fail(name, revision):
        raise RuntimeError("Name or service not known\nat line 3")

    monkeypatch.setattr(model_facts, "hub_metadata", fail)
    facts = model_facts.model_facts(HUB)
    assert facts.note == "is not in the Hub's cache, and the Hub gives no answer (Name or service not known)"


def test_a_secret_is_never_shown(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "free_bytes", lambda path: 10**12)
    hub.token = "hf_secret"
    config = {**config_of(tmp_path), "model": {**HUB, "dtype": "auto", "chat_template_kwargs": {}}}
    found = find(Experiment.of(config), CPU, Place())
    assert not any("hf_secret" in text for _, text in found.lines)


def test_a_missing_folder_is_one_line():
    with pytest.raises(UserError, match=r"no/such/model: is no folder"):
        model_facts.model_facts({"source": "path", "id": "no/such/model", "revision": ""})


def test_fetching_takes_longer_the_larger():
    rates = SimpleNamespace(load=exact(10))
    small, large = (preparation_seconds("fetch_model", rates, n, False) for n in (1e9, 28e9))
    assert (small.low, small.high) == (10, 100) and large.value == pytest.approx(28 * small.value)
