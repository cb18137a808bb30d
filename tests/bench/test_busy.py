"""The benchmark of a busy machine: turns by a clock of our own, programs beside, and its table from planted figures."""

import io
import itertools
import json
import sys
from types import SimpleNamespace

import pytest

import busy
from hidden_rule.report.documentation import busy_table


@pytest.mark.parametrize(
    ("turn", "steps_s", "counted"),
    [
        ({"warm_s": 0, "seconds": 0, "steps": 2}, [1, 2, 3, 4, 5], [2, 3]),  # the first step is never counted
        ({"warm_s": 0, "seconds": 9, "steps": 2}, [1, 2, 3, 4, 5], [2, 3, 4]),  # 9 s are over within the fourth
        ({"warm_s": 4, "seconds": 3, "steps": 2}, [1, 2, 2, 2, 9], [2, 2]),  # warm after the third, which ends at 5 s
        ({"warm_s": 4, "seconds": 0, "steps": 1}, [30, 7, 9], [7]),
    ],
)
def test_what_of_a_turn_counts(monkeypatch, capsys, turn, steps_s, counted):
    clock = itertools.accumulate([0, *steps_s])
    monkeypatch.setattr(busy, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    lines = [json.dumps({"what": "other", **turn}), json.dumps({"what": "sft", **turn})]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    for _ in busy.turns("sft"):
        pass
    assert json.loads(capsys.readouterr().out) == counted


def test_programs_end_with_what_is_measured(monkeypatch):
    started = []
    popen = busy.subprocess.Popen
    monkeypatch.setattr(busy.subprocess, "Popen", lambda *args, **kw: started.append(popen(*args, **kw)) or started[-1])
    with busy.beside(busy.Beside("two", 2, 19, "import time; time.sleep(60)")):
        assert len(started) == 2 and all(process.poll() is None for process in started)
    assert all(process.poll() is not None for process in started)


def test_the_table_of_planted_figures():
    results = {
        "date": "2030-01-02T03:04:05+00:00",
        "hardware": {"cpu": "A Processor", "cores": 2},
        "versions": {"torch": "1.0"},
        "words": {
            "items": {"sft": "a step"},
            "beside": {"x": "nothing", "y": "much"},
            "ways": {"ours": "O", "one": "I"},
        },
        "items": {
            "sft": {"y": {"ours": [2.0, 3.0, 9.0], "one": [2.0, 2.5, 150.0]}, "x": {"ours": [1], "one": [149.6]}}
        },
    }
    assert busy_table(results).splitlines() == [
        "| a step, s; beside it | O | I | ours / fastest |",
        "| --- | --- | --- | --- |",
        "| nothing | 1.00 | 150 | 1.00 |",  # rows in the order of the words
        "| much | 3.00 | 2.50 | 1.20 |",
        "",
        "Medians of 1 to 3 measurements each, taken in turns, the first seconds of a turn not counted. A Processor, "
        "2 cores, torch 1.0; 2030-01-02.",
    ]
