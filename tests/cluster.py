"""The smoke experiment through a real Slurm of two nodes on this machine: `make test-cluster`, as root on Debian.

The experiment runs twice. First with profiles/slurm as it is, by --workflow-profile; in the midst of a training
Snakemake gets SIGTERM, and then the same command runs again. Second with the lines in the profile that are for another
cluster, by --profile: a training hangs after its first checkpoint until Slurm kills it for its time, another is put
back into the queue by a job that is more urgent, and an evaluation takes more memory than it asked for.

What must hold, by Slurm's own records: only trainings, evaluations and the model's preparation and inspection were
submitted, each asked for one GPU, no two held the same one at a time, jobs ran at once and on both nodes, which have no
network. What was killed ran again with twice the memory and time; trainings went on from their checkpoints; a run that
was ended left no job behind. All results are byte for byte those of a local run.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from conftest import SMOKE, Checkout
from torture import fingerprints
from toy_slurm import NODES, gpus_held, install, of_rule, output, records, start_cluster, wait_for_no_jobs

SUBMITTED = ("prepare_model", "inspect_model", "train", "keep_states", "evaluate")  # the rules that load the model
ONE_THREAD = ("--set-threads", *(f"{name}=1" for name in SUBMITTED))
# quicker than a cluster with users wants it
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15")
AS_IT_IS = ("--workflow-profile", "profiles/slurm", "--slurm-status-command", "squeue")
FEW_MB = 700  # less than any evaluation takes
# where trainings run, so that what happens to one does not happen to the other
PLACE = """"'--nodelist=node1' if wildcards.condition == 'sft' else '--nodelist=node2'\""""
PLACED = f"  train: {{slurm_partition: gpu, gpu_model: a100, runtime: 720 * attempt, slurm_extra: {PLACE}}}"
TOO_LITTLE = f"mem_mb: {FEW_MB} if attempt == 1 and wildcards.condition == 'baseline' else 64000 * attempt}}"
PATIENCE_S = 1200
BEGAN = time.monotonic()


@dataclass(frozen=True)
class Undisturbed:
    """What a run without a cluster gives: hashes of its results, and the jobs that a cluster would run."""

    results: dict[str, str]
    jobs: set[str]


def submit(checkout: Checkout, log: Path, *arguments: str) -> subprocess.Popen:
    """Start snakemake as a user of a cluster does."""
    command = [sys.executable, "-m", "snakemake", *SMOKE, *QUICK, *ONE_THREAD, *arguments]
    with log.open("w") as stream:
        where = {"cwd": checkout.folder, "env": checkout.environment}
        return subprocess.Popen(command, **where, stdout=stream, stderr=stream)


def finish(run: subprocess.Popen, log: Path) -> None:
    """Wait for a run, which has to end well."""
    try:
        status = run.wait(PATIENCE_S)
    finally:
        run.kill()
    assert status == 0, log.read_text()[-8000:]


def take_in_the_changes(profile: Path) -> None:
    """What the profile says to change for another cluster: its lines for GPU nodes and for one without accounting."""
    text = profile.read_text()
    for key in ("set-resources:", "  train:", "  evaluate:", "slurm-status-command:"):
        assert f"\n#{key}" in text
        text = text.replace(f"\n#{key}", f"\n{key}")
    text, trains = re.subn(r"^  train: .*$", PLACED, text, flags=re.MULTILINE)
    text, evaluates = re.subn(r"mem_mb: 64000 \* attempt}", TOO_LITTLE, text)
    assert trains == evaluates == 1
    profile.write_text(text)


def hang(checkout: Checkout, run: subprocess.Popen, log: Path, *conditions: str) -> list[dict[str, str]]:
    """Stop the trainings of these conditions after their first checkpoints; their records."""
    found: dict[str, dict[str, str]] = {}
    while found.keys() != set(conditions):
        assert run.poll() is None, f"the run ended before a checkpoint was seen:\n{log.read_text()[-8000:]}"
        for condition in set(conditions) - found.keys():
            if list(checkout.folder.glob(f"results/smoke/checkpoints/{condition}/seed0/*/checkpoint-*/whole.json")):
                running = [job for job in of_rule(records(), "train", f"{condition}_0") if job["JobState"] == "RUNNING"]
                (found[condition],) = running
                output("scancel", "--signal=STOP", running[0]["JobId"])
        time.sleep(0.05)
    return [found[condition] for condition in conditions]


