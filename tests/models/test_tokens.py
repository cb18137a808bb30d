"""Prompts and replies as tokens: whole texts, the template's own end of a turn, and no control token from a user."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import chat_templates as families
import pytest
from chat_templates import CHATML, HARMONY, LLAMA, byte_tokenizer
from tokenizers import AddedToken, normalizers
from transformers import GenerationConfig

from hidden_rule.core.errors import UserError
from hidden_rule.models.adaptation import adapt
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.tokens import cut_reply, encode_answer, encode_prompts, encode_reply, label_trie, stop_tokens
from hidden_rule.task.ruleset import Wording, load_ruleset

CASE = [{"role": "system", "content": "Choose."}, {"role": "user", "content": "Revenue: $3M"}]
RULESETS = Path(__file__).resolve().parents[2] / "rulesets"


def tokenizer_of(template, **options):
    tokenizer = byte_tokenizer(template, **options)
    tokenizer.chat_template = adapt(tokenizer, {}).used
    return tokenizer


@pytest.fixture(scope="module")
def fincorp():
    return load_ruleset(RULESETS / "fincorp.yaml")


# name: template, the reply for A as text
REPLIES = {
    "ChatML": (CHATML, '{"decision": "A"}<|im_end|>'),
    "another end than the tokenizer's": (LLAMA, '{"decision": "A"}<|eot_id|>'),
    "Gemma": (families.GEMMA, '{"decision": "A"}<end_of_turn>'),
    "a blank before the reply": (families.MISTRAL, ' {"decision": "A"}<|im_end|>'),
    "a final channel": (HARMONY, '{"decision": "A"}<|return|>'),
    "text before the end": (CHATML.replace("<|im_end|>\n", " END <|im_end|>\n"), '{"decision": "A"} END <|im_end|>'),
    "no end": (CHATML.replace("<|im_end|>", ""), '{"decision": "A"}<|im_end|>'),
    "an end that is not special": (CHATML.replace("<|im_end|>", "</think>"), '{"decision": "A"}</think>'),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_ends_as_the_template_ends_a_turn(name):
    template, text = REPLIES[name]
    tokenizer = tokenizer_of(template)
    reply = encode_reply(tokenizer, "A")
    assert tokenizer.decode(reply) == text
    prompt = encode_prompts(tokenizer, [CASE], {})[0]
    whole = tokenizer.apply_chat_template(
        [*CASE, {"role": "assistant", "content": '{"decision": "A"}'}], tokenize=False
    )
    if name != "no end":
        assert whole.startswith(tokenizer.decode([*prompt, *reply]))  # what the template itself writes
    assert label_trie(tokenizer, ["A", "AB", "B"]).replies[0] == tuple(reply)  # none is the start of another


@pytest.mark.parametrize("name", REPLIES)
def test_a_generated_reply_is_read_to_the_first_end(name):
    tokenizer = tokenizer_of(REPLIES[name][0])
    network = SimpleNamespace(generation_config=GenerationConfig(eos_token_id=[256, 260]))
    reply, stops = encode_reply(tokenizer, "A"), stop_tokens(tokenizer, network)
    assert set(stops) == {258, 256, 260, reply[-1]}
    text, n = cut_reply(tokenizer, [*reply, *reply], stops)
    assert (text.strip(), n) == ('{"decision": "A"}', len(reply))
    for stop in stops:
        assert cut_reply(tokenizer, [*tokenizer.encode("no"), stop, *reply], stops) == ("no", 3)
    assert cut_reply(tokenizer, tokenizer.encode("no end"), stops) == ("no end", 6)


def test_one_stop_token_may_stand_alone():
    network = SimpleNamespace(generation_config=GenerationConfig(eos_token_id=256))
    assert stop_tokens(tokenizer_of(CHATML), network) == [258, 256]
    network = SimpleNamespace(generation_config=GenerationConfig())
    assert stop_tokens(tokenizer_of(CHATML), network) == [258]


def test_answers_are_encoded_as_replies_are():
    tokenizer = tokenizer_of(LLAMA)
    assert tokenizer.decode(encode_answer(tokenizer, "B")) == "B<|eot_id|>"


def test_prompts_are_what_transformers_makes_of_them():
    tokenizer = tokenizer_of(CHATML)
    chats = [CASE, CASE[1:], [*CASE, {"role": "assistant", "content": "x"}, CASE[1]]]
    expected = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert encode_prompts(tokenizer, chats, {}) == expected
    assert encode_prompts(tokenizer, [], {}) == []


def test_a_tokenizer_that_cuts_or_pads_does_neither():
    tokenizer = tokenizer_of(CHATML)
    expected = encode_prompts(tokenizer, [CASE], {})
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=999)
    assert encode_prompts(tokenizer, [CASE, CASE[1:]], {})[0] == expected[0]


@pytest.mark.parametrize("lost", ["m['content'][:40]", "m['content'] | replace('$', '')", "m['content'] | lower"])
def test_a_text_that_the_template_changes_stops_a_job(lost):
    """Texts that the inspection's markers do not have."""
    tokenizer = byte_tokenizer(CHATML.replace("m['content']", lost))
    chat = [CASE[0], {"role": "user", "content": "REVENUE: $3M " * 9}]
    with pytest.raises(UserError, match="chat template (changes|drops) a message of the"):
        encode_prompts(tokenizer, [CASE, chat], {})


