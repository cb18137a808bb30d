"""Run a training in this process, or in several through `accelerate launch`.

A script calls `start` before it imports torch. Where a training has one process, `start` holds its GPU and returns, and
the script goes on to `train`. Where it has several, `start` runs the method's module once a rank, each with the job
from a file, and leaves with their status. What a rank computes is its share of each batch: results are those of one
process, up to the order of floating-point sums. Rank 0 alone writes files.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hidden_rule.core.errors import SettingError
from hidden_rule.core.logs import logged
from hidden_rule.core.processes import LAUNCHED
from hidden_rule.models.devices import lease_devices
from hidden_rule.training.job import TrainingJob

FSDP = [
    *("--use_fsdp", "--fsdp_version", "2"),
    *("--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
    *("--fsdp_state_dict_type", "FULL_STATE_DICT"),
]
STRATEGIES = {  # accelerate's own names; --multi_gpu is also what starts several processes on CPUs, without MPI
    "ddp": ["--multi_gpu"],
    "fsdp": FSDP,
    "deepspeed_zero3": ["--use_deepspeed", "--zero_stage", "3", "--zero3_save_16bit_model", "true"],
}


@dataclass(frozen=True)
class Place:
    """What a training runs on: nothing of it changes a result but in the order of sums."""

    log: Path  # the rule's
    threads: int = 1  # CPU threads, of all processes together
    gpus: int = 0
    processes: int = 1
    strategy: str = "ddp"  # of STRATEGIES

    @property
    def threads_each(self) -> int:
        return max(1, self.threads // self.processes)


def place_of_rule(snakemake) -> Place:
    """The place that the rule `train` gives its job."""
    resources = snakemake.resources
    n = resources.get("processes", 1)
    gpus = max(resources.get("gpu", 0), n)
    return Place(Path(snakemake.log[0]), snakemake.threads, gpus, n, resources.get("strategy", "ddp"))


def command(processes: int, strategy: str, threads: int) -> list[str]:
    """`accelerate launch` and its options for `processes` ranks on this machine, `threads` CPU threads each."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", *STRATEGIES[strategy]),
        *("--num_machines", "1", "--num_processes", str(processes), "--main_process_port", "0"),
        *("--num_cpu_threads_per_process", str(threads), "--mixed_precision", "no", "--dynamo_backend", "no"),
    ]


def start(rank: list[str], job: TrainingJob, place: Place) -> None:
    """Hold the GPUs that a training asks for, and run its processes where it asks for more than one.

    `rank`: what runs a rank: `-m` and a method's module, whose last lines call `run_rank`, or a script's path.
    """
    lease_devices(place.gpus)
    if place.processes == 1:
        return
    if place.strategy == "deepspeed_zero3" and importlib.util.find_spec("deepspeed") is None:
        raise SettingError("launch.strategy", "deepspeed is not installed", "install it, or take ddp", beside=())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        write_job(path, job, place)
        words = command(place.processes, place.strategy, place.threads_each)
        sys.exit(run([*words, *rank, str(path)]))


def write_job(path, job: TrainingJob, place: Place) -> None:
    """Write a job and its place to a file that each rank reads."""
    values = {"job": job.as_json(), "place": {**asdict(place), "log": str(place.log)}}
    Path(path).write_text(json.dumps(values), encoding="utf-8")


def read_job(path) -> tuple[TrainingJob, Place]:
    """What `write_job` wrote."""
    values = json.loads(Path(path).read_text(encoding="utf-8"))
    return TrainingJob.from_json(values["job"]), Place(**{**values["place"], "log": Path(values["place"]["log"])})


def train(method, job: TrainingJob, place: Place) -> None:
    """`method(job)` in this process, with its share of the threads, and a smaller micro-batch where memory runs out."""
    from hidden_rule.models.hardware import use_threads  # later than `start`, which decides on the GPUs that torch sees
    from hidden_rule.training.memory import retry_with_smaller_batch

    use_threads(place.threads_each)
    retry_with_smaller_batch(method, job)


def run_rank(method) -> None:
    """One rank of `start`'s: `train` with the job in the file that the last command-line argument names."""
    job, place = read_job(sys.argv[-1])
    with logged(place.log):
        train(method, job, place)


def run(words: list[str]) -> int:
    """Run a command as rank processes do, hand SIGTERM on to it, and return its exit status (143 after SIGTERM)."""
    terminated = []

    def hand_on(number, frame):
        terminated.append(number)
        process.send_signal(number)

    process = subprocess.Popen(words, env={**os.environ, LAUNCHED: "1"})
    signal.signal(signal.SIGTERM, hand_on)
    status = process.wait()
    return 128 + signal.SIGTERM if terminated else status if status >= 0 else 128 - status
