"""The smoke experiment through a real Slurm on this machine: `make test-cluster`, as root on Debian.

Starts munge, slurmctld and slurmd, a cluster of one node with two made-up GPUs, and submits the experiment twice: with
profiles/slurm as it is, by --workflow-profile, and with the lines in it that are for another cluster, by --profile. In
the second run a training hangs after its first checkpoint until Slurm kills it for its time.

What must hold, by Slurm's own records: only trainings and evaluations were submitted, each asked for one GPU, no two
held the same one at a time, two ran at once, and what was killed ran again with twice the memory and time. It went on
from its checkpoint, and all results are byte for byte those of a local run. Stops what it started, and nothing else.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conftest import SMOKE, Checkout
from torture import fingerprints

MARK = "# made by tests/cluster.py"
SLURM = Path("/etc/slurm")
CONFIG = """{mark}
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MailProg=/bin/true
MinJobAge=7200
Prolog={folder}/prolog
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=32 RealMemory=512000 Gres=gpu:a100:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP DefMemPerCPU=500
PartitionName=gpu Nodes=ALL State=UP DefMemPerCPU=500
"""
GPUS = f"{MARK}\nName=gpu Type=a100 File=/dev/null\nName=gpu Type=a100 File=/dev/zero\n"
# which GPU a job got; Slurm's record of it forgets that when the job ends
PROLOG = '#!/bin/sh\necho "$SLURM_JOB_ID $SLURM_JOB_GPUS" >> {folder}/gpus\n'
SUBMITTED = ("prepare_model", "inspect_model", "train", "evaluate")  # the rules that load the model
ONE_THREAD = ("--set-threads", *(f"{name}=1" for name in SUBMITTED))
# quicker than a cluster with users wants it
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15")


def output(*command: str) -> str:
    """What a command prints; it has to end well."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def install() -> None:
    """Debian's Slurm."""
    if shutil.which("slurmctld") is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
            subprocess.run(["apt-get", "-qq", *command], check=True, stdout=subprocess.DEVNULL, env=environment)


def start(stack: contextlib.ExitStack, log: Path, *command: str, **options) -> None:
    """Start a daemon that ends when the stack is left."""

    def stop() -> None:
        process.terminate()
        process.wait(30)

    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True, **options)
    stack.callback(stop)


def start_slurm(stack: contextlib.ExitStack, folder: Path) -> None:
    """A cluster of this machine; refuses to touch one that somebody else configured."""
    files = {
        "slurm.conf": CONFIG.format(mark=MARK, host=socket.gethostname().split(".")[0], folder=folder),
        "gres.conf": GPUS,
    }
    for name, text in files.items():
        if (SLURM / name).exists() and not (SLURM / name).read_text().startswith(MARK):
            sys.exit(f"{SLURM / name} is not this test's: run it on a machine without Slurm")
        SLURM.mkdir(exist_ok=True)
        (SLURM / name).write_text(text)
        stack.callback((SLURM / name).unlink)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "prolog").write_text(PROLOG.format(folder=folder))
    (folder / "prolog").chmod(0o755)
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode != 0:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        munge = {"user": "munge", "group": "munge", "extra_groups": []}
        start(stack, folder / "munged.log", "/usr/sbin/munged", "--foreground", **munge)
    start(stack, folder / "slurmctld.log", "slurmctld", "-D")
    start(stack, folder / "slurmd.log", "slurmd", "-D")
    stack.callback(cancel_all)
    for _ in range(60):
        if "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout:
            return
        time.sleep(0.5)
    sys.exit("the node did not come up:\n" + (folder / "slurmctld.log").read_text()[-2000:])


def cancel_all() -> None:
    """End every job of this cluster, after a failure, before its daemons go."""
    for signal in ("CONT", "KILL"):
        subprocess.run(["scancel", f"--signal={signal}", "--full", "--user=root"], capture_output=True, check=False)
    for _ in range(60):
        if not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=False).stdout:
            return
        time.sleep(0.5)


def records() -> list[dict[str, str]]:
    """Slurm's record of every job so far, a dictionary each, in the order of submission."""
    lines = output("scontrol", "show", "job", "-d", "-o").splitlines()
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId=")]
    return sorted(jobs, key=lambda job: int(job["JobId"]))


def of_rule(jobs: list[dict[str, str]], name: str, wildcards: str = "") -> list[dict[str, str]]:
    """The jobs of a rule, or of one condition and seed (`sft_0`), by their comment: `rule_<name>_wildcards_…`."""
    named = f"rule_{name}_wildcards_{wildcards}"
    return [job for job in jobs if job["Comment"].startswith(named) or job["Comment"] == f"rule_{name}"]


def submit(checkout: Checkout, log: Path, *arguments: str) -> subprocess.Popen:
    """Start snakemake as a user of a cluster does."""
    command = [sys.executable, "-m", "snakemake", *SMOKE, *QUICK, *ONE_THREAD, *arguments]
    with log.open("w") as stream:
        where = {"cwd": checkout.folder, "env": checkout.environment}
        return subprocess.Popen(command, **where, stdout=stream, stderr=stream)


