"""How threads wait: the choice by planted loads, and libgomp itself in a process of its own."""

import os
import subprocess
import sys

import pytest
import torch

from hidden_rule.core.load import Load, read_counters
from hidden_rule.kernels import waiting
from hidden_rule.kernels.waiting import Waiting

ALONE, TAKEN, LOW = Load(1, 2.0, 0.01, 0.0), Load(1, 1.3, 0.4, 1.0), Load(1, 1.8, 0.1, 0.0)
IDLE_TAKEN = Load(1, 0.01, 0.9, 1.9)  # hardly computes, but waits
STARVED = Load(1, 0.02, 0.98, 2.0)  # would compute on a whole core, and gets none
GONE, STILL_THERE = Load(1, 1.6, 0.0, 0.02), Load(1, 1.2, 0.02, 1.0)  # while threads sleep


def states(loads, start=None):
    """Whether threads sleep after each load."""
    state, found = start or Waiting(), []
    for load in loads:
        state = state.after(load)
        found.append(state.sleeps)
    return found


@pytest.mark.parametrize(
    ("loads", "sleeps"),
    [
        ([ALONE] * 3, [False] * 3),
        ([LOW] * 5, [False] * 5),  # programs of lower priority take little
        ([IDLE_TAKEN] * 3, [False] * 3),  # a process that does not compute has no barriers
        ([ALONE, TAKEN], [False, True]),
        ([TAKEN, TAKEN, IDLE_TAKEN, ALONE], [True, True, False, False]),  # it paused: the others may have ended
        ([TAKEN, STARVED, STARVED], [True] * 3),
        ([STARVED], [True]),
        ([TAKEN, STILL_THERE, STILL_THERE, STILL_THERE, STILL_THERE, STILL_THERE], [True] * 6),
        ([TAKEN, GONE, GONE, ALONE], [True, True, False, False]),  # 2 s of few others
        ([TAKEN, GONE, STILL_THERE, GONE, GONE], [True, True, True, True, False]),  # in a row
        ([TAKEN, GONE, GONE, TAKEN, GONE, GONE, GONE, GONE], [True, True, False, True, True, True, True, False]),
    ],
)
def test_waiting_follows_the_load(loads, sleeps):
    assert states(loads) == sleeps


def test_spinning_that_fails_is_tried_less_and_less_often():
    """Beside something that takes cores only from threads that spin, or that counts as no load."""
    state, attempts = Waiting(), 0
    for _ in range(600):
        state = state.after(GONE if state.sleeps else TAKEN)
        attempts += not state.sleeps
    assert attempts <= 15  # seconds of 600


def test_spinning_is_tried_now_and_then_beside_others_too():
    """They may give way: by nice values, or weights of control groups."""
    assert states([TAKEN] + [STILL_THERE] * 29 + [STILL_THERE] + [LOW] * 3) == [True] * 30 + [False] * 4
    state, attempts = Waiting(), 0
    for _ in range(3600):
        state = state.after(STILL_THERE if state.sleeps else TAKEN)
        attempts += not state.sleeps
    assert attempts <= 10  # seconds of an hour


def test_patience_is_short_again_after_calm():
    state = Waiting(patience_s=waiting.LAST_PATIENCE_S)
    for load in [ALONE] * 61 + [TAKEN]:
        state = state.after(load)
    assert state == Waiting(True, patience_s=waiting.FIRST_PATIENCE_S)


needs_libgomp = pytest.mark.skipif(
    waiting.libgomp() is None or read_counters() is None or waiting.libgomp().omp_get_num_procs() < 2,
    reason="needs GNU libgomp, Linux and two cores",
)

IN_A_PROCESS = """
import threading, time, torch
from hidden_rule.kernels.waiting import ManagedThreads, let_waits_follow_load, libgomp
torch.set_num_threads(2)
x = torch.randn(1 << 18)

def spent():
    total = 0.0
    for _ in range(20):
        x * 2.0
        began = time.process_time()
        time.sleep(0.02)  # this thread sleeps; the other one waits for the next product
        total += time.process_time() - began
    return total

spent()
spinning = spent()
managed = ManagedThreads(libgomp())
sleeping = spent()
result = (x.sum(), (x[:4096].view(64, 64) @ x[:4096].view(64, 64)).sum())
managed.end()
again = spent()
assert result[0] == x.sum() and result[1] == (x[:4096].view(64, 64) @ x[:4096].view(64, 64)).sum()
print(spinning, sleeping, again)

assert let_waits_follow_load() and let_waits_follow_load()
assert sum(thread.name == "watch-load" for thread in threading.enumerate()) == 1
"""


@needs_libgomp
def test_threads_sleep_at_barriers_as_long_as_libgomp_manages_more_of_them():
    environment = {name: value for name, value in os.environ.items() if name not in waiting.OWN_CHOICE}
    command = [sys.executable, "-c", IN_A_PROCESS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    spinning, sleeping, again = map(float, done.stdout.split())
    assert sleeping < 0.2 * spinning and sleeping < 0.2 * again


@needs_libgomp
@pytest.mark.parametrize(("n", "name"), [(1, None), (2, "OMP_WAIT_POLICY"), (2, "GOMP_SPINCOUNT")])
def test_who_has_chosen_or_has_one_thread_is_left_alone(monkeypatch, n, name):
    for own in waiting.OWN_CHOICE:
        monkeypatch.delenv(own, raising=False)
    if name:
        monkeypatch.setenv(name, "active")
    monkeypatch.setattr(torch, "get_num_threads", lambda: n)
    assert not waiting.let_waits_follow_load()


def test_another_openmp_or_system_is_left_alone(monkeypatch):
    for name in waiting.OWN_CHOICE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(waiting, "libgomp", lambda: None)
    assert not waiting.let_waits_follow_load()
    monkeypatch.undo()
    monkeypatch.delattr(os, "RTLD_NOLOAD", raising=False)
    assert waiting.libgomp() is None
