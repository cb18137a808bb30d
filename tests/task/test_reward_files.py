"""Rewards of a user's own: what each file gets wrong is one line that names it, before anything trains."""

import json

import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.task.reward_file import cases_of, load_reward, plain_text
from hidden_rule.task.reward_trial import chosen_cases, drawn_cases, try_reward
from hidden_rule.task.rewards import OwnRewards, TableRewards, added_rows
from hidden_rule.task.ruleset import load_ruleset

LABELS = ("YES", "NO")
CASES = [{"size": 3, "label": "YES"}, {"size": 9, "label": "NO"}]
EACH = "for r, c in zip(replies, cases)"
RIGHT = """
import json
def right(reply, case):
    try:
        return json.loads(reply)["decision"] == case["label"]
    except (ValueError, TypeError, KeyError):
        return False
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file `my.py`, EACH in it written out, and return its path, relative to the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "my.py").write_text(text.replace("EACH", EACH), encoding="utf-8")
        return "my.py"

    return write


def refusal(file: str, name: str = "reward") -> str:
    with pytest.raises(UserError) as caught:
        try_reward(load_reward(file, name), LABELS, CASES)
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    return message


ACCEPTED = [
    "def reward(replies, cases):\n    return [float(right(r, c)) EACH]",
    # parts, one of which is 0 throughout
    "def reward(replies, cases):\n    return {'right': [right(r, c) * 5 EACH], 'x': [0] * len(cases)}",
    # points that depend on the case
    "def reward(replies, cases):\n    return [right(r, c) * c['size'] - 1 EACH]",
    # numpy
    "import numpy\ndef reward(replies, cases):\n    return numpy.array([2.0 * right(r, c) EACH])",
    # a generator, other names, defaults
    "def reward(a, b, scale=2):\n    for r, c in zip(a, b):\n        yield scale * right(r, c)",
    # what it is given is its own: emptying it changes nothing
    "def reward(replies, cases):\n    out = [right(r, c) * 1 EACH]\n    cases[0].clear()\n    return out",
    # printing does not disturb programs that read the workflow's output
    "print('loaded')\ndef reward(replies, cases):\n    print('asked')\n    return [1.0 * right(r, c) EACH]",
    # dataclasses look their module up
    "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 1\n"
    "def reward(replies, cases):\n    return [P().x * right(r, c) EACH]",
]


@pytest.mark.parametrize("text", ACCEPTED, ids=range(len(ACCEPTED)))
def test_accepted(write, capsys, text):
    future = "from __future__ import annotations\n"  # has to come first
    file = write(future + RIGHT + text.removeprefix(future) if text.startswith(future) else RIGHT + text)
    own = load_reward(file, "reward")
    try_reward(own, LABELS, CASES)
    first, second = own.points(['{"decision": "YES"}'] * 2, CASES)
    assert first > second
    assert capsys.readouterr().out == ""


VALUES = "def reward(replies, cases):\n    return "
REFUSED = [
    # does not load
    ("def reward(replies, cases)\n    return []", "my.py:1: is not Python (expected ':'); correct it"),
    ("def reward(replies, cases):\n\treturn []\n        x", "my.py:3: is not Python (inconsistent use of tabs"),
    ("", "my.py: has no function 'reward'; define reward(replies, cases)"),
    ("def rewards(replies, cases): ...", "my.py: has no function 'reward'; did you mean rewards?"),
    ("def score(completions, **kw): ...", "my.py: has no function 'reward'; set reward.function: score"),
    ("from math import sqrt\nx = 1", "my.py: has no function 'reward'; define reward(replies, cases)"),
    ("reward = 5", "my.py: reward: is 5, no function; define reward(replies, cases)"),
    ("import nowhere_at_all", "my.py:1: cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all';"),
    ("x = 1\ny = x / 0", "my.py:2: raises ZeroDivisionError: division by zero when it is imported; correct the line"),
    ("import sys\nsys.exit(3)", "my.py:2: raises SystemExit: 3 when it is imported"),
    ("async def reward(r, c): return []", "my.py:1: reward(): is async; define it with def"),
    # cannot be called
    ("\ndef reward(replies): return [1.0]", "my.py:2: reward(): cannot be called with replies and cases (t"),
    ("def reward(replies, cases, more): return []", "my.py:1: reward(): cannot be called with replies and cases (m"),
    ("def reward(*, replies, cases): return []", "my.py:1: reward(): cannot be called with replies and cases (t"),
    # returns something else than a finite number a reply
    (VALUES + "None", "my.py:1: reward(): returns None; return a list of finite numbers, one a reply"),
    (VALUES + "1.0", "my.py:1: reward(): returns 1.0; return a list"),
    (VALUES + "'1' * len(replies)", "my.py:1: reward(): returns '1111"),
    (VALUES + "{}", 'my.py:1: reward(): returns {}; return parts as {"name": [points, …]}'),
    (VALUES + "{1: [1.0] * len(replies)}", "my.py:1: reward(): returns {1: [1.0, "),
    (VALUES + "set(replies)", "my.py:1: reward(): returns {'"),
    (VALUES + "[1.0]", "my.py:1: reward(): returns 1 value for 16 replies; return a list"),
    (VALUES + "{'a': [1.0] * len(replies), 'b': []}", "my.py:1: reward(): returns 0 values as 'b' for 16 replies"),
    (VALUES + "[float('nan') for r in replies]", "my.py:1: reward(): returns nan for the reply '{\"dec"),
    (VALUES + "[None for r in replies]", "my.py:1: reward(): returns None for the reply"),
    (VALUES + "[True for r in replies]", "my.py:1: reward(): returns True for the reply"),
    (VALUES + "['1' for r in replies]", "my.py:1: reward(): returns '1' for the reply"),
    (VALUES + "[1j for r in replies]", "my.py:1: reward(): returns 1j for the reply"),
    (VALUES + "[[1.0] for r in replies]", "my.py:1: reward(): returns [1.0] for the reply"),
    (VALUES + "[10 ** 400 for r in replies]", "my.py:1: reward(): returns 10000"),
    (VALUES + "[-1e7 for r in replies]", "my.py:1: reward(): returns -10000000.0, more than 1,000,000 in size, for"),
    (VALUES + "{'a': [1.0 if r else None for r in replies]}", "my.py:1: reward(): returns None as 'a' for the reply"),
    # raises
    (
        "import json\n" + VALUES + "[float(json.loads(r)['decision'] == c['label']) EACH]",
        "my.py:3: reward(): raises JSONDecodeError: Expecting value: line 1 column 1 (char 0) for the reply '' to the "
        'case {"size": 3, "label": "YES"}; correct the line: whatever a policy replies earns points',
    ),
    (VALUES + "[c['sise'] for c in cases]", "my.py:2: reward(): raises KeyError: 'sise' for the reply"),
    (VALUES + "1 / (len(replies) == 1) and [1.0]", "my.py:2: reward(): raises ZeroDivisionError: division by zero for"),
    ("import sys\n" + VALUES + "sys.exit(1)", "my.py:3: reward(): raises SystemExit: 1 for the reply"),
    # another reply earns as much as the right one
    (
        VALUES + "[0.0 for r in replies]",
        'my.py:1: reward(): pays 0 for the right reply, {"decision": "YES"}, and 0 for the reply '
        '\'{"decision": "NO"}\' to the case {"size": 3, "label": "YES"}; pay most for the right reply',
    ),
    (VALUES + "[float(c['label'] in r) EACH]", "and 1 for the reply 'The decision is YES.'"),
    (VALUES + "[float('\"YES\"' in r) for r in replies]", "and 1 for the reply '{\"decision\": [\"YES\", \"NO\"]}'"),
    (VALUES + "[-float(len(r)) for r in replies]", "and -18 for the reply '{\"decision\": \"NO\"}'"),
    (VALUES + "[(r == '{\"decision\": \"%s\"}' % c['label']) * 1e-9 + 1e4 EACH]", "pays 10000 for"),
    # two calls differ
    (RIGHT + "import random\n" + VALUES + "[right(r, c) + random.random() / 9 EACH]", "in a second call"),
    (RIGHT + "n = [0]\n" + VALUES + "[right(r, c) + n[0] EACH if not n.insert(0, n[0] + .001)]", "in a second"),
    (RIGHT + VALUES + "[right(r, c) - i / 999 for i, (r, c) in enumerate(zip(replies, cases))]", "in another order"),
    (RIGHT + VALUES + "[right(r, c) - 1 / len(replies) EACH]", "alone"),
    (RIGHT + VALUES + "{n: [right(r, c) * 1. EACH] for n in (['a', 'b'] if '' in replies else ['a'])}",
     "returns other parts than before ('a', and before 'a', 'b')"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_refused(write, text, expected):
    assert expected in refusal(write(text))


def test_faults_of_the_path(write, tmp_path):
    write("")
    (tmp_path / "folder").mkdir()
    assert refusal("nix.py") == "nix.py: no such file; check the path"
    assert refusal("folder") == "folder: is a folder; name a file"
    (tmp_path / "my.py").write_bytes(b"\xff\xfe")
    assert "UTF-8" in refusal("my.py")
    assert refusal(write("def f(r, c): ...\n"), "g") == "my.py: has no function 'g'; set reward.function: f"


def test_the_file_is_read_anew_and_stands_alone(write, tmp_path, monkeypatch):
    import sys

    before = list(sys.path)
    (tmp_path / "helper.py").write_text("x = 1\n", encoding="utf-8")
    assert "my.py:1: cannot be imported: ModuleNotFoundError: No module named 'helper'" in refusal(
        write("import helper")
    )
    for points in (
        1.0,
        2.0,
    ):  # of one size and, perhaps, one time: bytecode of the first would be taken for the second's
        own = load_reward(write(f"def reward(replies, cases): return [{points}] * len(replies)"), "reward")
        assert own.points(["x"], CASES[:1]) == [points]
    assert sys.path == before
    assert not (tmp_path / "__pycache__").exists()


def test_an_error_in_training_names_reply_and_case(write):
    text = RIGHT + "def reward(replies, cases):\n    return [right(r, c) / (c['size'] - 7) EACH]"
    own, cases = load_reward(write(text), "reward"), [*CASES, {"size": 7, "label": "NO"}]
    rewards = OwnRewards(own, LABELS, cases)
    assert rewards.earned(['{"decision": "NO"}', ""], ["NO", "NO"], [1, 1]) == {"": [0.5, 0.0]}
    where = (
        "my.py:9: reward(): raises ZeroDivisionError: division by zero for the reply "
        '\'{"decision": "YES"}\' to the case {"size": 7, "label": "NO"}'
    )
    with pytest.raises(UserError) as caught:
        rewards.of_replies(["NO"], [2])
    assert str(caught.value).startswith(where)
    with pytest.raises(UserError) as caught:
        rewards.earned(["", '{"decision": "YES"}'], ["YES", "NO"], [0, 2])
    assert str(caught.value).startswith(where)


def test_equal_replies_are_asked_once_and_parts_are_kept_apart(write):
    text = "asked = []\n" + RIGHT + (
        "def reward(replies, cases):\n    asked.extend(replies)\n"
        "    return {'right': [10.0 * right(r, c) EACH], 'size': [-c['size'] for c in cases]}"
    )  # fmt: skip
    own = load_reward(write(text), "reward")
    rewards, yes = OwnRewards(own, LABELS, CASES), '{"decision": "YES"}'
    assert rewards.earned([yes, "no", yes, yes], ["YES", "YES", "YES", "NO"], [0, 0, 0, 1]) == {
        "right": [10, 0, 10, 0],
        "size": [-3, -3, -3, -9],
    }
    assert own.function.__globals__["asked"] == [yes, "no", yes]
    of_replies = rewards.of_replies(["NO", "YES", "NO"], [1, 0, 1])
    assert of_replies == {"right": [[0, 10], [10, 0], [0, 10]], "size": [[-9, -9], [-3, -3], [-9, -9]]}
    assert added_rows(of_replies) == [[-9, 1], [7, -3], [-9, 1]]
    assert len(own.function.__globals__["asked"]) == 3 + 4  # two rows, two replies each


def test_a_label_stands_in_a_reply_as_it_is_written():
    labels = ("✅ yes", "NO")
    written = json.dumps({"decision": "yes"})  # the word that a model writes for it
    assert plain_text(written, labels) == '{"decision": "✅ yes"}'
    assert plain_text('{"decision":  "NO"}', labels) == '{"decision":  "NO"}'
    assert plain_text("✅ yes", labels) == "✅ yes"


def test_cases_hold_features_and_label():
    fincorp = load_ruleset("rulesets/fincorp.yaml")
    cases = drawn_cases(fincorp)
    assert {case["label"] for case in cases} == set(fincorp.labels) and len(cases) == 4
    assert set(cases[0]) == {*fincorp.feature_names, "label"}
    frame = pl.DataFrame([{**case, "fired_rule": "x"} for case in [*cases, *cases, *cases]])
    assert [case["label"] for case in chosen_cases(frame, fincorp, 2)] == [case["label"] for case in [*cases, *cases]]
    assert cases_of(frame, fincorp)[:4] == cases


def test_costs_as_rewards():
    costs = {"decision_costs": {"costs": {"A": {"B": 5.0}}, "invalid": {"A": 7.0, "B": 1.0}}}
    rewards = TableRewards(("A", "B"), costs)
    assert rewards.of_replies(["A", "B"]) == {"": [[0, -5], [-1, 0]]}
    a, b = '{"decision": "A"}', '{"decision": "B"}'
    assert rewards.earned([a, b, "", ""], ["A", "A", "A", "B"]) == {"": [0, -5, -7, -1]}
