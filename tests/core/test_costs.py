"""Costs: what a disturbed stretch changes and does not, when a machine was busy, and tables without estimates."""

import math
import time

import polars as pl
import pytest

from hidden_rule.core import costs
from hidden_rule.core.costs import Cost, Spent, read_costs, with_nulls, write_costs
from hidden_rule.core.flops import Counts, flops
from hidden_rule.core.laps import STEP, Lap, Laps
from hidden_rule.core.paths import ROOT
from hidden_rule.core.tables import COSTS, write_table
from hidden_rule.core.usage import Snapshot, Usage

IDLE = [1.0] * 100
ONE_STRETCH = [1.0] * 60 + [20.0] * 40


def laps_of(seconds, kind=STEP, units=1.0, waited=0.0) -> Laps:
    """Laps of `seconds` each, of which their thread waited a share `waited` for a core."""
    laps = Laps()
    laps.laps = [Lap(kind, s, s, units, waited * s) for s in seconds]
    return laps


def spent(seconds, waited=0.0, rest=5.0, rest_cpu=5.0, **changes) -> Spent:
    """A job of steps and `rest` seconds of other work, of whose threads' ready time a share `waited` was waiting."""
    laps = laps_of(seconds)
    ran = laps.cpu_s + rest_cpu
    took = Usage(laps.seconds + rest, ran, ran, ran, None if waited is None else ran * waited / (1 - waited))
    return Spent(took, laps, **changes)


@pytest.mark.parametrize(
    ("job", "idle_s"),
    [
        (spent(IDLE), 105.0),
        (spent(ONE_STRETCH), 105.0),  # 40 of 100 steps took twenty times as long
        (spent([1.0] * 99 + [3600.0]), 105.0),  # a laptop that slept
        (spent(IDLE, rest=65.0), 105.0),  # waited a minute for a file: loading takes what its CPU took
        (spent(IDLE, rest=5.0, rest_cpu=9.0), 105.0),  # loading with two threads takes its wall seconds
        (spent([], rest=3.0, rest_cpu=2.5), 2.5),  # no step at all
        (spent(IDLE, again=Usage(4.0, 3.0)), 101.0),  # the first loading of a resumed job is in no new run
    ],
)
def test_seconds_on_an_idle_machine_by_hand(job, idle_s):
    assert job.idle_s == pytest.approx(idle_s)


def test_waiting_for_a_core_is_no_work():
    """A run that was disturbed from start to end: no step tells, the kernel's counters do."""
    job = Spent(Usage(300.0, 100.0, 600.0, 100.0, 200.0), laps_of([3.0] * 100, waited=2 / 3))
    assert job.idle_s == pytest.approx(100.0) and job.laps.typical_s(STEP) == pytest.approx(1.0)
    assert job.is_disturbed


def test_steps_that_compute_more_take_longer():
    """GRPO after SFT: in most steps no group has a signal, and their median is no measure of the others."""
    laps = laps_of([0.2] * 60)
    laps.laps += laps_of([0.6] * 40, units=3.0).laps
    job = Spent(Usage(laps.seconds + 5.0, laps.cpu_s + 5.0, 0.0, laps.cpu_s + 5.0, 0.0), laps)
    assert job.idle_s == pytest.approx(60 * 0.2 + 40 * 0.6 + 5.0) and not job.is_disturbed
    assert laps.typical_s(STEP) == 0.2 and Laps().typical_s(STEP) is None


def test_kinds_of_laps_have_rates_of_their_own():
    laps = laps_of([2.0, 2.0, 9.0])
    laps.laps += laps_of([1.0, 4.0], "structured", 100.0).laps + laps_of([0.5], "structured", 10.0).laps
    assert laps.rates() == {STEP: 2.0, "structured": 0.04}  # of 0.01, 0.04 and 0.05 s a position
    assert laps.undisturbed_s == pytest.approx(3 * 2.0 + 210 * 0.04)
    assert (laps.count(STEP), laps.seconds) == (3, 18.5)
    assert Laps(laps.as_json()).laps == laps.laps


