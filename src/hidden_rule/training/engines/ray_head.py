"""A Ray head of our own: on free ports, in a folder of the run, ended by process id (`processes.py`), never `ray stop`.

`ray start --block` stays our child, and its daemons die with it. Several may run on one machine: no port is Ray's
default. Ray's sockets lie below its folder, and a socket's path has 107 characters at most; so the folder is a short
one among the temporary files, named after the run, by which what a killed run left there is found and deleted.
"""

import contextlib
import hashlib
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hidden_rule.training.engines.processes import Processes, end_all, failure

START_S = 900.0  # within which a head has to answer, on a busy machine
ATTEMPTS = 3
SERVICES = (
    *("ray-client-server", "dashboard-agent-listen", "dashboard-agent-grpc"),
    *("metrics-export", "runtime-env-agent"),
)
STARTED = b"Ray runtime started."  # what a head says once its node is known
OBJECTS = 200_000_000  # bytes of Ray's object store: batches of prompts and replies
QUIET = {
    "PYTHONUNBUFFERED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_DEDUP_LOGS": "0",
}
PATIENT = {  # Ray's own values are for machines that do nothing else: limits of a minute or less, workers of nice 15
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "900",
    "RAY_agent_register_timeout_ms": "900000",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "900",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "10",
}


@dataclass(frozen=True)
class RayPlan:
    """What a head offers; CPUs and GPUs are counts that Ray hands out, and may be more than the machine has."""

    python: Path  # of the engine's environment
    cpus: int
    gpus: int
    objects: int = OBJECTS


def ray_folder(run_folder) -> Path:
    """The head's folder of a run."""
    name = hashlib.sha256(str(Path(run_folder).absolute()).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"hr-ray-{name}"


def free_ports(n: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def head_command(plan: RayPlan, port: int, folder: Path) -> list[str]:
    """`ray start` as we start it; the head listens on `port`.

    Its daemons are told their ports, too: for one that they choose themselves Ray waits a quarter of a minute at most.
    """
    ports = zip(SERVICES, free_ports(len(SERVICES)), strict=True)
    return [
        *(str(plan.python), "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address", "127.0.0.1", "--port", str(port), "--min-worker-port", "0", "--max-worker-port", "0"),
        *(word for service, number in ports for word in (f"--{service}-port", str(number))),
        *("--num-cpus", str(plan.cpus), "--num-gpus", str(plan.gpus), "--object-store-memory", str(plan.objects)),
        *("--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", str(folder)),
    ]


def start_head(processes: Processes, plan: RayPlan, run_folder, variables: dict[str, str]) -> str:
    """Start a head and wait until it answers; returns its address, `127.0.0.1:<port>`.

    variables: of its environment and of its workers'. Raises UserError, naming the log, if it ends or never answers,
    ATTEMPTS times: Ray gives its own daemons half a minute, whatever else the machine does.
    """
    folder = ray_folder(run_folder)
    began = processes.log.stat().st_size if processes.log.exists() else 0
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed: none runs now
        (port,), said = free_ports(1), processes.log.stat().st_size if processes.log.exists() else 0
        head = processes.start(head_command(plan, port, folder), {**QUIET, **PATIENT, **variables})
        until = time.monotonic() + START_S
        while head.poll() is None and time.monotonic() < until:
            if STARTED in processes.log.read_bytes()[said:]:
                return f"127.0.0.1:{port}"
            time.sleep(0.5)
        end_all(processes.descendants())
    raise failure(processes.log, began, "Ray's head", head.returncode or 0)
