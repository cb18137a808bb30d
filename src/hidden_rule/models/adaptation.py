"""A chat template as the pipeline uses it: the model's own, with lines around it where that would ask otherwise.

The lines are part of the tokenizer's template, so that whoever renders a conversation with it (this package, TRL, a
server that loads an adapter's folder) gets the same prompt:
- a template that refuses or drops the system's message gets its text at the start of the first user turn;
- one that takes a message's content as a list of parts gets it so;
- one that writes today's date writes that of `templates.DAY`;
- `model.chat_template_kwargs` are the defaults of its keys;
- what it writes before every finished reply stands in the generation prompt (gpt-oss: the final channel).
"""

import json
from dataclasses import dataclass, replace

from hidden_rule.core.errors import SettingError
from hidden_rule.core.schemas import did_you_mean
from hidden_rule.models import templates
from hidden_rule.models.template_syntax import TemplateFaultError, read_syntax
from hidden_rule.models.templates import lost_text, render
from hidden_rule.models.turns import CASE, SYSTEM, THOUGHT, USER, OpenedThoughtError, Turn, read_turn, without_thoughts

REPAIRS = {  # lines before a template, by what they do
    "kept": "",
    "folded into the user's turn": templates.FOLD,
    "kept, contents as parts": templates.PARTS,
    "folded into the user's turn, contents as parts": templates.FOLD + templates.PARTS,
}
OFF = (False, "none", "off", "no_think", "disabled", 0, True, "low")  # values by which keys switch thinking off
INSTRUCT = "take an instruct model whose chat template works with this version of transformers"


@dataclass(frozen=True)
class Adapted:
    """A model's chat template, and how it is used."""

    own: str
    used: str
    keys: tuple[str, ...]  # that it reads
    system: str  # one of REPAIRS
    turn: Turn
    opening: str  # what was added to the generation prompt


def adapt(tokenizer, template_kwargs: dict) -> Adapted:
    """The chat template of a tokenizer as it is used with `model.chat_template_kwargs`.

    Raises SettingError if it is missing or broken, if it loses what it is given, if a key is not one that it reads, and
    if its generation prompt is missing or opens a thought.
    """
    try:
        own = templates.own_template(tokenizer)
        with templates.limited_time():
            syntax = read_syntax(own)
        keys = tuple(key for key in syntax.keys if key not in tokenizer.special_tokens_map)
        check_keys(template_kwargs, keys)
        if syntax.draws:
            raise TemplateFaultError("draws at random, so that no prompt is the same twice")
        head = templates.clock_lines(own) if syntax.reads_clock else ""
        head += templates.default_lines(template_kwargs)
        with templates.limited_time():
            system = first_repair(tokenizer, head, own)
            used = head + REPAIRS[system] + own
            turn = read_turn(tokenizer, used)
    except TemplateFaultError as fault:
        raise SettingError("model.id", f"the model's chat template {fault}", INSTRUCT) from fault
    except OpenedThoughtError as tag:
        raise thought_error(tokenizer, used, str(tag), keys) from tag
    opening = "" if turn.moved and thinks_by_key(turn.moved, keys) else turn.moved
    if opening:
        used, turn = templates.with_opening(used, opening), replace(turn, asked=turn.asked + opening, moved="")
    return Adapted(own, used, keys, system, turn, opening)


def check_keys(template_kwargs: dict, keys: tuple[str, ...]) -> None:
    """Raise SettingError for a key that the template does not read."""
    for key in template_kwargs:
        if key not in keys:
            remedy = did_you_mean(key, keys) if keys else "leave it out: the template reads no key"
            raise SettingError(
                f"model.chat_template_kwargs.{key}", "is no key that the model's chat template reads", remedy
            )


def first_repair(tokenizer, head: str, own: str) -> str:
    """The first of REPAIRS with which a prompt holds the texts of the system and the user, in this order."""
    faults = []
    for name, lines in REPAIRS.items():
        try:
            rendered = render(tokenizer, CASE, head + lines + own)
        except TemplateFaultError as fault:
            faults.append(str(fault))
            continue
        lost = lost_text(rendered, CASE)
        if lost is None and rendered.find(SYSTEM) < rendered.find(USER):
            return name
        faults.append(lost or "puts the message of the system behind that of the user")
    raise TemplateFaultError(faults[0])


def thinking_keys(keys: tuple[str, ...]) -> list[str]:
    """Those of a template's keys that are about thinking, by their names."""
    return [key for key in keys if THOUGHT.search(key)]


def thinks_by_key(moved: str, keys: tuple[str, ...]) -> bool:
    """Whether finished turns lack no more than an empty thought, which a key writes into the prompt."""
    return not without_thoughts(moved).strip() and bool(thinking_keys(keys))


def thought_error(tokenizer, template: str, tag: str, keys: tuple[str, ...]) -> SettingError:
    """The error of a generation prompt that opens a thought; with the key that keeps it from doing so, if one does."""
    fault = f"the model's chat template opens a thought ({tag}) before the reply, which would be read inside it"
    for key in sorted(keys, key=lambda name: not THOUGHT.search(name)):
        for value in OFF:
            try:
                read_turn(tokenizer, template, {key: value})
            except (OpenedThoughtError, TemplateFaultError, SettingError):
                continue
            return SettingError("model.chat_template_kwargs", fault, f"add {{{key}: {json.dumps(value)}}}")
    remedy = "take a model that answers without thinking: this template reads no key that switches it off"
    return SettingError("model.chat_template_kwargs", fault, remedy)
