"""The command and the check before a run: what they say, what they refuse, and real steps that are timed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from shapes import config_of

from conftest import CORES, ROOT, Checkout
from hidden_rule.core.compat_snakemake import NeededJob
from hidden_rule.core.errors import UserError
from hidden_rule.planning import checks, gate, measured_rates, preflight, probe
from hidden_rule.planning.gate import PlannedRun, check_run
from hidden_rule.planning.machine import Gpu, Machine
from hidden_rule.planning.measured_rates import Effort, Trial, kept_rates, of_kind, rates_of, reason_of, typical
from hidden_rule.planning.rates import Rates, Span
from hidden_rule.planning.workload import kinds_of, prompts_of

SMALL = Machine((), 8 * 10**9, 8 * 10**9, 2, 10**12, cpu_bfloat16=True)
H100 = '{"gpus": 1, "gpu": "H100", "gpu_gb": 80}'
JOBS = [NeededJob("train", {"condition": "sft", "seed": "0"}, 2), NeededJob("all", {}, 1)]


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A folder with the repository's settings and no results, as the working directory; a Hub that is not asked."""
    for name in ("config.yaml", "experiments", "rulesets"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HIDDEN_RULE_SETTING_FILES", "{}")
    monkeypatch.setattr(preflight, "this_machine", lambda results: SMALL)
    monkeypatch.setattr(checks, "free_bytes", lambda path: 10**12)
    return tmp_path


def test_a_14b_run_is_refused_on_a_small_machine(here, capsys):
    assert preflight.main(["--config", "experiments/qwen3-14b.yaml"]) == 1
    said = capsys.readouterr()
    assert said.err == (
        "error: experiments/qwen3-14b.yaml: model.id: weights and adapter alone need 28.3 GB of memory, and the "
        "machine has 8.0 GB; take a smaller model or a larger machine; docs/planning.md\n"
    )
    assert "by the size in its name" in said.out and "whole experiment" not in said.out


def test_a_14b_run_is_planned_for_a_machine_that_is_described(here, capsys):
    assert preflight.main(["--config", "experiments/qwen3-14b.yaml", "--machine", H100]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = {line.split()[0]: line for line in said.out.splitlines() if line}
    assert lines["train"].split()[1] == "3" and lines["evaluate"].split()[1] == "4"
    assert "GPU-hours" in lines["whole"] and "a factor of 2" in lines["times:"]
    assert "described, not this one" in lines["machine"] and "write speed" not in said.out


def test_a_price_becomes_money(here, capsys):
    (here / "priced.yaml").write_text("experiment: priced\nprice_per_hour: 2.5\n", encoding="utf-8")
    assert preflight.main(["--config", "priced.yaml", "--measure", "no"]) == 0
    assert " at 2.5 an hour" in capsys.readouterr().out


def test_a_budget_is_refused_with_its_file(here, capsys):
    (here / "cheap.yaml").write_text("experiment: cheap\nbudget: {hours: 0.01}\n", encoding="utf-8")
    assert preflight.main(["--config", "cheap.yaml", "--measure", "no"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: cheap.yaml: budget.hours: the estimate, ") and said.err.count("\n") == 1
    assert "whole experiment" in said.out  # which shows where the time goes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0"], "make preflight: JOBS: is '0'; give a whole number of 1 to 1000"),
        (["--jobs", "two"], "make preflight: JOBS: is 'two'"),
        (["--machine", "{gpus: x}"], 'MACHINE: gpus: is "x"'),
        (["--config", "experiments/none.yaml"], "experiments/none.yaml: no such file"),
    ],
)
def test_bad_words_are_one_line(here, words, said):
    with pytest.raises(UserError) as error:
        preflight.main(words)
    assert str(error.value).startswith(said)


# --- the check before a run -------------------------------------------------------------------------------------------


@pytest.fixture
def checked(here, monkeypatch):
    """The check of a run on a small machine, on which nothing may be measured."""
    monkeypatch.setattr("hidden_rule.planning.machine.this_machine", lambda results: SMALL)
    monkeypatch.setattr(measured_rates, "run_probes", lambda place, n: pytest.fail("steps were measured"))
    return check_run


def test_a_run_that_trains_nothing_is_not_looked_at(checked, tmp_path):
    config = config_of(tmp_path, "experiment: planned\n", "experiments/qwen3-14b.yaml")
    assert checked(config, PlannedRun([NeededJob("evaluate", {"condition": "sft", "seed": "0"}, 2)])) is None


def test_what_a_machine_lacks_ends_a_run(checked, tmp_path):
    config = config_of(tmp_path, "experiment: planned\n", "experiments/qwen3-14b.yaml")
    with pytest.raises(UserError, match=r"weights and adapter alone need 28\.3 GB"):
        checked(config, PlannedRun(JOBS))
    assert checked(config, PlannedRun(JOBS, elsewhere=True)) is None  # where jobs run there may be more


def test_a_run_without_budget_measures_nothing_and_says_nothing(checked, tmp_path, capsys):
    assert checked(config_of(tmp_path), PlannedRun(JOBS)) is None
    assert capsys.readouterr().err == ""


def test_a_budget_elsewhere_is_not_checked_and_that_is_said(checked, tmp_path, capsys):
    config = config_of(tmp_path, "experiment: planned\nbudget: {hours: 0.001}\n")
    assert checked(config, PlannedRun(JOBS, elsewhere=True)) is None
    assert capsys.readouterr().err.startswith("warning: budget is not checked")


def made_up(config: dict, step: float) -> Rates:
    kinds = [kind.name for kind in kinds_of(config, {"sft"})]
    span, prompts = Span(step, step, step), prompts_of(config)
    return Rates(
        load=span, write=span, step=dict.fromkeys(kinds, span), validated=dict.fromkeys(kinds, Span()),
        structured=dict.fromkeys(prompts, Span()), free=dict.fromkeys(prompts, Span()), origin="a test",
    )  # fmt: skip


def test_a_run_is_checked_by_what_was_measured_before(checked, tmp_path, capsys):
    config = config_of(tmp_path, "experiment: planned\nbudget: {hours: 0.5}\n")
    trial = Trial(config, kinds_of(config, {"sft"}), prompts_of(config), SMALL, 1, 2, 0)
    measured_rates.keep(trial, made_up(config, 1.0))  # 640 steps: some eleven minutes
    assert checked(config, PlannedRun(JOBS)) is None
    assert capsys.readouterr().err.startswith("estimate: 11 min")
    measured_rates.keep(trial, made_up(config, 10.0))
    with pytest.raises(UserError, match=r"budget\.hours: the estimate, 1\.78 to 1\.79 hours, exceeds 0\.5"):
        checked(config, PlannedRun(JOBS))


def test_a_measurement_of_other_settings_or_machines_is_not_used(here, tmp_path):
    config = config_of(tmp_path)
    trial = Trial(config, kinds_of(config, {"sft"}), prompts_of(config), SMALL, 1, 2, 0)
    assert kept_rates(trial) is None
    rates = made_up(config, 1.0)
    measured_rates.keep(trial, rates)
    assert kept_rates(trial) == rates
    larger = {**config, "sft": {**config["sft"], "micro_batch_size": 2}}
    others = [
        Trial(larger, kinds_of(larger, {"sft"}), trial.prompts, SMALL, 1, 2, 0),
        Trial(config, trial.kinds, trial.prompts, SMALL, 2, 1, 0),
        Trial(config, trial.kinds, trial.prompts, Machine((Gpu("A", 80),), None, None, 2, None, True), 1, 2, 1),
    ]
    assert [kept_rates(other) for other in others] == [None] * 3


def test_a_damaged_measurement_is_one_line(here, tmp_path):
    config = config_of(tmp_path)
    trial = Trial(config, kinds_of(config, {"sft"}), prompts_of(config), SMALL, 1, 2, 0)
    path = measured_rates.kept_file(config)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"identity": trial.identity, "rates": {"step": 3}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"preflight\.json: is no measurement .*; delete it and run make preflight"):
        kept_rates(trial)
    path.write_text("[", encoding="utf-8")
    assert kept_rates(trial) is None


# --- measuring --------------------------------------------------------------------------------------------------------


def answer(step_s: list[float], waited: float = 0.0, least: float = 1.0) -> dict:
    """What a probe measured: 4 s for libraries, 2 s until its steps, 1 s to write; at `least` that share of it."""

    def bounds(seconds: float) -> tuple[float, float]:
        return least * seconds, seconds

    trained = {"validated_s": bounds(0.1), "before_s": bounds(2.0), "kept_s": bounds(0.03), "write_s": bounds(1.0)}
    trained["step_s"] = [bounds(seconds) for seconds in step_s]
    asked = {"loaded_s": bounds(1.0), "structured_s": bounds(0.02), "free_s": bounds(0.2)}
    place = {"device": "cpu", "dtype": "bfloat16", "threads": 1, "waited_share": waited, "libraries_s": bounds(4.0)}
    return {"trained": {"sft": trained}, "asked": {"null": asked}, **place}


def test_rates_are_means_of_probes_medians(tmp_path):
    config = config_of(tmp_path)
    trial = Trial(config, kinds_of(config, {"sft"}), ["null"], SMALL, at_once=2)
    rates = rates_of(trial, [answer([9.0, 1.0, 1.2, 5.0]), answer([9.0, 2.0, 2.0])])
    (step,) = rates.step.values()
    assert (step.value, step.low, step.high) == pytest.approx((1.6, 0.85 * 1.6, 1.15 * 1.6))
    assert rates.load.value == pytest.approx(6.0) and rates.write.value == pytest.approx(1.0) and rates.notes == ()
    assert rates.structured["null"].value == pytest.approx(0.02) and rates.kept.value == pytest.approx(0.03)
    free = rates.free["null"]  # a reply may end at half of its tokens
    assert (free.value, free.low, free.high) == pytest.approx((0.15, 0.085, 0.23))
    assert "1 thread, 2 side by side" in rates.origin


def test_on_a_busy_machine_the_range_holds_both_bounds(tmp_path):
    config = config_of(tmp_path)
    trial = Trial(config, kinds_of(config, {"sft"}), ["null"], SMALL)
    rates = rates_of(trial, [answer([9.0, 4.0], waited=0.4, least=0.25)])
    (step,) = rates.step.values()
    assert (step.value, step.low, step.high) == pytest.approx((1.3, 0.85, 2.3))
    (step,) = rates_of(trial, [answer([9.0, 4.0], least=0.8)]).step.values()
    assert (step.value, step.low, step.high) == pytest.approx((4.0, 2.72, 4.6))
    assert rates.notes[0].startswith("the machine is busy (40% of the time")


def test_steps_that_were_not_done_are_said(tmp_path):
    config = config_of(tmp_path)
    trial = Trial(config, kinds_of(config, {"sft"}), ["null"], SMALL)
    rates = rates_of(trial, [answer([])])
    assert rates.notes[0].startswith("sft: its step was not measured")
    assert all(0 < span.low < span.high for span in rates.step.values())


def test_the_first_step_warms_up():
    steps = [(9.0, 9.0), (1.0, 2.0), (3.0, 6.0)]
    assert (typical(steps), typical(steps[:1]), typical([])) == ((2.0, 4.0), (9.0, 9.0), None)


def test_steps_by_engines_and_several_processes(tmp_path):
    config = config_of(tmp_path)
    (kind,) = kinds_of(config, {"grpo"})
    assert of_kind(kind, Span(4, 3, 5), processes=2) == Span(2, 1.5, 5)
    assert of_kind(replace(kind, engine="verl"), Span(4, 3, 5), processes=1) == Span(12, 3, 40)


@pytest.mark.parametrize(
    ("seconds", "cpu_s", "threads", "bounds"),
    [
        (2.0, 3.84, 2, (2.0, 2.0)),  # idle: both threads compute
        (2.0, 0.96, 2, (0.5, 2.0)),  # they had a core for half the time
        (2.0, 9.0, 2, (2.0, 2.0)),
    ],
)
def test_bounds_of_an_idle_machine(monkeypatch, seconds, cpu_s, threads, bounds):
    assert probe.on_idle_machine(seconds, cpu_s, threads) == pytest.approx(bounds)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert probe.on_idle_machine(seconds, cpu_s, threads) == (seconds, seconds)  # the GPU computes


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("step 1\nerror: config.yaml: lora: wrong\n", "config.yaml: lora: wrong"),
        ("a\nb\nc\nValueError: d\n", "b c ValueError: d"),
        ("", "was killed, which is often for memory"),
    ],
)
def test_why_a_probe_failed(said, fault):
    assert reason_of(said)[0] == fault


