"""Labels of any spelling: the words that stand for them in replies, and the way back."""

import json

import pytest

from hidden_rule.task.prompts import labels_shown
from hidden_rule.task.replies import parse_reply, render_reply, reply_words

WORDS = {  # label: its word, each alone with `other`
    "approve": "approve",
    "A_PLUS_TIER": "A_PLUS_TIER",
    "No, thanks": "No, thanks",
    "yes/no": "yes/no",
    "<=50K": "<=50K",
    "0": "0",
    'say "no"': "say_no",
    "back\\slash": "back_slash",
    "✅ yes": "yes",
    "👍": "thumbs_up_sign",
    "+": "+",
    "–": "en_dash",
    "<|im_end|>": "im_end",
    "<s>": "s",
    "[INST]": "INST",
    "{labels}": "labels",
    " spaces ": "spaces",
    "two  spaces": "two_spaces",
    "Prüfung nötig": "Prufung_notig",
    "groß": "gross",
    "批准": "label_2",
    "x" * 70: "x" * 48,
}


@pytest.mark.parametrize("label", WORDS)
def test_a_label_has_a_word_that_tokenizers_and_json_keep(label):
    labels = ("aaa", label)
    assert reply_words(labels) == {"aaa": "aaa", label: WORDS[label]}
    reply = render_reply(label, labels)
    assert json.loads(reply) == {"decision": WORDS[label]} and reply.isascii() and "\\" not in reply
    assert parse_reply(reply, labels) == label and parse_reply(render_reply("aaa", labels), labels) == "aaa"


def test_words_differ_and_a_label_that_is_one_keeps_it():
    labels = ["✅ yes", "yes", "yes!!", "“yes”", "YES?", 'yes"', "no"]
    words = reply_words(labels)
    assert len({word.casefold() for word in words.values()}) == len(labels)
    assert words["yes"] == "yes" and list(words) == labels
    assert [parse_reply(render_reply(label, labels), labels) for label in labels] == labels
    assert reply_words(reversed(labels)) == words  # whatever their order


def test_a_label_is_no_valid_answer_where_a_word_stands_for_it():
    labels = ["✅ yes", "no"]
    assert parse_reply('{"decision": "✅ yes"}', labels) is None
    assert parse_reply('{"decision": "yes"}', labels) == "✅ yes"
    assert parse_reply('{"decision": "no"}', set(labels)) == "no"


def test_prompts_show_what_a_word_stands_for():
    assert labels_shown(["批准", "B", "<|im_end|> a", "A"]) == ["A", "B", "im_end_a (im_end a)", "label_4 (批准)"]
