"""A time limit for a user's own code: what never returns ends with the line at which it was.

Time of the processor counts, so that a busy machine stops nothing that goes on; what waits without computing may take
WAITING times as long.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from hidden_rule.core.logs import print_error

TICK_S = 0.5  # between two looks at the clock
WAITING = 12.0
PATIENCE = 4  # times that code may catch what stops it


class TooLongError(BaseException):
    """Code took too long; `line`: of the user's file, where it was then. No `except Exception` stops it."""

    def __init__(self, line: int | None):
        super().__init__(line)
        self.line = line


@contextlib.contextmanager
def time_limit(seconds: float, line_of: Callable, last_words: Callable[[TooLongError], object]) -> Iterator[None]:
    """Raise TooLongError in a block that computes for more than `seconds`, or waits for WAITING times as long.

    line_of: the line of the user's file in a frame and those that called it, or None. Code that catches even this error
    ends the process, with `last_words` as its error. Without effect but in the main thread, which alone gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    computed, waited, n_raised = time.thread_time(), time.monotonic(), 0

    def look(signum, frame) -> None:
        nonlocal n_raised
        if time.thread_time() - computed <= seconds and time.monotonic() - waited <= WAITING * seconds:
            return
        n_raised += 1
        error = TooLongError(line_of(frame))
        if n_raised > PATIENCE:
            print_error(str(last_words(error)))
            sys.stderr.flush()
            os._exit(1)
        raise error

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