def test_the_gate_imports_nothing_heavy():
    code = (
        "import sys, hidden_rule.planning.gate; print(sorted({'torch', 'polars', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert gate.TARGETS == ("all", "everything")


TINY = """
experiment: tiny
data: {train: 16, validation: 8, test: 8, holdout: 8}
sft: {batch_size: 4, micro_batch_size: 4}
grpo: {batch_size: 4, micro_batch_size: 4, group_size: 2}
evaluation: {structured: [test], free: [test], batch_size: 8, max_new_tokens: 4}
conditions:
  sft_then_grpo: false
  rloo: {method: rloo, with: {batch_size: 4, micro_batch_size: 4, group_size: 2}}
  rft: {method: rft, with: {samples: 2, rounds: 2}}
  dpo: {method: dpo, with: {pairs: errors, samples: 2}}
  informed: {prompt: oracle}
"""


@pytest.mark.slow
def test_real_steps_of_every_method_are_timed(manifest, monkeypatch, tmp_path):
    config = config_of(tmp_path, TINY)
    shutil.copytree(ROOT / "rulesets", tmp_path / "rulesets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured_rates, "manifest_of", lambda config: manifest)
    kinds = kinds_of(config, set(config["conditions"]))
    trial = Trial(config, kinds, prompts_of(config), SMALL, at_once=1, threads=max(1, min(2, os.cpu_count() or 1)))
    rates = measured_rates.measured_rates(trial, Effort(steps=2, rows=8, seconds=1.0))
    assert {kind.method for kind in kinds} == {"sft", "grpo", "rloo", "rft", "dpo"}
    assert rates.step.keys() == rates.validated.keys() == {kind.name for kind in kinds}
    assert all(0 < span.low < span.value < span.high < 60 for span in rates.step.values())
    assert all(0 < of[prompt].value < 10 for of in (rates.structured, rates.free) for prompt in ("null", '"oracle"'))
    assert 0 < rates.load.value < 300 and not [note for note in rates.notes if "not measured" in note]
    assert not (tmp_path / "results").exists()  # no adapter, no data stays


KEEP = """
import sys
from hidden_rule.experiment.config import load_config
from hidden_rule.planning.machine import this_machine
from hidden_rule.planning.measured_rates import Trial, keep
from hidden_rule.planning.rates import Rates, Span
from hidden_rule.planning.workload import kinds_of, prompts_of

config, machine, span = load_config(["config.yaml"]), this_machine("results"), Span(1, 1, 1)
kinds, prompts = kinds_of(config, set(config["conditions"])), prompts_of(config)
steps, rows = dict.fromkeys([kind.name for kind in kinds], span), dict.fromkeys(prompts, span)
threads = min(8, machine.cores if sys.argv[1] == "all" else int(sys.argv[1]))
keep(Trial(config, kinds, prompts, machine, 1, threads, 0), Rates(span, span, steps, steps, rows, rows, "a test"))
"""


@pytest.mark.slow
def test_a_run_over_its_budget_ends_before_its_first_job(tmp_path_factory):
    checkout = Checkout(tmp_path_factory.mktemp("budget"))
    kept = checkout.folder / "results" / "laptop"
    subprocess.run([sys.executable, "-c", KEEP, CORES], cwd=checkout.folder, env=checkout.environment, check=True)
    done = checkout.snakemake("--config", "budget={hours: 0.1}")
    assert done.returncode != 0
    assert "error: --config: budget.hours: the estimate, " in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in kept.iterdir()] == ["preflight.json"]  # no job has run
    done = checkout.snakemake("-n", "--config", "budget={hours: 0.1}")  # and nothing is locked; a dry run is a dry run
    assert done.returncode == 0