def finish(run: subprocess.Popen, log: Path) -> None:
    """Wait for a run, which has to end well."""
    try:
        status = run.wait(1200)
    finally:
        run.kill()
    assert status == 0, log.read_text()[-8000:]


def take_in_the_changes(profile: Path) -> None:
    """What the profile says to change for another cluster: its lines for GPU nodes and for one without accounting."""
    text = profile.read_text()
    for key in ("set-resources:", "  train:", "  evaluate:", "slurm-status-command:"):
        assert f"\n#{key}" in text
        text = text.replace(f"\n#{key}", f"\n{key}")
    profile.write_text(text)


def hang(checkout: Checkout, run: subprocess.Popen) -> dict[str, str]:
    """Stop the SFT training after its first checkpoint, and leave it a minute, the least that Slurm knows.

    Returns its record as it was before.
    """
    while not list(checkout.folder.glob("results/smoke/checkpoints/sft/seed0/*/checkpoint-*/whole.json")):
        assert run.poll() is None, "the run ended before a checkpoint was seen"
        time.sleep(0.1)
    (job,) = [job for job in of_rule(records(), "train", "sft_0") if job["JobState"] == "RUNNING"]
    output("scancel", "--signal=STOP", job["JobId"])
    output("scontrol", "update", f"JobId={job['JobId']}", "TimeLimit=1")
    return job


def check_records(folder: Path, jobs: list[dict[str, str]]) -> None:
    """What Slurm's records have to say of a run."""
    gpus = dict(line.split(" ") for line in (folder / "gpus").read_text().splitlines())
    assert sum(len(of_rule(jobs, name)) for name in SUBMITTED) == len(jobs)
    spans = []
    for job in jobs:
        assert re.fullmatch(r"gres:gpu(:a100)?:1", job["TresPerJob"]) and job["JOB_GRES"] == "gpu:a100:1", job
        spans.append((gpus[job["JobId"]], job["StartTime"], job["EndTime"]))
    assert {gpu for gpu, _, _ in spans} == {"0", "1"}
    pairs = [(a, b) for i, a in enumerate(spans) for b in spans[i + 1 :] if a[1] < b[2] and b[1] < a[2]]
    assert pairs, "no two jobs ran at once: something throttles the cluster"
    assert not [(a, b) for a, b in pairs if a[0] == b[0]], "two jobs held one GPU"


def check_retry(checkout: Checkout, log: Path, hung: dict[str, str], jobs: list[dict[str, str]]) -> None:
    """What was killed for its time ran again with more, from its checkpoint; and where its logs are was said."""
    first, second = of_rule(jobs, "train", "sft_0")
    assert (first["JobId"], first["JobState"]) == (hung["JobId"], "TIMEOUT")
    assert (hung["TimeLimit"], second["TimeLimit"]) == ("12:00:00", "1-00:00:00")
    assert (hung["MinMemoryNode"], second["MinMemoryNode"]) == ("62.50G", "125G")
    rule_log = "results/smoke/logs/train/sft_seed0.log"
    assert re.search(r"going on from .*checkpoint-\d", (checkout.folder / rule_log).read_text())
    slurm_log = checkout.folder / f".snakemake/slurm_logs/rule_train/sft_0/{first['JobId']}.log"
    said = slurm_log.read_text()
    assert "DUE TO TIME LIMIT" in said and "stopped by SIGTERM after step" in said  # Slurm's words and the training's
    _, _, error = log.read_text().partition("Error in rule train")
    assert rule_log in error and str(slurm_log) in error


def main() -> None:
    """Run everything."""
    install()
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        start_slurm(stack, folder)
        local = Checkout(folder / "local")
        local.run(*SMOKE, *ONE_THREAD, "--resources", "gpu=2")
        expected = fingerprints(local)
        say("a local run")

        checkout, log = Checkout(folder / "as_it_is"), folder / "as_it_is.log"
        options = ("--workflow-profile", "profiles/slurm", "--slurm-status-command", "squeue")
        finish(submit(checkout, log, *options), log)
        jobs = records()
        check_records(folder, jobs)
        assert len(jobs) == 9 and {job["JobState"] for job in jobs} == {"COMPLETED"}
        assert fingerprints(checkout) == expected
        say(f"--workflow-profile profiles/slurm: {len(jobs)} jobs, results as of the local run")

        checkout, log = Checkout(folder / "changed"), folder / "changed.log"
        take_in_the_changes(checkout.folder / "profiles/slurm/config.yaml")
        run = submit(checkout, log, "--profile", "profiles/slurm")
        hung = hang(checkout, run)
        say(f"job {hung['JobId']} hangs after a checkpoint")
        finish(run, log)
        jobs = records()[len(jobs) :]
        check_records(folder, jobs)
        check_retry(checkout, log, hung, jobs)
        assert fingerprints(checkout) == expected
        say(f"--profile profiles/slurm: {len(jobs)} jobs, a killed one among them, results as of the local run")


if __name__ == "__main__":
    main()
