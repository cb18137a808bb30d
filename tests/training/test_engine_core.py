"""What engines have in common, without one: the reward door, rollouts to history, processes and their end."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from conftest import ROOT
from hidden_rule.core.errors import UserError
from hidden_rule.task.rewards import reward
from hidden_rule.training.engines import processes
from hidden_rule.training.engines.account import timed
from hidden_rule.training.engines.adapters import check_trained
from hidden_rule.training.engines.processes import Processes, failure
from hidden_rule.training.engines.prompts import ordered_rows
from hidden_rule.training.engines.reward_door import Door, RewardDoor
from hidden_rule.training.engines.rollouts import (
    Rollout,
    Tail,
    check_complete,
    check_rollouts,
    first_error,
    read_rollouts,
    steps_of,
)

LABELS = ["REJECT_RISK", "A_PLUS_TIER"]
SCALE = {"correct": 100, "wrong": -50, "invalid": -100, "near": {"REJECT_RISK": {"A_PLUS_TIER": 25}}}
REPLIES = {  # with the points where REJECT_RISK is right
    '{"decision": "REJECT_RISK"}': 100.0,
    ' {"decision": "REJECT_RISK"}\n': 100.0,  # blanks around it
    '{"decision": "A_PLUS_TIER"}': 25.0,  # near
    '{"decision": "reject_risk"}': -100.0,  # another case
    '{"decision": "REJECT_RISK"} {"decision": "A_PLUS_TIER"}': -100.0,  # two answers
    "REJECT_RISK": -100.0,  # prose
    "": -100.0,
    "\ud800": -100.0,  # half of a pair: no text
}


def open_door(folder: Path, attempt: int = 1, scale: dict = SCALE, **changes) -> RewardDoor:
    rows = [
        {"place": 0, "row": 5, "label": "REJECT_RISK", "tokens": [1, 2, 3], "case": {"nps": 7, "label": "REJECT_RISK"}},
        {"place": 1, "row": 2, "label": "A_PLUS_TIER", "tokens": [1, 2], "case": {"nps": 90, "label": "A_PLUS_TIER"}},
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    door = Door(LABELS, scale, str(folder / "prompts.jsonl"), str(folder / "rollouts"), **changes)
    door.write(folder / "door.json")
    assert Door(**json.loads((folder / "door.json").read_text())) == door
    return RewardDoor(door, attempt, began=100.0)


def test_the_door_pays_what_we_pay_and_writes_it_down(tmp_path):
    door = open_door(tmp_path)
    for reply, points in REPLIES.items():
        assert (
            door.score(reply, 0, n_tokens=4, prompt_ids=[1, 2, 3])
            == points
            == reward(reply, "REJECT_RISK", LABELS, SCALE)
        )
    written = read_rollouts(tmp_path / "rollouts")
    assert [(each.reply, each.points) for each in written] == list(REPLIES.items())
    assert {(each.place, each.n_tokens, each.attempt, each.began) for each in written} == {(0, 4, 1, 100.0)}
    assert [each.predicted for each in written][:4] == ["REJECT_RISK", "REJECT_RISK", "A_PLUS_TIER", None]
    assert first_error(tmp_path / "rollouts") is None


def test_a_unit_is_the_engines_alone(tmp_path):
    assert open_door(tmp_path, unit=50.0).score('{"decision": "REJECT_RISK"}', 0) == 2.0
    assert read_rollouts(tmp_path / "rollouts")[0].points == 100.0


@pytest.mark.parametrize(
    ("place", "ids", "what"),
    [(7, None, "IndexError"), (None, None, "TypeError"), (0, [1, 2, 9], "other tokens of prompt 5: [1, 2, 9]")],
)
def test_the_door_never_raises_and_the_training_fails_by_what_it_noted(tmp_path, place, ids, what):
    assert open_door(tmp_path).score("x", place, prompt_ids=ids) == 0.0
    with pytest.raises(UserError, match=r"\Averl's|errors.jsonl: verl's reward failed") as error:
        check_rollouts(tmp_path / "rollouts", "verl", "the.log")
    assert what in str(error.value) and "the.log" in str(error.value) and "\n" not in str(error.value)


def test_a_reward_of_the_users_own_is_asked_with_its_case_and_blamed_by_its_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def reward(replies, cases):\n"
        "    if cases[0]['nps'] == 90:\n"
        "        raise RuntimeError('boo')\n"
        "    return {'form': [1.0] * len(replies), 'nps': [case['nps'] / 2 for case in cases]}\n",
        encoding="utf-8",
    )
    door = open_door(tmp_path, scale={"file": str(file), "function": "reward"})
    assert door.score("hi", 0) == 4.5
    assert read_rollouts(tmp_path / "rollouts")[0].parts == {"form": 1.0, "nps": 3.5}
    assert door.score("hi", 1) == 0.0
    with pytest.raises(UserError, match="mine.py:3: .*boo"):
        check_rollouts(tmp_path / "rollouts", "verl", "the.log")


def rollout(place: int, points: float, predicted=None, attempt: int = 1, at: float = 0.0, **more) -> Rollout:
    return Rollout(attempt, place, "r", predicted, points, n_tokens=2, parts={}, at=at, began=10.0, **more)


def test_steps_and_their_metrics():
    steps = steps_of(
        [
            rollout(0, 1.0, "A"), rollout(0, 0.0), rollout(1, 1.0, "A"), rollout(1, 1.0, "B"),  # of step 1, two groups
            rollout(2, 0.5, "B"), rollout(3, 0.5, "B"),
        ],
        batch_size=2,
    )  # fmt: skip
    assert [step.number for step in steps] == [1, 2]
    assert steps[0].metrics(["A", "B"]) == {
        "reward": 0.75, "zero_signal_share": 0.5, "invalid_share": 0.25, "predicted_share/A": 0.5,
        "predicted_share/B": 0.25,
    }  # fmt: skip
    assert steps[1].metrics(["A", "B"])["zero_signal_share"] == 1.0


def test_times_go_on_over_attempts():
    first = [rollout(0, 1.0, at=14.0), rollout(0, 1.0, at=15.0), rollout(1, 1.0, at=17.0)]
    second = [
        Rollout(2, 2, "r", None, 1.0, 2, {}, at=108.0, began=100.0),
        Rollout(2, 3, "r", None, 1.0, None, {}, 109.0, 100.0),
    ]
    found = timed(steps_of([*first, *second], batch_size=1), prompt_tokens=[3, 3, 3, 5])
    assert [each.wall_s for each in found] == [5.0, 7.0, 15.0, 16.0]
    assert [each.seconds for each in found] == [None, 2.0, None, 1.0]  # an attempt's first waits for the engine
    assert [each.n_tokens for each in found] == [10, 15, 20, 25]


def test_of_a_place_the_last_attempt_counts_and_a_line_cut_short_does_not(tmp_path):
    open_door(tmp_path, attempt=1).score("old", 0)
    open_door(tmp_path, attempt=1).score("kept", 1)
    open_door(tmp_path, attempt=2).score("new", 0)
    (path,) = (tmp_path / "rollouts").glob("2.*")
    path.write_text(path.read_text() + '{"place": 1, "rep', encoding="utf-8")
    assert [each.reply for each in read_rollouts(tmp_path / "rollouts")] == ["new", "kept"]
    tail = Tail(tmp_path / "rollouts")
    assert tail.last_place(1) == 1 and tail.last_place(2) == 1 and Tail(tmp_path / "rollouts").last_place(2) == 0


def test_missing_replies_are_one_line():
    steps = steps_of([rollout(0, 1.0), rollout(0, 1.0), rollout(1, 1.0)], batch_size=1)
    check_complete(steps[:1], 1, 2, "the.log")
    with pytest.raises(UserError, match="the.log: step 2 scored 1 replies where 2 were to be sampled"):
        check_complete(steps, 2, 2, "the.log")
    with pytest.raises(UserError, match="no reply was scored"):
        check_complete([], 2, 2, "the.log")


def test_prompts_come_in_trls_order_and_in_whole_batches():
    rows = ordered_rows(n_rows=10, epochs=2, batch_size=4, seed=3)
    first, second = (torch.randperm(10, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (3, 4))
    assert rows == first[:8] + second[:8]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"a": torch.zeros(2)}, "a: did not move"),
        ({"a": torch.full((2,), math.nan)}, "a: is not finite"),
        ({"b": None}, "b: is no weight of verl's adapter"),
        ({"a": torch.ones(3)}, "a: verl trained a weight that the adapter does not have, or has in another shape"),
        ({"c": torch.ones(2)}, "c: verl trained a weight that the adapter does not have"),
    ],
)
def test_every_weight_of_an_adapter_has_to_move(change, fault):
    before = {"a": torch.zeros(2), "b": torch.zeros(2)}
    after = {"a": torch.ones(2), "b": torch.ones(2), **change}
    after = {name: weight for name, weight in after.items() if weight is not None}
    if fault is None:
        return check_trained(before, after, "verl", "place")
    with pytest.raises(UserError, match=fault):
        check_trained(before, after, "verl", "place")


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def wait_for(condition, seconds: float = 60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


LEAVES = 'mkdir -p "$0"; for i in 1 2 3; do setsid sh -c \'touch "$0/$$"; exec sleep 1000\' "$0" & done; exit 0'


def test_processes_end_with_their_block_also_those_that_lost_their_parent(tmp_path):
    folder = tmp_path / "pids"
    with Processes(tmp_path / "log") as started:
        parent = started.start(["sh", "-c", LEAVES, str(folder)])
        assert started.wait(parent) == 0  # its children live on, in sessions of their own
        wait_for(lambda: folder.exists() and len(pids(folder)) == 3)
        assert all(psutil.pid_exists(pid) for pid in pids(folder))
    assert not any(psutil.pid_exists(pid) for pid in pids(folder))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_when_ours_is_killed(tmp_path, number):
    code = f"""
import sys
from hidden_rule.training.engines.processes import Processes
with Processes({str(tmp_path / "log")!r}) as started:
    words = "sleep 1000 & echo $! $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait"
    started.wait(started.start(["sh", "-c", words]))
"""
    ours = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for(lambda: (tmp_path / "pid").exists())
    children = [int(pid) for pid in (tmp_path / "pid").read_text().split()]  # a process, and one that it started
    ours.send_signal(number)
    assert ours.wait(60) == (processes.TERMINATED if number == signal.SIGTERM else -number)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in children))


def test_an_engine_that_fails_says_its_last_complaint_and_where_its_log_is(tmp_path):
    log = tmp_path / "rule.log"
    log.write_text("KeyError: of an earlier attempt\n")
    began = log.stat().st_size
    with Processes(log) as started:
        status = started.wait(started.start(["sh", "-c", "echo starting; echo 'x.y.SomeError: it broke' >&2; exit 3"]))
    assert (
        str(failure(log, began, "verl", status))
        == f"{log}: verl ended with status 3: x.y.SomeError: it broke; this file holds its log"
    )
    assert "was killed by signal 9" in str(failure(log, began, "verl", -9))
    assert os.path.getsize(log) > began
