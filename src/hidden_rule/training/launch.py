"""Run a training in several processes through `accelerate launch`, or be one of them.

A script calls `start` before it imports torch. In the process that Snakemake made it runs the same script once a rank
and leaves with their status; in a rank, and where one process does, it returns. What a rank computes is its share of
each batch: results are those of one process, up to the order of floating-point sums. Rank 0 alone writes files.
"""

import importlib.util
import os
import signal
import subprocess
import sys

from hidden_rule.core.errors import UserError
from hidden_rule.core.logs import logged
from hidden_rule.core.processes import LAUNCHED
from hidden_rule.models.devices import lease_devices

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


def command(processes: int, strategy: str, threads: int) -> list[str]:
    """`accelerate launch` and its options for `processes` ranks on this machine, `threads` CPU threads each."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", *STRATEGIES[strategy]),
        *("--num_machines", "1", "--num_processes", str(processes), "--main_process_port", "0"),
        *("--num_cpu_threads_per_process", str(threads), "--mixed_precision", "no", "--dynamo_backend", "no"),
    ]


def start(snakemake) -> None:
    """Hold the GPUs that a training asks for, and run its processes where it asks for more than one."""
    if LAUNCHED in os.environ:
        return
    processes, strategy = snakemake.resources.get("processes", 1), snakemake.resources.get("strategy", "ddp")
    with logged(snakemake.log[0]):
        lease_devices(max(snakemake.resources.get("gpu", 0), processes))
        if processes > 1 and strategy == "deepspeed_zero3" and importlib.util.find_spec("deepspeed") is None:
            raise UserError("config.yaml", "launch.strategy", "deepspeed is not installed", "install it, or take ddp")
    if processes > 1:
        words = command(processes, strategy, max(1, snakemake.threads // processes))
        sys.exit(run([*words, *sys.argv]))


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