def jobs_of(checkout: Checkout) -> set[str]:
    """The jobs that an experiment submits, as Slurm's comments name them, by the logs that a finished run left."""
    logs = checkout.folder / "results/smoke/logs"
    found = set()
    for rule in SUBMITTED:
        for path in (logs / rule).glob("*.log"):
            wildcards = path.stem.replace("_seed", "_")
            found.add(f"rule_{rule}" + (f"_wildcards_{wildcards}" if path.stem != rule else ""))
    return found


def check_records(folder: Path, jobs: list[dict[str, str]], expected: set[str]) -> None:
    """What Slurm's records have to say of a run that came to its end, at once or after it was ended."""
    assert {job["Comment"] for job in jobs} == expected
    for job in jobs:
        assert re.fullmatch(r"gres:gpu(:a100)?:1", job["TresPerJob"]), job
    spans = gpus_held(folder, jobs)
    assert {gpu.partition(":")[0] for gpu, _, _ in spans} == set(NODES), spans
    pairs = [(a, b) for i, a in enumerate(spans) for b in spans[i + 1 :] if a[1] < b[2] and b[1] < a[2]]
    assert pairs, "no two jobs ran at once: something throttles the cluster"
    assert not [(a, b) for a, b in pairs if a[0] == b[0]], "two jobs held one GPU"


def check_nodes() -> None:
    """The nodes are two machines, as far as a job sees, and have no network."""
    hosts = {node: output("srun", "--quiet", f"--nodelist={node}", "hostname").strip() for node in NODES}
    assert hosts == {node: node for node in NODES}
    code = "import socket; socket.create_connection(('192.0.2.1', 443), timeout=5)"
    asked = ["srun", "--quiet", f"--nodelist={NODES[0]}", sys.executable, "-c", code]
    assert "Network is unreachable" in subprocess.run(asked, capture_output=True, text=True, check=False).stderr


def train_log(checkout: Checkout, condition: str) -> str:
    """What a training's latest attempt said."""
    return (checkout.folder / f"results/smoke/logs/train/{condition}_seed0.log").read_text()


def resumed(checkout: Checkout, condition: str) -> bool:
    """Whether a training's latest attempt went on from a checkpoint."""
    return bool(re.search(r"resuming from .*checkpoint-\d", train_log(checkout, condition)))


def slurm_log(checkout: Checkout, rule: str, job: dict[str, str], wildcards: str) -> str:
    """What Slurm and the job said, of a job that failed."""
    return (checkout.folder / f".snakemake/slurm_logs/rule_{rule}/{wildcards}/{job['JobId']}.log").read_text()


def check_timeout(checkout: Checkout, log: Path, hung: dict[str, str], jobs: list[dict[str, str]]) -> None:
    """What was killed for its time ran again with more, from its checkpoint; and where its logs are was said."""
    first, second = of_rule(jobs, "train", "sft_0")
    assert (first["JobId"], first["JobState"], second["JobState"]) == (hung["JobId"], "TIMEOUT", "COMPLETED")
    assert (hung["TimeLimit"], second["TimeLimit"]) == ("12:00:00", "1-00:00:00")
    assert (hung["MinMemoryNode"], second["MinMemoryNode"]) == ("6000M", "12000M")
    assert resumed(checkout, "sft")
    said = slurm_log(checkout, "train", first, "sft_0")
    assert "DUE TO TIME LIMIT" in said and "stopped by SIGTERM after step" in said  # Slurm's words and the training's
    _, _, error = log.read_text().partition("Error in rule train")
    assert "results/smoke/logs/train/sft_seed0.log" in error and f"{first['JobId']}.log" in error


def check_memory(checkout: Checkout, jobs: list[dict[str, str]]) -> None:
    """What took more memory than it asked for was killed, and ran again with more."""
    first, second = of_rule(jobs, "evaluate", "baseline_0")
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == (f"{FEW_MB}M", "125G")
    assert first["JobState"] in ("FAILED", "CANCELLED", "OUT_OF_MEMORY") and second["JobState"] == "COMPLETED"
    assert "memory limit" in slurm_log(checkout, "evaluate", first, "baseline_0")