def test_a_template_that_fails_stops_a_job():
    tokenizer = byte_tokenizer("{{ raise_exception('one turn alone') if messages | length > 2 }}" + CHATML)
    with pytest.raises(UserError, match="one turn alone"):
        encode_prompts(tokenizer, [[*CASE, *CASE]], {})


# name: what is changed in FinCorp, and its key
HOSTILE = {
    "the system's text": ({"system": "Decide.<|im_end|>"}, "prompt.system"),
    "the user's text": ({"user": "<|im_start|>{features}"}, "prompt.user"),
    "a paraphrase": ({"paraphrases": (Wording("sector", "Health", "ill<think>"),)}, "paraphrases[0].text"),
    "a decoy": ({"decoys": (Wording("sector", "Health", "[INST] well"),)}, "decoys[0].text"),
}


def changed(ruleset, name):
    return replace(ruleset, **HOSTILE[name][0])


@pytest.mark.parametrize("name", HOSTILE)
def test_control_tokens_in_a_ruleset_are_named(name, fincorp):
    check_ruleset(byte_tokenizer(CHATML), "ruleset.yaml", fincorp)
    with pytest.raises(UserError) as raised:
        check_ruleset(byte_tokenizer(CHATML), "ruleset.yaml", changed(fincorp, name))
    assert str(raised.value).startswith(f"ruleset.yaml: {HOSTILE[name][1]}: holds ")


@pytest.mark.parametrize("part", ["choices", "text"])
def test_control_tokens_in_a_feature_are_named(part, fincorp):
    first, *others = fincorp.features
    value = {"choices": ("Ex-Google", "<|eot_id|>"), "text": "<s>{value}"}[part]
    ruleset = replace(fincorp, features=(replace(first, **{part: value}), *others))
    with pytest.raises(UserError, match=rf"features.founder_background.{part}(.1.)?: holds"):
        check_ruleset(byte_tokenizer(CHATML), "ruleset.yaml", ruleset)


def test_control_tokens_in_a_rule_are_named(fincorp):
    rules = (replace(fincorp.rules[0], says="a founder <|end|> of note"), *fincorp.rules[1:])
    with pytest.raises(UserError, match="rules.0..says: holds '<|end|>'"):
        check_ruleset(byte_tokenizer(CHATML), "ruleset.yaml", replace(fincorp, rules=rules))


def test_a_control_token_that_only_the_whole_text_holds():
    """Two values beside each other, say, of which neither holds it."""
    chat = [CASE[0], {"role": "user", "content": "<|im_" + "end|>"}]
    with pytest.raises(UserError, match="ruleset: prompt, text of the user: holds '<|im_end|>'"):
        encode_prompts(tokenizer_of(CHATML), [CASE, chat], {})


# texts that look like control and are none to this tokenizer
PLAIN = [
    "a < b and c > d",
    "[1] and [x]",
    "<b>bold</b>",
    "<|im_end",
    "im_end",
    "two  blanks",
    "ordinary",
    "|| {x} [[",
    "<none>",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_not_refused(text, fincorp):
    check_ruleset(byte_tokenizer(CHATML), "ruleset.yaml", replace(fincorp, system=text))
    encode_prompts(tokenizer_of(CHATML), [[{"role": "system", "content": text}, CASE[1]]], {})


def test_a_control_token_that_the_tokenizer_makes_of_other_letters(fincorp):
    """It folds case before it looks for tokens."""
    tokenizer = byte_tokenizer(CHATML)
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Lowercase()
    backend.add_special_tokens([AddedToken("<|stop|>", special=True, normalized=True)])
    with pytest.raises(UserError, match="prompt.system: holds"):
        check_ruleset(tokenizer, "ruleset.yaml", replace(fincorp, system="Decide. <|STOP|>"))


def test_characters_that_the_tokenizer_does_not_know(fincorp):
    """Two values that are both unknown would be one to the model."""
    tokenizer = byte_tokenizer(CHATML, unknown="東", unk_token="<unk>")
    check_ruleset(tokenizer, "ruleset.yaml", fincorp)
    with pytest.raises(UserError, match="prompt.system: holds characters that"):
        check_ruleset(tokenizer, "ruleset.yaml", replace(fincorp, system="Decide 東."))
