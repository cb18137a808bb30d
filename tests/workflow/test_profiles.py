"""Profiles and the resources that jobs ask a cluster for; what a real Slurm makes of them: tests/cluster.py."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from yaml import safe_load

from conftest import ROOT, Checkout

TEXTS = [path.read_text(encoding="utf-8") for path in ROOT.glob("workflow/rules/*.smk")]
RULES = set(re.findall(r"^rule (\w+):", "".join(TEXTS), re.MULTILINE))
WITH_MODEL = {"prepare_model", "inspect_model", "train", "sample_start", "evaluate", "measure_side_effects"}
WITH_MODEL |= {"keep_states"}
PROFILES = sorted(ROOT.glob("profiles/*/config.yaml"))


def uncommented(path):
    """A profile with the lines in it that are for another cluster."""
    return safe_load(re.sub(r"^#(?=\S+:|  \S+:)", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


@functools.cache
def long_options():
    """The options that this Snakemake knows, without those of executors."""
    said = subprocess.run(
        [sys.executable, "-m", "snakemake", "--help"], check=True, capture_output=True, text=True
    ).stdout
    return set(re.findall(r"--([a-z][a-z-]+)", said))


def test_rules_with_a_model_are_those_that_ask_for_a_gpu():
    parts = [part for text in TEXTS for part in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]]
    assert {part.partition(":")[0] for part in parts if "**with_model(" in part} == WITH_MODEL


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_profiles_name_what_there_is(path):
    options, of_executor = long_options(), {"slurm-requeue", "slurm-status-command"}
    for profile in (safe_load(path.read_text(encoding="utf-8")), uncommented(path)):
        assert not set(profile) - options - of_executor
        for key in ("set-resources", "set-threads"):
            assert set(profile.get(key, WITH_MODEL)) == WITH_MODEL <= RULES


def test_profiles_rerun_for_the_same_reasons():
    triggers = [safe_load(path.read_text(encoding="utf-8"))["rerun-triggers"] for path in PROFILES]
    assert len(triggers) == 3 and all(triggers[0] == other for other in triggers)


@pytest.mark.parametrize(("gpus", "jobs"), [(0, 2), (1, 1), (3, 3)])
def test_make_results_runs_a_job_for_each_gpu_or_two_on_a_cpu(tmp_path, gpus, jobs):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\ni=0; while [ $i -lt {gpus} ]; do echo "GPU $i"; i=$((i+1)); done\n', encoding="utf-8")
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["make", "--dry-run", "results"]
    said = subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    (run,) = [line for line in said.splitlines() if "snakemake --" in line]  # within make, it says where it is too
    assert run.endswith(f"snakemake --cores all --resources gpu={jobs}")


# Snakemake shows a job's resources where a rule has no words of its own
PLAIN = """
include: "../Snakefile"
for each in workflow.rules:
    each.message = None
"""


def resources_of(said):
    """What jobs of a dry run ask for, by rule."""
    found = {}
    for rule, text in re.findall(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", said, re.MULTILINE):
        found[rule] = {key: int(value) for key, value in re.findall(r"(gpu|mem_mb|runtime)=(\d+)", text)}
    return found


def test_a_14b_model_gets_plenty_before_it_is_here(tmp_path):
    """On a box of several GPUs: a dry run with that profile."""
    checkout = Checkout(tmp_path)
    (tmp_path / "workflow/plain").write_text(PLAIN)
    options = ("--workflow-profile", "profiles/local-gpus", "--configfile", "experiments/qwen3-14b.yaml")
    command = [sys.executable, "-m", "snakemake", "-n", "all", "--snakefile", "workflow/plain", *options]
    done = subprocess.run(command, cwd=tmp_path, env=checkout.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = resources_of(done.stdout + done.stderr)
    for rule in ("prepare_model", "inspect_model", "evaluate", "sample_start"):
        assert found[rule] == {"gpu": 1, "mem_mb": 61_000, "runtime": 180}
    assert found["train"] == {"gpu": 1, "mem_mb": 61_000, "runtime": 720}
    assert found["fetch_model"] == {"mem_mb": 1_000, "runtime": 240}


RUN = """
import json, sys, time
from types import SimpleNamespace as Of
from hidden_rule.core.compat_snakemake import cancel_jobs_when_ended
elsewhere, name, ready = json.loads(sys.argv[1])
executor = Of(run_uuid=name) if name else Of()
settings = Of(common_settings=Of(non_local_exec=elsewhere))
cancel_jobs_when_ended(Of(executor_plugin=settings, scheduler=Of(_executor=executor)))
try:
    open(ready, "w").close()
    time.sleep(60)
except KeyboardInterrupt:
    print("as at Ctrl-C", flush=True)
"""


def as_in_a_terminal():
    """Tests that run under nohup would hand on that SIGHUP is ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def ended(tmp_path):
    """`ended(number, elsewhere, name)`: status, output and calls of scancel of a run that gets a signal."""
    calls, scancel = tmp_path / "calls", tmp_path / "bin" / "scancel"
    scancel.parent.mkdir()
    scancel.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    scancel.chmod(0o755)

    def end(number, elsewhere=True, name="one-run", before=()):
        ready = tmp_path / "ready"
        words = [*before, sys.executable, "-c", RUN, json.dumps([elsewhere, name, str(ready)])]
        environment = {**os.environ, "PATH": f"{scancel.parent}:{os.environ['PATH']}"}
        process = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal
        )
        while not ready.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        try:
            said, _ = process.communicate(timeout=1 if before else 20)
        except subprocess.TimeoutExpired:
            process.kill()
            return None, "", ""
        return process.returncode, said.strip(), calls.read_text().strip() if calls.exists() else ""

    return end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_that_is_ended_takes_its_jobs_along(ended, number):
    assert ended(number) == (0, "as at Ctrl-C", "--name=one-run")


def test_another_executor_has_no_name(ended):
    assert ended(signal.SIGTERM, name=None) == (0, "as at Ctrl-C", "")


def test_a_local_run_is_left_as_it_is(ended):
    assert ended(signal.SIGTERM, elsewhere=False) == (-signal.SIGTERM, "", "")


def test_what_nohup_ignores_stays_ignored(ended):
    assert ended(signal.SIGHUP, before=["nohup"]) == (None, "", "")
