"""A reward that never returns, or returns without end, is one line that names file, line, reply and case."""

import re
import subprocess
import sys
import threading

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.task import reward_file, reward_limit
from hidden_rule.task.reward_file import load_reward
from hidden_rule.task.reward_trial import try_reward

LABELS = ("YES", "NO")
CASES = [{"size": 3, "label": "YES"}, {"size": 9, "label": "NO"}]
QUICK = {reward_file: {"CALL_S": 0.2, "REPLY_S": 0.01, "IMPORT_S": 0.3}, reward_limit: {"TICK_S": 0.05, "WAITING": 2.0}}
TO_FIRST = r"""for the reply '\{"decision": "YES"\}' to the case \{"size": 3, "label": "YES"\}"""


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """The line that a reward file is refused with, the limits a small part of what they are."""
    monkeypatch.chdir(tmp_path)
    for module, limits in QUICK.items():
        for name, seconds in limits.items():
            monkeypatch.setattr(module, name, seconds)

    def refusal(text: str) -> str:
        (tmp_path / "my.py").write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            try_reward(load_reward("my.py", "reward"), LABELS, CASES)
        return str(caught.value)

    return refusal


DEF = "def reward(replies, cases):\n"
ENDLESS = {
    "loop": (DEF + "    while True:\n        pass", rf"my.py:[23]: reward\(\): does not return in time {TO_FIRST}; "),
    "helper": ("def help():\n    while 1: pass\n" + DEF + "    help()", f"my.py:2: .* in time {TO_FIRST}"),
    "some": (DEF + "    while '' in replies: pass\n    return [1.0 for _ in replies]", "my.py:2: .* the reply '' to"),
    "case": (
        DEF + "    while 9 in [case['size'] for case in cases]: pass\n"
        "    return [float('YES' in reply) for reply in replies]",
        r"""in time for the reply '\{"decision": "NO"\}' to the case \{"size": 9, "label": "NO"\}""",
    ),
    "waits": ("import time\n" + DEF + "    time.sleep(1e6)", f"my.py:3: .* in time {TO_FIRST}"),
    "regex": ("import re\n" + DEF + "    re.match('(a|aa)+b', 'a' * 90)", f"my.py:3: .* in time {TO_FIRST}"),
    "catches": (
        DEF + "    while True:\n        try:\n            1 / 0\n        except Exception:\n            pass",
        f"my.py:[2-6]: .* in time {TO_FIRST}",
    ),
    "yields": (DEF + "    while True:\n        yield 1.0", r"my.py:1: reward\(\): returns more than 16 values for 16 "),
    "counts": (
        "import itertools\n" + DEF + "    return {'a': itertools.count()}",
        r"my.py:2: reward\(\): returns more than 16 values as 'a' for 16 replies",
    ),
    "lazy": (DEF + "    return map(lambda reply: 1 / 0, replies)", r"my.py:2: reward\(\): raises ZeroDivisionError: "),
    "import": ("x = 1\nwhile x: pass", "my.py:2: does not end in time when it is imported; let it end"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_returns(refusal, text, expected):
    line = refusal(text)
    assert re.search(expected, line), line
    assert "\n" not in line


def test_what_catches_every_error_ends_the_process(tmp_path):
    """Nothing else would: the function goes on whatever is raised in it."""
    (tmp_path / "my.py").write_text(
        DEF + "    while True:\n        try:\n            pass\n        except:\n            pass"
    )
    limits = "reward_limit.PATIENCE = 0; " + "; ".join(  # it is not always caught: an error may fall between two tries
        f"{module.__name__.rsplit('.', 1)[1]}.{name} = {seconds}"
        for module, of in QUICK.items()
        for name, seconds in of.items()
    )
    program = f"""from hidden_rule.task import reward_file, reward_limit
{limits}
reward_file.load_reward("my.py", "reward").score(["x"], [{{"label": "YES"}}])"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    found = re.fullmatch(
        r"error: my.py:[2-6]: reward\(\): does not return in time for the reply 'x' to the case .*\n", ran.stderr
    )
    assert found, ran.stderr


def test_the_limit_leaves_no_trace(refusal, tmp_path):
    import signal

    before = signal.getsignal(signal.SIGALRM)
    (tmp_path / "my.py").write_text(DEF + "    return [1.0 for reply in replies]", encoding="utf-8")
    own = load_reward("my.py", "reward")
    assert own.points(["x"], CASES[:1]) == [1.0]
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    found: list = []  # another thread gets no signals: there it runs without a limit
    thread = threading.Thread(target=lambda: found.extend(own.points(["x", "y"], CASES)))
    thread.start()
    thread.join()
    assert found == [1.0, 1.0]