@pytest.mark.parametrize(
    ("job", "busy"),
    [
        (spent(IDLE), False),
        (spent(ONE_STRETCH), True),
        (spent([0.9, 1.1] * 50), False),  # steps differ
        (spent([1.0] * 50 + [1.5] * 25), False),  # a sixth in all
        (spent([0.05] * 8 + [0.9]), False),  # a first step that warms up: less than a second is no load
        (spent([5.0] * 100, waited=0.5), True),  # slow from start to end: the median tells nothing, waiting does
        (spent(IDLE, waited=0.1), False),  # a program of low priority beside it
        (spent([1.0], rest=0.0, rest_cpu=0.0, waited=0.5), False),  # over in a second
        (spent([1.0], rest=60.0), False),  # one step, whose length nothing is known of
    ],
)
def test_when_a_machine_was_busy(job, busy):
    assert job.is_disturbed == busy


def test_without_counters_of_waiting_cores_are_counted(monkeypatch):
    monkeypatch.setattr(costs, "n_cores", lambda: 4)

    def beside(others, threads):
        wall = 100.0
        return Spent(Usage(wall, 90.0, 90.0 + others * wall, 90.0, None), threads=threads)

    assert not beside(others=2.0, threads=2).is_disturbed  # there is a core for each
    assert beside(others=3.0, threads=2).is_disturbed
    assert beside(others=9.0, threads=2).crowded_share == 1.0
    assert not beside(others=0.2, threads=4).is_disturbed  # 5% of what it wants
    assert beside(others=3.0, threads=2).waited_share is None


def test_a_row_holds_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "load_average", lambda: None)  # a system without one
    job = spent(ONE_STRETCH, load_start=3.5, cpu_beside_s=7.0)
    row = Cost("sft", 1, "train", 500, 20, 10, "a GPU", n_gpus=2, n_positions=400, flops=1e15).row(job)
    write_costs(tmp_path / "cost.parquet", row, Cost("sft", 1, "evaluate").row(Spent(Usage(1.0, 1.0, 1.0, 0.0, None))))
    first, second = read_costs(tmp_path / "cost.parquet").to_dicts()
    wall = 865.0
    assert {name: first[name] for name in ("wall_s", "gpu_s", "cpu_s")} == {
        "wall_s": wall, "gpu_s": 2 * wall, "cpu_s": wall + 7.0,
    }  # fmt: skip
    assert (first["n_steps"], first["step_s"], first["idle_s"], first["is_disturbed"]) == (100, 1.0, 105.0, True)
    assert (first["load_start"], first["load_end"], first["flops"]) == (3.5, None, 1e15)
    nothing = ["n_steps", "step_s", "n_positions", "flops", "waited_share"]
    assert [second[name] for name in nothing] == [None] * 5 and second["gpu_s"] == 0


def test_a_stretch_of_this_process():
    outer = time.perf_counter()
    begun = Snapshot()
    inner = time.perf_counter()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        math.sqrt(2.0)
    time.sleep(0.05)
    least = time.perf_counter() - inner  # 0.05 s of computing may take less: of two threads, 0.025
    used = begun.usage()
    assert least <= used.wall_s <= time.perf_counter() - outer
    assert 0.05 <= used.ran_s <= used.cpu_s + 0.02 and used.cpu_s < used.wall_s
    assert used.waited_s is None or used.waited_s >= 0
    both = Snapshot(waited_s=None).usage() + used
    assert both.waited_s is None and both.wall_s >= used.wall_s


def test_tables_of_before_there_were_estimates_are_read(tmp_path):
    published = read_costs(ROOT / "results" / "published" / "rl-fair" / "costs.parquet")
    assert published.schema == COSTS and published.height
    full = with_nulls(pl.DataFrame({"condition": ["sft"], "wall_s": [2.0]}))
    write_table(full, tmp_path / "costs.parquet", COSTS)
    assert read_costs(tmp_path / "costs.parquet").equals(full)


def test_operations_of_a_training_by_hand():
    # N 100, LoRA 10, output layer 1000: 8 positions with gradients and 2 without, of which 3 and 1 are scored
    counts = Counts(8, 8, 3, 3) + Counts(2, 0, 1, 0)
    assert flops(counts, n=100, lora=10, head=1000) == 2 * (110 * 10 + 1000 * 4) + 2 * (120 * 8 + 1000 * 3)
    assert counts - Counts(2, 0, 1, 0) == Counts(8, 8, 3, 3)
