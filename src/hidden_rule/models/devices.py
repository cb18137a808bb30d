"""Exclusive GPUs for each job on a machine that several jobs share.

A lease is a lock on a file (flock) that the process holds until it ends: the kernel drops it however the process ends,
so that there are no stale leases to clean up. This module imports nothing heavy: CUDA_VISIBLE_DEVICES has to be set
before torch is imported.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hidden_rule.core.errors import UserError

SIMULATED = "HIDDEN_RULE_DEVICES"  # names of simulated devices, instead of the machine's: for tests
held: list[int] = []  # open files: their locks last as long as this process


def visible_devices() -> list[str]:
    """Names of the GPUs that this process may use: UUIDs, in CUDA's order; empty where there is none.

    CUDA_VISIBLE_DEVICES, as a cluster's scheduler sets it, narrows them down by index or UUID.
    """
    if SIMULATED in os.environ:
        return os.environ[SIMULATED].split(",")
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
    return narrowed(listed)


def narrowed(listed: list[str]) -> list[str]:
    """Those of the machine's GPUs, by UUID, that CUDA_VISIBLE_DEVICES leaves to this process, in its order."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return listed
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return [listed[int(name)] if name.isdigit() and int(name) < len(listed) else name for name in names]


def try_lock(path: Path) -> int | None:
    """The descriptor of the file with its lock, or None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def lease_devices(n: int, poll_s: float = 0.5) -> list[str]:
    """Hold `n` GPUs until this process ends, waiting for them if need be, and let CUDA see those alone.

    Returns their names; none, and nothing is changed, if `n` is 0 or the machine has no GPU. Raises UserError where it
    has fewer than `n`. A request for several takes all of them at once or none, so that two cannot wait for each other.
    """
    devices = visible_devices()
    if n == 0 or not devices:
        return []
    if n > len(devices):
        raise UserError(
            "--resources", "gpu", f"a job asks for {n} GPUs where {len(devices)} are visible", "lower launch.processes"
        )
    folder = Path(tempfile.gettempdir()) / f"hidden-rule-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    announced = False
    while True:
        with open(folder / "all.lock", "w") as every:  # one process at a time looks for free devices
            fcntl.flock(every, fcntl.LOCK_EX)
            locks: dict[str, int] = {}
            for name in devices:
                if len(locks) < n and (lock := try_lock(folder / f"{name.replace('/', '_')}.lock")) is not None:
                    locks[name] = lock
            if len(locks) == n:
                held.extend(locks.values())
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)
                return list(locks)
            for lock in locks.values():
                with contextlib.suppress(OSError):
                    os.close(lock)
        if not announced:
            print(f"waiting for {n} of {len(devices)} GPUs, which other processes hold", file=sys.stderr)
            announced = True
        time.sleep(poll_s)
