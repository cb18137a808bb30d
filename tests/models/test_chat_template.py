"""What an inspection says of chat templates: refused with one line, warned of, or used as they are."""

import json
import re
from pathlib import Path

import chat_templates as families
import pytest
import trl
import yaml
from chat_templates import ASK, CHATML, HARMONY, LLAMA, QWEN3, TURNS, byte_tokenizer
from transformers.utils import chat_template_utils

from hidden_rule.core.errors import UserError
from hidden_rule.models import templates
from hidden_rule.models.adaptation import adapt
from hidden_rule.models.chat_template import inspect_chat
from hidden_rule.models.control_tokens import control_tokens

CASE = [{"role": "system", "content": "Choose {labels}."}, {"role": "user", "content": "Revenue: $3M"}]
SHOTS = [*CASE, {"role": "assistant", "content": '{"decision": "A"}'}, {"role": "user", "content": "Revenue: $4M"}]


def asks(text: str) -> str:
    """A template of turns whose generation prompt is `text`."""
    return TURNS + "{% if add_generation_prompt %}<|im_start|>" + text + "{% endif %}"


def content(expression: str) -> str:
    """A template of turns that writes a message's text as `expression` gives it."""
    return TURNS.replace("m['content']", expression) + ASK


def adapted(template, template_kwargs=None, **options):
    """A tokenizer with a template as `load_tokenizer` makes it the pipeline's."""
    tokenizer = byte_tokenizer(template, **options)
    tokenizer.chat_template = adapt(tokenizer, template_kwargs or {}).used
    return tokenizer


def prompt(tokenizer, messages=CASE, **template_kwargs) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **template_kwargs)


