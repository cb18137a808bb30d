"""Let threads that wait for each other sleep, not spin, while other programs want the cores.

PyTorch's threads meet at a barrier thousands of times a training step. GNU libgomp lets those that arrive first spin
for some milliseconds before they sleep, which is fastest on an idle machine. Where another program wants the cores as
well, what spins takes the core from the thread that is waited for: steps take up to fifty times as long.

libgomp spins hardly at all while it manages more threads than there are cores (`gomp_managed_threads` in `do_spin`,
gcc's libgomp/config/linux/wait.h). A thread of ours that has run one parallel region owns threads which libgomp counts;
while it lives, waiting threads sleep, and when it ends they spin. The number of threads that compute stays the same,
hence every bit of the results.
"""

import ctypes
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hidden_rule.core.load import Load, load_between, read_counters

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # between two looks at the load
LEAST_CORES = 0.2  # that the process has to want for its waits to say anything
TOO_MUCH_WAITING = 0.15  # share of ready time; three programs at nice 10 beside two threads cause less
FEW_OTHERS = 0.1  # cores taken by others, up to which spinning is tried again
FIRST_PATIENCE_S, LAST_PATIENCE_S = 2.0, 60.0  # of few others, before it is tried
TRIED_ANYWAY = 15  # times that patience, after which it is tried beside many: they may give way, by weights or nice
CALM_S = 60.0  # of spinning, after which patience is short again
OWN_CHOICE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # environment variables: whoever sets them has decided


@dataclass(frozen=True)
class Waiting:
    """How threads wait at present, and since when."""

    sleeps: bool = False
    since_s: float = 0.0
    calm_s: float = 0.0  # for how long there have been few others
    patience_s: float = FIRST_PATIENCE_S / 2  # how long that has to last before spinning is tried; grows with failures

    def after(self, load: Load) -> "Waiting":
        """How they should wait after an interval of such a load."""
        if load.own_cores < LEAST_CORES * (1 - load.waiting):
            return Waiting()  # it hardly wanted to compute: when it does, other programs may have ended
        lasted = self.since_s + load.wall_s
        if not self.sleeps:
            if load.waiting > TOO_MUCH_WAITING:
                patience = FIRST_PATIENCE_S if lasted > CALM_S else min(2 * self.patience_s, LAST_PATIENCE_S)
                return Waiting(True, patience_s=patience)
            return replace(self, since_s=lasted)
        calm = self.calm_s + load.wall_s if load.other_cores <= FEW_OTHERS else 0.0
        if calm >= self.patience_s or lasted >= TRIED_ANYWAY * self.patience_s:
            return Waiting(False, patience_s=self.patience_s)
        return replace(self, since_s=lasted, calm_s=calm)


def libgomp() -> ctypes.CDLL | None:
    """GNU's OpenMP library as PyTorch's CPU library sees it; None where that uses another one, or none."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not hasattr(os, "RTLD_NOLOAD") or not path.is_file():
        return None
    try:
        library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)
    except OSError:
        return None
    is_gnu = hasattr(library, "GOMP_parallel") and not hasattr(library, "__kmpc_fork_call")  # LLVM's and Intel's
    return library if is_gnu else None


class ManagedThreads:
    """Threads that libgomp counts, more than there are cores, asleep until `end`: as long, waiting threads sleep."""

    def __init__(self, library: ctypes.CDLL):
        self.library = library
        self.ended, self.began = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, name="managed-threads", daemon=True)
        self.thread.start()
        self.began.wait()

    def run(self) -> None:
        """Make a team of threads and keep it; libgomp ends it with this thread."""
        nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)  # a function that may be called by all
        n = self.library.omp_get_num_procs() + 1
        self.library.GOMP_parallel(nothing, None, ctypes.c_uint(n), ctypes.c_uint(0))
        self.began.set()
        self.ended.wait()

    def end(self) -> None:
        self.ended.set()
        self.thread.join()


def watch_load(library: ctypes.CDLL) -> None:
    """Look at the load for as long as the process lives, and let threads wait accordingly."""
    before, waiting, managed = read_counters(), Waiting(), None
    while before is not None:
        time.sleep(INTERVAL_S)
        now = read_counters()
        if now is None:
            break
        waiting = waiting.after(load_between(before, now, os.getpriority(os.PRIO_PROCESS, 0)))
        before = now
        if waiting.sleeps and managed is None:
            managed = ManagedThreads(library)
        elif not waiting.sleeps and managed is not None:
            managed.end()
            managed = None


_started = threading.Lock()  # taken once a process


def let_waits_follow_load() -> bool:
    """Let this process's threads wait as the load has it, from here on; False where nothing can or need be done.

    That is where the environment has chosen how threads wait, one thread computes, PyTorch does not use GNU libgomp,
    or the system does not count what processes wait.
    """
    if any(name in os.environ for name in OWN_CHOICE) or torch.get_num_threads() == 1:
        return False
    library = libgomp()
    if library is None or read_counters() is None:
        return False
    if _started.acquire(blocking=False):
        threading.Thread(target=watch_load, args=(library,), name="watch-load", daemon=True).start()
    return True
