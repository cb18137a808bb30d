"""One strict parser for reward and accuracy, and rewards that pay for nothing but the right answer."""

import pytest

from hidden_rule.task.replies import parse_reply, render_reply
from hidden_rule.task.rewards import make_reward_function, reward, reward_matrix

LABELS = ("MANUAL_REVIEW", "REJECT_RISK", "A_PLUS_TIER", "STANDARD_LOAN")
SCALE = {"correct": 100, "wrong": -50, "invalid": -100}

ACCEPTED = [
    ('{"decision": "REJECT_RISK"}', "REJECT_RISK"),
    (' \n{"decision": "A_PLUS_TIER"}\n\n', "A_PLUS_TIER"),  # blanks around it
    ('{"decision":"STANDARD_LOAN"}', "STANDARD_LOAN"),  # JSON does not care for blanks inside
    ('{\n  "decision" : "MANUAL_REVIEW"\n}', "MANUAL_REVIEW"),
    ('{"decision": "REJECT\\u005fRISK"}', "REJECT_RISK"),  # the same JSON text, escaped
]

REJECTED = [
    "",  # empty
    "   ",
    "REJECT_RISK",  # the right word, not the form
    '"REJECT_RISK"',
    'I decide {"decision": "REJECT_RISK"}',  # prose before
    '{"decision": "REJECT_RISK"} because of the burn rate',  # text after
    '{"decision": "REJECT_RISK"}{"decision": "A_PLUS_TIER"}',  # two answers
    '{"decision": "REJECT_RISK"}\n{"decision": "REJECT_RISK"}',  # the same answer twice
    '{"decision": "REJECT_RISK", "decision": "A_PLUS_TIER"}',  # a key twice: the last would win silently
    '{"decision": "REJECT_RISK", "decision": "REJECT_RISK"}',
    '```json\n{"decision": "REJECT_RISK"}\n```',  # code fence
    '{"decision": "reject_risk"}',  # wrong case
    '{"Decision": "REJECT_RISK"}',
    '{"decision": " REJECT_RISK"}',  # blank inside the label
    '{"decision": "REJECT_RISK", "reason": "burn"}',  # another key
    '{"decision": "<LABEL>"}',  # the template itself
    '{"decision": "MANUAL_REVIEW, REJECT_RISK, A_PLUS_TIER, STANDARD_LOAN"}',  # all of them
    '{"decision": ["REJECT_RISK"]}',  # nested
    '{"decision": {"decision": "REJECT_RISK"}}',
    '{"answer": {"decision": "REJECT_RISK"}}',
    '[{"decision": "REJECT_RISK"}]',
    '[["decision", "REJECT_RISK"]]',  # a list that looks like the parsed object
    '["decision", "REJECT_RISK"]',
    "{'decision': 'REJECT_RISK'}",  # Python, not JSON
    '{"decision": null}',
    '{"decision": 1}',
    '{"decision": true}',
    '{"decision": ""}',
    '{"decision": "APPROVE"}',  # no such label
    '{"decision": "REJECT_RISK"',  # cut off
    '{"decision": "REJECT_RISK"},',
    '{"decision": "REJECT_RISK" /* sure */}',
    "{}",
    "null",
    "<script>alert(1)</script>",
    '\ufeff{"decision": "REJECT_RISK"}',  # byte order mark
    '\u00a0{"decision": "REJECT_RISK"}',  # a blank that JSON does not know
    '{"decision": "REJECT_R\u0406SK"}',  # Cyrillic I
    '{"decision": "REJECT_RISK\\u0000"}',
    "[" * 100_000,  # would recurse deeply
    '{"decision":' * 300,  # nested and short enough to be parsed
    '{"decision": "REJECT_RISK"}' + " " * 1_000_000,  # huge
    "9" * 4000,  # more digits than Python turns into a number
    "\ud800",  # half a character
    None,  # no text at all
    b'{"decision": "REJECT_RISK"}',
]


@pytest.mark.parametrize(("text", "label"), ACCEPTED)
def test_a_valid_reply_is_read(text, label):
    assert parse_reply(text, LABELS) == label


@pytest.mark.parametrize("text", REJECTED, ids=range(len(REJECTED)))
def test_anything_else_is_invalid(text):
    assert parse_reply(text, LABELS) is None
    assert parse_reply(text, list(LABELS)) is None
    assert parse_reply(text, set(LABELS)) is None


@pytest.mark.parametrize("label", LABELS)
def test_what_is_rendered_is_read_back(label):
    assert render_reply(label) == f'{{"decision": "{label}"}}'
    assert parse_reply(render_reply(label), LABELS) == label


REWARDS = [
    ('{"decision": "REJECT_RISK"}', "REJECT_RISK", 100.0),
    ('{"decision": "A_PLUS_TIER"}', "REJECT_RISK", -50.0),  # valid, wrong
    ("REJECT_RISK", "REJECT_RISK", -100.0),  # the right word in the wrong form is invalid, not right
    ('{"decision": "REJECT_RISK"} {"decision": "A_PLUS_TIER"}', "REJECT_RISK", -100.0),  # hedging does not pay
    ("", "REJECT_RISK", -100.0),
]


@pytest.mark.parametrize(("reply", "gold", "points"), REWARDS)
def test_reward(reply, gold, points):
    assert reward(reply, gold, LABELS, SCALE) == points


def test_near_labels_earn_their_own_points():
    labels, near = ["A", "B", "C"], {"A": {"B": 25}, "C": {"A": 0, "B": -80}}
    assert reward_matrix(labels, {**SCALE, "near": near}) == [[100, 25, -50], [-50, 100, -50], [0, -80, 100]]
    assert reward('{"decision": "D"}', "A", labels, {**SCALE, "near": {"A": {"D": 25}}}) == -100  # no valid reply


@pytest.mark.parametrize("reply", ['{"decision": "APPROVE"}', '{"decision": "REJECT_RISK"}', ""])
def test_a_broken_gold_label_stops(reply):
    with pytest.raises(ValueError, match="gold label 'APPROVE' is not one of"):
        reward(reply, "APPROVE", LABELS, SCALE)


def test_the_reward_function_takes_texts_and_chats():
    function = make_reward_function(LABELS, SCALE)
    texts = [render_reply("REJECT_RISK"), "no", render_reply("A_PLUS_TIER")]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    gold = ["REJECT_RISK", "REJECT_RISK", "REJECT_RISK"]
    assert function(texts, label=gold, prompts=["p"] * 3, trainer_state=None) == [100.0, -100.0, -50.0]
    assert function(completions=chats, label=gold) == [100.0, -100.0, -50.0]
    assert function.__name__ == "decision_reward"  # TRL logs it under this name
    with pytest.raises(ValueError, match="shorter"):
        function(texts, label=gold[:2])


@pytest.mark.parametrize("label", LABELS)
def test_a_constant_reply_earns_little(label):
    # a balanced data set: right once in four, so (100 - 3 * 50) / 4; the right replies would earn 100
    gold = list(LABELS) * 25
    points = make_reward_function(LABELS, SCALE)([render_reply(label)] * 100, label=gold)
    assert sum(points) / len(points) == -12.5
