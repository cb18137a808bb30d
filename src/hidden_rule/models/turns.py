"""How an assistant's turn begins and ends in a chat template, and whether its prompt ends within a thought."""

import re
from dataclasses import dataclass

from hidden_rule.core.errors import SettingError
from hidden_rule.models.control_tokens import control_pattern
from hidden_rule.models.template_syntax import TemplateFaultError
from hidden_rule.models.templates import render
from hidden_rule.task.replies import render_reply

SYSTEM = "System marker: 5 > 3 & 2 < 4, \"quotes\" & 'others', {labels}.\nIts second line."
USER = 'User marker: ${1} < 20% & "more".\nIts second line.'
LABEL = "MARKER_9"
CASE = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
ANSWER = {"role": "assistant", "content": render_reply(LABEL)}

TAG = re.compile(r"<\|?channel\|?>\s*\w+|<[^<>\n]{1,60}>|\[[^\[\]\n]{1,60}\]|◁[^◁▷\n]{1,60}▷")
THOUGHT = re.compile(
    r"think|thought|reason|analy[sz]|reflect|scratch|ponder|rationale|deliberat|inner|monolog|\bcot\b", re.I
)
NO_THOUGHT = re.compile(
    r"(no|non|skip|without|empty)[ _-]?(think|thought|reason)|(think|thought|reason)\w*[ _-]?(off|none)", re.I
)
CLOSES = re.compile(r"\W*(/|end|stop|close)|.*(_end|_suffix|/)\W*$", re.I)


class OpenedThoughtError(Exception):
    """A generation prompt that ends within a thought, which the tag of the message opened."""


@dataclass(frozen=True)
class Turn:
    """An assistant's turn as a template writes it; `opening` and `closing` are text."""

    asked: str  # between the user's text and the reply that is asked for
    opening: str  # blanks before the reply that the generation prompt does not end with
    closing: str  # between the reply and the end
    end: str  # the token with which the turn ends
    end_id: int
    closes: bool  # whether the template writes that token; it is the tokenizer's own otherwise
    tail: str = ""  # all that the template writes behind the reply
    moved: str = ""  # what a finished turn has before its reply and the generation prompt lacks
    odd: str = ""  # what the generation prompt has and a finished turn lacks


def opened_thought(text: str) -> str | None:
    """The tag in `text` that opens a thought which does not end there, or None."""
    opened: list[str] = []
    for found in TAG.finditer(text):
        tag = found[0]
        if NO_THOUGHT.search(tag):
            continue
        if THOUGHT.search(tag) and not CLOSES.match(tag):
            opened.append(tag)
        elif opened and (THOUGHT.search(tag) or _ends_channel(tag, opened[-1])):
            opened.pop()
    return opened[-1] if opened else None


def _ends_channel(tag: str, opened: str) -> bool:
    return "channel" in opened and bool(re.match(r"<\|(end|return|call|start)\|>|<channel\|>|<\|?channel", tag))


def without_thoughts(text: str) -> str:
    """`text` without thoughts that are opened and closed in it, and without ends of thoughts alone."""
    kept, depth, at = "", 0, 0
    for found in TAG.finditer(text):
        if not THOUGHT.search(found[0]):
            continue
        kept += text[at : found.start()] if depth == 0 else ""
        closes = bool(CLOSES.match(found[0]))
        depth, at = (max(0, depth - 1) if closes else depth + 1), found.end()
    return kept + text[at:] if depth == 0 else kept


def read_turn(tokenizer, template: str, template_kwargs: dict | None = None) -> Turn:
    """How `template` has an assistant's turn begin and end.

    Raises OpenedThoughtError; TemplateFaultError if the template cannot be rendered; and SettingError if its generation
    prompt is missing or another than how a finished turn begins.
    """
    prompt, bare = (render(tokenizer, CASE, template, ask, template_kwargs) for ask in (True, False))
    asked = _after(prompt, USER)
    if tag := opened_thought(asked):
        raise OpenedThoughtError(tag)
    try:
        conversation = render(tokenizer, [*CASE, ANSWER], template, False, template_kwargs)
    except TemplateFaultError:
        conversation = ""
    if prompt.count(USER) > 1 or conversation.count(ANSWER["content"]) > 1:
        raise TemplateFaultError("writes a message more than once")
    whole = _after(conversation, USER)
    if ANSWER["content"] in conversation and ANSWER["content"] not in whole:
        raise TemplateFaultError("puts the turn of the assistant before that of the user")
    if ANSWER["content"] not in whole:
        if prompt == bare:
            raise _no_prompt()
        return Turn(asked, "", "", tokenizer.eos_token, tokenizer.eos_token_id, closes=False)
    finished, _, tail = whole.rpartition(ANSWER["content"])
    same = next(
        (i for i, (a, b) in enumerate(zip(asked, finished, strict=False)) if a != b), min(len(asked), len(finished))
    )
    extra, lead = asked[same:], finished[same:]
    for name in re.findall(r"</([\w:.-]+)>", lead):
        if f"<{name}>" in asked:
            raise OpenedThoughtError(f"<{name}>")
    added = prompt[len(bare) :] if prompt.startswith(bare) else asked
    if not added.strip() and (without_thoughts(lead).strip() or not finished.strip()):
        raise _no_prompt()
    opening, moved, odd = _start(asked, finished, extra, lead)
    closing, end = _end(tokenizer, tail)
    closes = end is not None
    end = end or tokenizer.eos_token
    return Turn(asked, opening, closing, end, tokenizer.convert_tokens_to_ids(end), closes, tail, moved, odd)


def _after(text: str, marker: str) -> str:
    return text.rpartition(marker)[2]


def _no_prompt() -> SettingError:
    return SettingError(
        "model.id",
        "the model's chat template has no generation prompt: it ends alike with and without add_generation_prompt",
        "mend the template in the model's folder, or take a model whose template asks for the assistant's turn",
    )


def _start(asked: str, finished: str, extra: str, lead: str) -> tuple[str, str, str]:
    """`opening`, `moved` and `odd` of a turn whose prompt ends with `extra` where a finished turn has `lead`."""
    more, missing = without_thoughts(extra).strip(), without_thoughts(lead).strip()
    if more and (missing or TAG.search(more)):
        raise SettingError(
            "model.id",
            f"the chat template asks for a turn that begins with {asked.strip()[-80:]!r}, and writes finished ones "
            f"that begin with {finished.strip()[-80:]!r}",
            "mend the template in the model's folder, or take another model",
        )
    if extra:
        return "", "", more
    return (lead, "", "") if not lead.strip() else ("", lead, "")


def _end(tokenizer, tail: str) -> tuple[str, str | None]:
    """The text between a reply and the first control token of what follows it, and that token, if there is one."""
    found = control_pattern(tokenizer).search(tail)
    return (tail[: found.start()], found[0]) if found else ("", None)