# name: template, what its facts have to say, and a part of each warning
FAMILIES = {
    "ChatML": (CHATML, {"system message": "kept", "end of a turn": "<|im_end|> (258)"}, []),
    "Llama 3, whose turns end with another token": (LLAMA, {"end of a turn": "<|eot_id|> (263)"}, ["date_string"]),
    "Gemma 2 refuses the system": (families.GEMMA, {"end of a turn": "<end_of_turn> (266)"}, ["refuses or drops"]),
    "Mistral has no generation prompt and needs none": (families.MISTRAL, {}, ["refuses or drops"]),
    "a template that drops the system": (families.DROPS_SYSTEM, {}, ["refuses or drops"]),
    "Phi": (families.PHI, {"end of a turn": "<|end|> (268)"}, []),
    "gpt-oss": (HARMONY, {"end of a turn": "<|return|> (275)"}, ["<|channel|>final<|message|>"]),
    "Qwen3": (QWEN3, {"keys of the chat template": ["enable_thinking"]}, ["{enable_thinking: false}"]),
    "contents as parts": (families.PARTS, {"system message": "kept, contents as parts"}, []),
    "several templates": ({"default": CHATML, "tool_use": "x"}, {}, []),
    "marked for training": (
        CHATML.replace("{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}"),
        {},
        [],
    ),
    "an empty thought that ends": (asks("assistant\n<think></think>\n"), {}, []),
    "the end of a thought": (asks("assistant\n</think>"), {}, []),
    "text that finished turns lack": (asks("assistant\nLet us see. "), {}, ["'Let us see.'"]),
    "tokens of another tokenizer": (
        CHATML.replace("<|im_end|>", "<|fin|>"),
        {},
        ["<|fin|>", "ends a turn with no token"],
    ),
    "no single turns of users": (
        "{{ raise_exception('no') if messages[0].role != 'system' }}" + CHATML,
        {},
        ["without a"],
    ),
    "one turn alone": ("{{ raise_exception('no') if messages | length > 3 }}" + CHATML, {}, ["prompts with examples"]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_templates_that_work(name):
    template, facts, warnings = FAMILIES[name]
    found = inspect_chat(byte_tokenizer(template), {}, {})
    assert facts.items() <= found.facts.items()
    assert len(found.warnings) == len(warnings)
    assert all(any(part in said for said in found.warnings) for part in warnings)
    json.dumps(found.facts)


# name: template, chat_template_kwargs, parts of the one line
REFUSED = {
    "no template": (None, {}, ["model.id", "is missing"]),
    "an empty one": (" \n", {}, ["model.id", "is missing"]),
    "several, none of them the default": ({"a": CHATML, "b": CHATML}, {}, ["a, b", "default"]),
    "a syntax error": ("{% for m in messages %}{{ m }", {}, ["syntax error in line 1"]),
    "what the sandbox refuses": ("{{ messages.__class__.__mro__ }}" + CHATML, {}, ["unsafe"]),
    "endless recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + CHATML, {}, ["recursion"]),
    "an attribute that is not there": ("{{ messages[0].name.first }}" + CHATML, {}, ["fails"]),
    "no generation prompt": (TURNS, {}, ["no generation prompt"]),
    "one of blanks": (TURNS + "{% if add_generation_prompt %}\n {% endif %}", {}, ["no generation prompt"]),
    "texts without turns": ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", {}, ["no generation prompt"]),
    "one that asks for the user's turn": (asks("user\n"), {}, ["begins with", "user"]),
    "one that opens a form": (asks("assistant\n<answer>"), {}, ["begins with", "<answer>"]),
    "a thought": (asks("assistant\n<think>\n"), {}, ["model.chat_template_kwargs", "<think>", "no key"]),
    "DeepSeek R1": (families.R1, {}, ["<think>", "no key"]),
    "a thought in brackets": (asks("assistant\n[THINK]"), {}, ["[THINK]"]),
    "a thought in other brackets": (asks("assistant\n◁think▷"), {}, ["◁think▷"]),
    "a scratchpad": (asks("assistant\n<scratchpad>"), {}, ["<scratchpad>"]),
    "a second thought": (asks("assistant\n<think></think><reasoning>\n"), {}, ["<reasoning>"]),
    "a channel of analysis": (
        HARMONY.replace("assistant{% endif", "assistant<|channel|>analysis<|message|>{% endif"), {},
        ["channel|>analysis"],
    ),
    "what finished turns close": (
        TURNS.replace("{{ m['content'] }}", "{{ '<a1></a1>' if m['role'] == 'assistant' }}{{ m['content'] }}")
        + "{% if add_generation_prompt %}<|im_start|>assistant\n<a1>{% endif %}", {}, ["<a1>"],
    ),
    "a thought that a key keeps out": (
        asks("assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"), {},
        ["{enable_thinking: false}"],
    ),
    "a thought that a word keeps out": (
        asks("assistant\n{% if effort != 'none' %}<think>{% endif %}"), {}, ['{effort: "none"}'],
    ),
    "false as text": (
        asks("assistant\n{% if thinking is not defined or thinking %}<think>{% endif %}"), {"thinking": "false"},
        ["{thinking: false}"],
    ),
    "a key with a typing error": (QWEN3, {"enable_thinkng": False}, ["enable_thinkng", "mean enable_thinking?"]),
    "a key where none is read": (CHATML, {"enable_thinking": False}, ["enable_thinking", "leave it out"]),
    "a template that drops the user": (content("m['content'] if m['role'] != 'user'"), {}, ["drops", "of the user"]),
    "that writes no message": (CHATML.replace("in messages", "in messages[:0]"), {}, ["drops a message"]),
    "that cuts texts": (content("m['content'][:30]"), {}, ["changes a message"]),
    "that escapes texts": (content("m['content'] | e"), {}, ["changes a message"]),
    "that changes case": (content("m['content'] | upper"), {}, ["a message of the system"]),
    "that joins lines": (content("m['content'] | replace('\\n', ' ')"), {}, ["changes a message"]),
    "that turns conversations round": (
        CHATML.replace("in messages", "in messages | reverse"), {}, ["before that of the user"],
    ),
    "that repeats texts": (content("m['content'] ~ m['content']"), {}, ["more than once"]),
    "that repeats replies": (content("m['content'] * (2 if m['role'] == 'assistant' else 1)"), {}, ["more than once"]),
    "deep nesting": ("{% if 1 %}" * 3000 + CHATML + "{% endif %}" * 3000, {}, ["cannot be read", "recursion"]),
    "a number without end": ("{{ (9 ** 99999) | string }}" + CHATML, {}, ["cannot be read", "4300 digits"]),
    "another file": ("{% include '/etc/hostname' %}" + CHATML, {}, ["no loader"]),
    "text without end": ("{{ 'a' * 30000000000 }}" + CHATML, {}, ["MemoryError"]),
    "a wide format": ("{{ '%30000000000d' | format(1) }}" + CHATML, {}, ["fails"]),
    "lists without end": ("{% set a = ['x'] * 4000000000 %}" + CHATML, {}, ["MemoryError"]),
    "code behind an attribute": ("{{ ''.__class__.__mro__[1].__subclasses__() }}" + CHATML, {}, ["unsafe"]),
    "code behind a function": ("{{ raise_exception.__globals__['os'].system('id') }}" + CHATML, {}, ["unsafe"]),
    "that draws": ("{{ ['a', 'b'] | random }}" + CHATML, {}, ["at random"]),
    "that writes dummy text": ("{{ lipsum(1) }}" + CHATML, {}, ["at random"]),
    "that prints what it is": ("{{ raise_exception }}" + CHATML, {}, ["address"]),
    "text that starts twice": ("{{ bos_token }}{{ bos_token }}" + CHATML, {}, ["<s> twice"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_templates_that_are_refused(name):
    template, template_kwargs, parts = REFUSED[name]
    with pytest.raises(UserError) as raised:
        inspect_chat(byte_tokenizer(template), template_kwargs, {})
    line = str(raised.value)
    assert all(part in line for part in parts), line
    assert "\n" not in line and len(line) < 500 and ";" in line


# name: chat_template_kwargs, part of the warning or None
KEYS = {
    "off": ({"enable_thinking": False}, None),
    "what is so already": ({"enable_thinking": True}, "no effect"),
    "0 is not false": ({"enable_thinking": 0}, "no effect"),
    "text": ({"enable_thinking": "false"}, "write enable_thinking: false without quotes"),
    "text in capitals": ({"enable_thinking": "True"}, "write enable_thinking: true without quotes"),
    "nothing": ({"enable_thinking": None}, "no effect"),
}
# as KEYS, of a template that thinks if `mode` is true, and of one that compares it with a word
TRUTH = asks("assistant\n{% if mode %}Well. {% endif %}")
WORD = asks("assistant\n{% if mode == 'off' %}Well. {% endif %}")
WORDS = {
    "text is true": (TRUTH, {"mode": "false"}, "has the opposite effect: write mode: false without quotes"),
    "as is this": (TRUTH, {"mode": "No"}, "has the opposite effect: write mode: false without quotes"),
    "which may be meant": (TRUTH, {"mode": "true"}, None),
    "a word that the template knows": (WORD, {"mode": "off"}, None),
    "one that it does not know": (WORD, {"mode": "no"}, "no effect on prompts: write mode: false without quotes"),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_without_effect_are_warned_of(name):
    template_kwargs, said = KEYS[name]
    found = inspect_chat(byte_tokenizer(QWEN3), template_kwargs, {})
    assert [said in warning for warning in found.warnings] == ([True] if said else [])


@pytest.mark.parametrize("name", WORDS)
def test_text_that_means_a_truth_value(name):
    template, template_kwargs, said = WORDS[name]
    found = [
        warning for warning in inspect_chat(byte_tokenizer(template), template_kwargs, {}).warnings if "mode" in warning
    ]
    assert [said in warning for warning in found] == ([True] if said else [])


# name: generation_config.json, part of the warning or None
GENERATION = {
    "nothing": ({}, None),
    "tokens alone": ({"eos_token_id": [256, 258], "pad_token_id": 256, "bos_token_id": 256, "max_length": 99}, None),
    "neutral values": ({"temperature": 1.0, "top_p": 1, "repetition_penalty": 1.0, "do_sample": False}, None),
    "a penalty": ({"repetition_penalty": 1.3}, "repetition_penalty 1.3"),
    "tokens that may not be written": ({"suppress_tokens": [91]}, "suppress_tokens [91]"),
    "what is new to us": ({"some_new_penalty": 0.4}, "some_new_penalty 0.4"),
    "a token that is not there": ({"eos_token_id": [258, 99999]}, "[99999]"),
}


@pytest.mark.parametrize("name", GENERATION)
def test_generation_settings_are_not_applied_and_said(name):
    settings, said = GENERATION[name]
    found = inspect_chat(byte_tokenizer(CHATML), {}, settings)
    assert [said in warning for warning in found.warnings] == ([True] if said else [])


def test_a_template_that_does_not_end(monkeypatch):
    monkeypatch.setattr(templates.limited_time.__wrapped__, "__defaults__", (0.2,))
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}"
    template = loops + "{% endfor %}{% endfor %}{% endfor %}" + CHATML
    with pytest.raises(UserError, match="takes longer than 0.2 s"):
        inspect_chat(byte_tokenizer(template), {}, {})


def test_all_stop_tokens_are_facts():
    found = inspect_chat(byte_tokenizer(LLAMA), {"date_string": "today"}, {"eos_token_id": [256]})
    assert found.facts["tokens that end a reply"] == ["<|im_end|> (258)", "<|endoftext|> (256)", "<|eot_id|> (263)"]
    assert found.warnings == ()


@pytest.mark.parametrize("eos", ["x", ["<|im_end|>"], True, {"a": 1}, 2.5])
def test_stop_tokens_that_are_none(eos):
    with pytest.raises(UserError, match="generation_config.json: eos_token_id"):
        inspect_chat(byte_tokenizer(CHATML), {}, {"eos_token_id": eos})


def test_a_stop_token_within_every_reply():
    brace = byte_tokenizer(CHATML).encode("}")
    with pytest.raises(UserError, match="stands within every valid reply"):
        inspect_chat(byte_tokenizer(CHATML), {}, {"eos_token_id": brace})


def test_a_tokenizer_without_an_end():
    with pytest.raises(UserError, match="has no eos_token; name it"):
        inspect_chat(byte_tokenizer(CHATML, eos=None), {}, {})


def test_the_padding_token_is_the_end_where_there_is_none():
    tokenizer = byte_tokenizer(CHATML)
    assert tokenizer.pad_token is None
    assert inspect_chat(tokenizer, {}, {}).facts["pad token"] == "<|im_end|>"


@pytest.mark.parametrize("template", [families.GEMMA, families.MISTRAL, families.DROPS_SYSTEM])
def test_the_system_s_text_stands_at_the_start_of_the_first_user_turn(template):
    """Whoever renders with the tokenizer: TRL and servers of an adapter's folder do so themselves."""
    text = prompt(adapted(template), SHOTS)
    assert "Choose {labels}.\n\nRevenue: $3M" in text
    assert [text.count(message["content"]) for message in SHOTS] == [1, 1, 1, 1]
    alone = prompt(adapted(template), CASE[1:])
    assert alone == byte_tokenizer(template).apply_chat_template(CASE[1:], tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize(
    "template",
    [CHATML, families.PHI, LLAMA, QWEN3, "  \n" + CHATML + "\n", "\n\n {% if 1 %}" + TURNS + "{% endif %}" + ASK],
)
def test_lines_before_a_template_change_nothing_else(template):
    """Their ends are where the template's text begins: blanks at its start stay, or go, as they did."""
    bare = byte_tokenizer(template.replace("{% if strftime_now is defined %}", "{% if false %}"))
    lines = templates.default_lines({"unused": [1.5, None, True, {"a": "\n'\"{{é😀"}]}) + templates.FOLD
    for messages in (CASE[1:], SHOTS[1:]):
        for ask in (True, False):
            plain = templates.render(bare, messages, bare.chat_template, ask)
            assert templates.render(bare, messages, lines + bare.chat_template, ask) == plain


def test_the_keys_values_are_defaults_of_the_tokenizer_s_template():
    tokenizer = adapted(QWEN3, {"enable_thinking": False})
    assert prompt(tokenizer).endswith("<think>\n\n</think>\n\n")
    assert prompt(tokenizer, enable_thinking=True).endswith("assistant\n")


def test_values_of_keys_are_text_and_no_program():
    said = "a \"b\" 'c'\n\\n {{ 1 + 1 }} {% raw %} é😀"
    template = "<|im_start|>persona\n{{ persona }}<|im_end|>\n" + CHATML
    tokenizer = adapted(template, {"persona": said})
    assert said in prompt(tokenizer)
    assert prompt(tokenizer) == prompt(byte_tokenizer(template), persona=said)


class Clock:
    """A clock in place of transformers'."""

    def __init__(self, now):
        self.now = lambda: now


@pytest.mark.parametrize(
    "template", [families.CLOCK, LLAMA, "{% set f = '%d' ~ '.%m.' %}{{ strftime_now(format=f) }}" + CHATML]
)
def test_prompts_are_the_same_on_any_day(template, monkeypatch):
    texts = set()
    for now in (templates.DAY, templates.OTHER_DAY):
        monkeypatch.setattr(chat_template_utils, "datetime", Clock(now))
        texts.add(prompt(adapted(template)))
    assert len(texts) == 1
    monkeypatch.setattr(chat_template_utils, "datetime", Clock(templates.DAY))
    assert texts == {prompt(byte_tokenizer(template))}  # that of the day on which the clock stands
    found = inspect_chat(byte_tokenizer(template), {}, {})
    assert found.facts["date in the chat template"] == "2026-01-01"
    assert any("held at 2026-01-01" in warning for warning in found.warnings)


def test_a_start_of_text_that_begins_turns_too():
    """As of the embedded model's tokenizer, with a template that writes both."""
    inspect_chat(byte_tokenizer("{{ bos_token }}" + CHATML, bos="<|im_start|>"), {}, {})


def test_every_form_of_a_date_is_the_same_as_the_clock_s():
    forms = " ".join(f"%{form}" for form in "aAbBdHIjmMpSyYUwW") + " %-d %-m %-I %% %Y%m%d"
    tokenizer = adapted("{{ strftime_now('" + forms + "') }}" + CHATML)
    short = {"%-d": "1", "%-m": "1", "%-I": "12"}
    expected = " ".join(short.get(form) or templates.DAY.strftime(form) for form in forms.split())
    assert prompt(tokenizer).startswith(expected)


def test_a_date_that_the_user_gives():
    tokenizer = adapted(LLAMA, {"date_string": "7 May 2025"})
    assert "Today Date: 7 May 2025" in prompt(tokenizer)


def test_a_template_as_it_is_used_needs_no_more_changes():
    """It stands beside an adapter, and may be the template of a folder that is prepared again."""
    for template in (families.GEMMA, families.CLOCK, HARMONY, families.PARTS, LLAMA):
        tokenizer = adapted(template)
        assert prompt(tokenizer, CASE) == prompt(adapted(tokenizer.chat_template), CASE)


def test_a_final_channel_is_part_of_the_generation_prompt():
    assert prompt(adapted(HARMONY)).endswith("<|start|>assistant<|channel|>final<|message|>")


# name: template, the keys that it reads
KEYS_READ = {
    "none": (CHATML, []),
    "one with a default": (LLAMA, ["date_string"]),
    "one that it may set": ("{% if mode is not defined %}{% set mode = 1 %}{% endif %}{{ mode }}" + CHATML, ["mode"]),
    "one that it asks for first": ("{% if not mode %}{% set mode = 'x' %}{% endif %}{{ mode }}" + CHATML, ["mode"]),
    "its own variable": ("{% if tools %}{% set own = 1 %}{% else %}{% set own = 2 %}{% endif %}{{ own }}" + CHATML, []),
    "a loop's": ("{% for x in [1] %}{% set y = x %}{% endfor %}" + CHATML, []),
    "of a key to itself": ("{% set mode = mode | default('x') %}{{ mode }}" + CHATML, ["mode"]),
    "a macro's": ("{% macro f(text) %}{{ text }}{% endmacro %}{{ f(mode) }}" + CHATML, ["mode"]),
    "only in a macro": ("{% macro f(text) %}{{ mode }}{% endmacro %}{{ f(1) }}" + CHATML, ["mode"]),
    "tokens and functions": ("{{ bos_token }}{{ eos_token if tools }}{{ range(0) | list }}" + CHATML, []),
}


@pytest.mark.parametrize("name", KEYS_READ)
def test_the_keys_that_a_template_reads(name):
    template, keys = KEYS_READ[name]
    assert list(adapt(byte_tokenizer(template), {}).keys) == keys


def refusal(tokenizer) -> str | None:
    try:
        adapt(tokenizer, {})
    except UserError as error:
        return str(error)
    return None


@pytest.mark.slow
def test_the_templates_that_trl_has():
    """Of some forty families: refused where a thought is opened, else used with both texts."""
    refused, paths = set(), sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    for path in (path for path in paths if not path.stem.endswith("_training")):
        template = path.read_text(encoding="utf-8")
        tokenizer = byte_tokenizer(template, more=re.findall(r"<[|｜]?\w[^<>\n{}']{,30}>|\[/?[A-Z_]+\]", template))
        template_kwargs = {}
        if line := refusal(tokenizer):
            assert "opens a thought (<think>)" in line
            refused.add(path.stem)
            if "no key" in line:
                continue
            template_kwargs = yaml.safe_load(line.rpartition("add ")[2])
        found = adapt(tokenizer, template_kwargs)
        inspect_chat(tokenizer, template_kwargs, {})
        tokenizer.chat_template = found.used
        text = prompt(tokenizer)
        assert text.index(CASE[0]["content"]) < text.index(CASE[1]["content"])
        assert found.turn.closes or "glm4" in path.stem  # which ends a turn by the start of the next
    assert {"deepseekv3", "qwen3_5_think"} <= refused and "qwen3" not in refused


def test_control_tokens_are_special_or_look_so():
    tokens = control_tokens(byte_tokenizer(CHATML))
    assert {"<|im_start|>", "[INST]", "<think>", "</s>"} <= set(tokens)
    assert not {"<b>", "  ", "ordinary"} & set(tokens)  # text, as vocabularies hold it
