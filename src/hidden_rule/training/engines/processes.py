"""An engine's processes: each ends with us, however we end.

What is started here is killed by the kernel when this process dies (PR_SET_PDEATHSIG), and what its processes leave
behind becomes a child of ours (PR_SET_CHILD_SUBREAPER), so that it can be found and ended by its id, and its CPU time
counts. What they started themselves a watcher ends, should we be killed: a process that waits for the end of a pipe to
us, and kills what is left of their sessions. All that is Linux's, where alone these engines run.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import psutil

from hidden_rule.core.errors import UserError

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 10.0  # between SIGTERM and SIGKILL
POLL_S = 0.5
TERMINATED = 128 + signal.SIGTERM
WATCHER = """
import os, signal, sys, time
lines = sys.stdin.read().split()  # until the pipe ends
for _ in range(0 if "done" in lines else 5):
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if str(os.getsid(int(name))) in lines:
                os.kill(int(name), signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.2)
"""
LIBC = ctypes.CDLL(None)  # loaded here: a child of a process with threads must not load anything


def _prctl(option: int, value: int) -> None:
    LIBC.prctl(option, value, 0, 0, 0)


def _dying_with(parent: int) -> Callable[[], None]:
    """What a child of process `parent` calls before its program starts."""

    def prepare() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)

    return prepare


class Processes:
    """A block in which an engine's processes run; at its end all of them are ended, also those that they started.

    Within it SIGTERM ends this process with status 143, through the block's end. `log`: the file to which everything
    that they print is appended.
    """

    def __init__(self, log):
        self.log = Path(log)
        self._before: set[int] = set()
        self._handler = None

    def __enter__(self) -> "Processes":
        if sys.platform != "linux":
            raise UserError("config.yaml", "conditions", "engines but trl run on Linux alone", "take engine: trl")
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHER], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self._pipe = cast(IO[str], self._watcher.stdin)
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        self._handler = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
        return self

    def start(self, words: list[str], variables: dict[str, str] | None = None) -> subprocess.Popen:
        """Start a command; `variables`: of its environment, beside ours."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                words,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal reaches us alone, and we end it
                preexec_fn=_dying_with(os.getpid()),
            )
        self._tell(str(process.pid))  # its session's id, too
        return process

    def _tell(self, line: str) -> None:
        """Write a line to the watcher."""
        with contextlib.suppress(BrokenPipeError):  # it was killed: the kernel's own way is left
            self._pipe.write(f"{line}\n")
            self._pipe.flush()

    def wait(self, process: subprocess.Popen, look: Callable[[], None] = lambda: None) -> int:
        """Wait for a process and return its exit status; `look` is called twice a second, and may raise."""
        while (status := process.poll()) is None:
            look()
            time.sleep(POLL_S)
        return status

    def __exit__(self, *error) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one does not leave half of them behind
        try:
            end_all(self.descendants())
            self._tell("done")
        finally:
            with contextlib.suppress(BrokenPipeError):
                self._pipe.close()
            self._watcher.wait()
            signal.signal(signal.SIGTERM, self._handler or signal.SIG_DFL)
            _prctl(PR_SET_CHILD_SUBREAPER, 0)

    def descendants(self) -> list[psutil.Process]:
        """Every process that runs because of this block."""
        return [child for child in psutil.Process().children(recursive=True) if child.pid not in self._before]


def end_all(found: list[psutil.Process]) -> None:
    """End processes by their ids: SIGTERM, and SIGKILL for those that are still there after GRACE_S."""
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=GRACE_S)
    while alive:  # what they started meanwhile, too
        more = [child for process in alive for child in _children(process)]
        for process in [*alive, *more]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs([*alive, *more], timeout=GRACE_S)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def last_lines(log, start: int, n: int = 30) -> list[str]:
    """The last lines of a log that were written after byte `start`."""
    with Path(log).open("rb") as stream:
        stream.seek(start)
        return stream.read().decode("utf-8", "replace").splitlines()[-n:]


def failure(log, start: int, engine: str, status: int) -> UserError:
    """The error of an engine that ended with a status other than 0: its own last complaint, and where its log lies."""
    lines = [line.strip() for line in last_lines(log, start, 400)]
    said = [line for line in lines if _complains(line)]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    reason = f": {said[-1][-300:]}" if said else ""
    return UserError(log, None, f"{engine} {how}{reason}", "this file holds its log")


def _complains(line: str) -> bool:
    """Whether a line is the last one of a traceback."""
    name, colon, _ = line.partition(":")
    last = name.rsplit(" ", 1)[-1].rsplit(".", 1)[-1]
    return bool(colon) and last.endswith(("Error", "Exception", "Interrupt")) and last[:1].isupper()