def check_preemption(checkout: Checkout, hung: dict[str, str], jobs: list[dict[str, str]]) -> None:
    """What had to give way is one job, which Slurm started again, and went on from its checkpoint."""
    (job,) = of_rule(jobs, "train", "grpo_0")
    assert (job["JobId"], job["Requeue"], job["Restarts"]) == (hung["JobId"], "1", "1")
    assert job["JobState"] == "COMPLETED" and resumed(checkout, "grpo")


def end_a_run(checkout: Checkout, log: Path, expected: set[str]) -> None:
    """Send Snakemake SIGTERM while a training runs, and look what becomes of its jobs."""
    n, run = len(records()), submit(checkout, log, *AS_IT_IS)
    hang(checkout, run, log, "sft")
    began = time.monotonic()
    run.terminate()
    assert run.wait(120) == 1, log.read_text()[-8000:]
    assert wait_for_no_jobs(60), output("squeue")
    print(f"       jobs were gone after {time.monotonic() - began:.0f} s", flush=True)
    jobs = records()[n:]
    assert {job["Comment"] for job in jobs} < expected and {job["JobState"] for job in jobs} >= {"CANCELLED"}
    assert "stopped by SIGTERM after step" in train_log(checkout, "sft")


def give_way(job: dict[str, str]) -> None:
    """Let a more urgent job take the node of a training, which Slurm puts back into its queue, and starts again."""
    whole = ("--exclusive", "--mem=0", f"--nodelist={job['NodeList']}")
    output("sbatch", "--partition=urgent", *whole, "--output=/dev/null", "--wrap=sleep 5")
    until = time.monotonic() + 120
    while of_rule(records(), "train", "grpo_0")[-1]["JobState"] != "PENDING":
        assert time.monotonic() < until, records()
        time.sleep(0.5)
    output("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")  # else in two minutes


def say(what: str) -> None:
    """Print what was shown, with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGAN:4.0f} s  {what}", flush=True)


def run_locally(folder: Path) -> Undisturbed:
    """The experiment without a cluster."""
    local = Checkout(folder / "local")
    local.run(*SMOKE, *ONE_THREAD, "--resources", "gpu=2")
    say("a local run")
    return Undisturbed(fingerprints(local), jobs_of(local))


def run_as_it_is(folder: Path, local: Undisturbed) -> None:
    """With the profile as it is: ended by SIGTERM, and started again."""
    checkout, log, n = Checkout(folder / "as_it_is"), folder / "as_it_is.log", len(records())
    end_a_run(checkout, log, local.jobs)
    say("SIGTERM for Snakemake took its jobs along")
    ended = len(records())
    finish(submit(checkout, log, *AS_IT_IS), log)
    assert resumed(checkout, "sft") and {job["JobState"] for job in records()[ended:]} == {"COMPLETED"}
    check_records(folder, records()[n:], local.jobs)
    assert fingerprints(checkout) == local.results
    say("--workflow-profile profiles/slurm: results as of the local run")


def run_with_changes(folder: Path, local: Undisturbed) -> None:
    """With the profile's lines for other clusters, and three jobs that are disturbed."""
    checkout, log, n = Checkout(folder / "changed"), folder / "changed.log", len(records())
    take_in_the_changes(checkout.folder / "profiles/slurm/config.yaml")
    run = submit(checkout, log, "--profile", "profiles/slurm")
    hung, gives_way = hang(checkout, run, log, "sft", "grpo")
    output("scontrol", "update", f"JobId={hung['JobId']}", "TimeLimit=1")  # minute, the least that Slurm knows
    give_way(gives_way)
    say(f"job {hung['JobId']} hangs, job {gives_way['JobId']} gave way")
    finish(run, log)
    jobs = [job for job in records()[n:] if job["Partition"] != "urgent"]
    check_records(folder, jobs, local.jobs)
    check_timeout(checkout, log, hung, jobs)
    check_memory(checkout, jobs)
    check_preemption(checkout, gives_way, jobs)
    assert fingerprints(checkout) == local.results
    say(f"--profile profiles/slurm: {len(jobs)} jobs, three of them disturbed, results as of the local run")


def main() -> None:
    """Run everything."""
    install()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        start_cluster(stack, folder)
        check_nodes()
        say("two nodes, without a network")
        local = run_locally(folder)
        run_as_it_is(folder, local)
        run_with_changes(folder, local)


if __name__ == "__main__":
    main()
