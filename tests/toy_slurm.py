"""A Slurm cluster of this machine for tests: a controller and two nodes, as root on Debian.

Each node has a host name, processes and a network of its own (namespaces of the kernel): a cable to the controller, and
no way to anywhere else. What a job leaves behind ends with its node. node1 has two made-up GPUs, node2 one. Memory is
watched as accounting does (RSS of a step's processes), and a job that takes more than it asked for is killed. A job in
the partition `urgent` puts those in others back into the queue. Stops what it started, and nothing else.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

MARK = "# made by tests/toy_slurm.py"
SLURM = Path("/etc/slurm")
NODES = ("node1", "node2")
CONTROLLER, BRIDGE = "10.77.0.1", "toyslurm0"
CONFIG = """{mark}
ClusterName=toy
SlurmctldHost={host}({controller})
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MailProg=/bin/true
MinJobAge=7200
Prolog={folder}/prolog
ReturnToService=2
GresTypes=gpu
NodeName=node1 NodeAddr=10.77.0.11 CPUs=32 RealMemory=512000 Gres=gpu:a100:2 State=UNKNOWN
NodeName=node2 NodeAddr=10.77.0.12 CPUs=32 RealMemory=512000 Gres=gpu:a100:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP DefMemPerCPU=500 PriorityTier=1
PartitionName=gpu Nodes=ALL State=UP DefMemPerCPU=500 PriorityTier=1
PartitionName=urgent Nodes=ALL State=UP DefMemPerCPU=500 PriorityTier=10
"""
GPUS = f"""{MARK}
NodeName=node1 Name=gpu Type=a100 File=/dev/null
NodeName=node1 Name=gpu Type=a100 File=/dev/zero
NodeName=node2 Name=gpu Type=a100 File=/dev/null
"""
# which GPU a job got; Slurm's record of it forgets that when the job ends
PROLOG = '#!/bin/sh\necho "$SLURM_JOB_ID $(hostname):$SLURM_JOB_GPUS" >> {folder}/gpus\n'


def output(*command: str) -> str:
    """What a command prints; it has to end well."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def install() -> None:
    """Debian's Slurm."""
    if shutil.which("slurmctld") is None or shutil.which("ip") is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ["slurm-wlm", "munge", "iproute2"]
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", "-qq", *command], check=True, stdout=subprocess.DEVNULL, env=environment)


def start(stack: contextlib.ExitStack, log: Path, *command: str, **options) -> subprocess.Popen:
    """Start a daemon that ends when the stack is left."""

    def stop() -> None:
        if command[0] == "unshare":
            process.kill()  # and with it all in its space
        else:
            process.terminate()
        process.wait(30)

    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True, **options)
    stack.callback(stop)
    return process


def start_cluster(stack: contextlib.ExitStack, folder: Path) -> None:
    """Controller and nodes; refuses to touch a cluster that somebody else configured."""
    host = socket.gethostname().split(".")[0]
    files = {
        "slurm.conf": CONFIG.format(mark=MARK, host=host, controller=CONTROLLER, folder=folder),
        "gres.conf": GPUS,
    }
    for name, text in files.items():
        if (SLURM / name).exists() and not (SLURM / name).read_text().startswith(MARK):
            sys.exit(f"{SLURM / name} is not this test's: run it on a machine without Slurm")
        SLURM.mkdir(exist_ok=True)
        (SLURM / name).write_text(text)
        stack.callback((SLURM / name).unlink)
    (folder / "state").mkdir()
    (folder / "prolog").write_text(PROLOG.format(folder=folder))
    (folder / "prolog").chmod(0o755)
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode != 0:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        munge = {"user": "munge", "group": "munge", "extra_groups": []}
        start(stack, folder / "munged.log", "/usr/sbin/munged", "--foreground", **munge)
    output("ip", "link", "add", BRIDGE, "type", "bridge")
    stack.callback(output, "ip", "link", "delete", BRIDGE)
    output("ip", "address", "add", f"{CONTROLLER}/24", "dev", BRIDGE)
    output("ip", "link", "set", BRIDGE, "up")
    start(stack, folder / "slurmctld.log", "slurmctld", "-D")
    for i, name in enumerate(NODES):
        start_node(stack, folder, name, f"10.77.0.{11 + i}")
    stack.callback(cancel_all)
    for _ in range(60):
        states = subprocess.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%T"], capture_output=True, text=True).stdout
        if states.split() == ["idle"] * len(NODES):
            return
        time.sleep(0.5)
    sys.exit("the nodes did not come up:\n" + (folder / "slurmctld.log").read_text()[-2000:])


def start_node(stack: contextlib.ExitStack, folder: Path, name: str, address: str) -> None:
    """A node's daemon, in a network and under a host name of its own."""
    words = f"hostname {name} && read connected && slurmd -D && exit"  # the shell stays, to take in orphans
    spaces = ("unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    daemon = start(stack, folder / f"slurmd-{name}.log", *spaces, "sh", "-c", words, stdin=subprocess.PIPE, text=True)
    space, cable = f"/proc/{daemon.pid}/ns/net", f"toy-{name}"
    while os.readlink(space) == os.readlink("/proc/self/ns/net"):  # it is not there yet
        time.sleep(0.01)
    output("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(daemon.pid))
    stack.callback(output, "ip", "link", "delete", cable)  # what a job left in the space would keep it
    output("ip", "link", "set", cable, "master", BRIDGE, "up")
    inside = ("nsenter", f"--net={space}", "ip")
    output(*inside, "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        output(*inside, "link", "set", device, "up")
    print("yes", file=daemon.stdin, flush=True)


def cancel_all() -> None:
    """End every job of this cluster, after a failure, before its daemons go."""
    for signal in ("CONT", "KILL"):
        subprocess.run(["scancel", f"--signal={signal}", "--full", "--user=root"], capture_output=True, check=False)
    wait_for_no_jobs(30)


def wait_for_no_jobs(seconds: float) -> bool:
    """Whether the queue is empty within so many seconds."""
    until = time.monotonic() + seconds
    while subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=False).stdout:
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def records() -> list[dict[str, str]]:
    """Slurm's record of every job so far, a dictionary each, in the order of submission."""
    lines = output("scontrol", "show", "job", "-d", "-o").splitlines()
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId=")]
    return sorted(jobs, key=lambda job: int(job["JobId"]))


def of_rule(jobs: list[dict[str, str]], name: str, wildcards: str = "") -> list[dict[str, str]]:
    """The jobs of a rule, or of one condition and seed (`sft_0`), by their comment: `rule_<name>_wildcards_…`."""
    named = f"rule_{name}_wildcards_{wildcards}"
    return [job for job in jobs if job.get("Comment", "").startswith(named) or job.get("Comment") == f"rule_{name}"]


def gpus_held(folder: Path, jobs: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """`node:GPU`, start and end of each of these jobs that started."""
    gpus = dict(line.split(" ") for line in (folder / "gpus").read_text().splitlines())
    return [(gpus[job["JobId"]], job["StartTime"], job["EndTime"]) for job in jobs if job["JobId"] in gpus]
