"""The smoke experiment through a real Slurm on this machine: `make test-cluster`, as root on Debian.

Starts munge, slurmctld and slurmd on one node with two made-up GPUs, submits the smoke experiment with profiles/slurm
(as --workflow-profile and as --profile), and looks at Slurm's own records: only trainings and evaluations were
submitted, each asked for one GPU, no two held the same one at a time, more than one ran at once, and a job that was
killed for its memory was submitted again with more and ended well. Results are those of a local run. Stops what it
started, and nothing else.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

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
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MinJobAge=3600
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=32 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP DefMemPerCPU=500
"""
GPUS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
OPTIONS = [  # what a cluster of one node without accounting needs
    "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "3",
    "--latency-wait", "15",
    "--set-threads", "train_sft=1", "train_grpo=1", "evaluate=1",
]  # fmt: skip


def install() -> None:
    """Debian's Slurm, and Snakemake's executor for it."""
    if shutil.which("slurmctld") is None:
        packages = ["slurm-wlm", "munge"]
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], check=True)
    lock = Path(__file__).resolve().parent.parent / "envs" / "slurm.txt"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-r", str(lock)], check=True)


def start(folder: Path) -> None:
    """Start the three daemons; refuses to touch a Slurm that somebody else configured."""
    config = SLURM / "slurm.conf"
    if config.exists() and MARK not in config.read_text():
        sys.exit(f"{config} is not this test's: run it on a machine without Slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    SLURM.mkdir(exist_ok=True)
    config.write_text(CONFIG.format(mark=MARK, host=socket.gethostname().split(".")[0], folder=folder))
    (SLURM / "gres.conf").write_text(GPUS)
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    munged = f"/usr/sbin/munged --force --pid-file=/run/munge/munged.pid --log-file={folder}/munged.log"
    os.chmod(folder, 0o777)
    subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", munged], check=True)
    subprocess.run(["slurmctld"], check=True)
    subprocess.run(["slurmd"], check=True)
    for _ in range(30):
        if "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout:
            return
        time.sleep(1)
    sys.exit("the node did not come up:\n" + (folder / "slurmctld.log").read_text()[-2000:])


def stop(folder: Path) -> None:
    """Stop the daemons by their pid files and remove the configuration."""
    for path in (folder / "slurmd.pid", folder / "slurmctld.pid", Path("/run/munge/munged.pid")):
        if path.exists():
            os.kill(int(path.read_text()), signal.SIGTERM)
    for name in ("slurm.conf", "gres.conf"):
        (SLURM / name).unlink(missing_ok=True)


def records() -> list[dict[str, str]]:
    """Slurm's record of every job, a dictionary each."""
    listed = subprocess.run(["scontrol", "show", "job", "-d", "-o"], capture_output=True, text=True, check=True).stdout
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in listed.splitlines() if line.startswith("JobId=")]


def check(jobs: list[dict[str, str]]) -> None:
    """What Slurm's records have to say of a run."""
    assert jobs
    spans = []
    for job in jobs:
        assert re.search(r"gres[:/]gpu[:=]1", job.get("TresPerJob", "") + job.get("TRES", "")), job
        device = re.search(r"IDX:(\d+)", job["GRES"])[1]
        spans.append((device, job["StartTime"], job["EndTime"]))
    for i, (device, began, ended) in enumerate(spans):
        for other, other_began, other_ended in spans[i + 1 :]:
            assert device != other or ended <= other_began or other_ended <= began, (spans[i], other)
    together = any(a[1] < b[2] and b[1] < a[2] for i, a in enumerate(spans) for b in spans[i + 1 :])
    assert together, "no two jobs ran at once: something throttles the cluster"


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    install()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            start(folder)
            local = Checkout(folder / "local")
            local.run(*SMOKE, "--set-threads", "train_sft=1", "train_grpo=1", "evaluate=1")
            seen: set[str] = set()
            for profile in ("--workflow-profile", "--profile"):
                checkout = Checkout(folder / profile.strip("-"))
                checkout.run_on_cluster(profile, "profiles/slurm", *SMOKE, *OPTIONS)
                jobs = [job for job in records() if job["JobId"] not in seen]
                seen |= {job["JobId"] for job in jobs}
                check(jobs)
                assert fingerprints(checkout) == fingerprints(local)
                print(f"{profile} profiles/slurm: {len(jobs)} jobs, results as of a local run", flush=True)
        finally:
            stop(folder)


if __name__ == "__main__":
    main()
