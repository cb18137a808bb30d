"""Whether a model is asked what we think it is asked: its chat template, its tokenizer and its generation settings.

`inspect_chat` looks at them before anything trains. What has to be refused raises a SettingError, one line; what may be
wrong is a warning; all of it stands in the model's manifest.
"""

import re

from hidden_rule.core.errors import SettingError
from hidden_rule.core.schemas import quoted
from hidden_rule.models import templates
from hidden_rule.models.adaptation import REPAIRS, Adapted, adapt, thinking_keys
from hidden_rule.models.control_tokens import control_tokens
from hidden_rule.models.generation import declared_stops, not_applied
from hidden_rule.models.inspected import Inspected
from hidden_rule.models.template_syntax import CLOCK, TemplateFaultError, read_syntax
from hidden_rule.models.templates import lost_text, render
from hidden_rule.models.turns import ANSWER, CASE, LABEL, THOUGHT
from hidden_rule.task.replies import parse_reply, render_reply

KEYS = "model.chat_template_kwargs"
TAG_SHAPE = re.compile(r"<[|｜][\w ▁]+[|｜]>|<\w+[|｜]>|<[|｜]\w+>|<\w+_of_\w+>|<\w*end\w*>|\[/?[A-Z_]+\]")
SHOTS = [*CASE, ANSWER, {"role": "user", "content": "Next user marker."}]
TEXT_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


def inspect_chat(tokenizer, template_kwargs: dict, generation_config: dict) -> Inspected:
    """Facts and warnings of a model's tokenizer, chat template and `generation_config.json`.

    `tokenizer`: as `load_tokenizer` or transformers gives it; `template_kwargs`: `model.chat_template_kwargs`. Raises
    SettingError where results would be wrong.
    """
    check_tokenizer(tokenizer)
    adapted = adapt(tokenizer, template_kwargs)
    declared = declared_stops(generation_config)
    stops = [i for i in declared if 0 <= i < len(tokenizer)]
    check_replies(tokenizer, adapted, stops)
    try:
        with templates.limited_time():
            warnings = [
                *system_warnings(adapted),
                *turn_warnings(tokenizer, adapted),
                *key_warnings(tokenizer, adapted, template_kwargs),
                *date_warnings(tokenizer, adapted),
                *conversation_warnings(tokenizer, adapted),
            ]
    except TemplateFaultError as fault:
        raise SettingError("model.id", f"the model's chat template {fault}", "take another model") from fault
    if unknown := sorted(set(declared) - set(stops)):
        warnings.append(f"generation_config.json: eos_token_id names {unknown}, which the tokenizer does not have")
    ignored = not_applied(generation_config)
    if ignored:
        listed = ", ".join(f"{name} {str(value)[:40]}" for name, value in sorted(ignored.items()))
        warnings.append(f"generation_config.json sets {listed}: not applied, all models are asked alike")
    return Inspected(facts(tokenizer, adapted, stops) | {"generation settings not applied": ignored}, tuple(warnings))


def facts(tokenizer, adapted: Adapted, stops: list[int]) -> dict:
    """What was found, in words."""
    turn = adapted.turn
    dated = read_syntax(adapted.own).reads_clock
    ends = list(dict.fromkeys([tokenizer.eos_token_id, *stops, turn.end_id]))
    return {
        "system message": adapted.system,
        "generation prompt": turn.asked,
        "end of a turn": f"{turn.end} ({turn.end_id})",
        "tokens that end a reply": [f"{tokenizer.convert_ids_to_tokens(i)} ({i})" for i in ends],
        "keys of the chat template": list(adapted.keys),
        "date in the chat template": f"{templates.DAY:%Y-%m-%d}" if dated else "none",
        "bos token": tokenizer.bos_token,
        "eos token": tokenizer.eos_token,
        "pad token": tokenizer.pad_token,
        "vocabulary": len(tokenizer),
        "control tokens": len(control_tokens(tokenizer)),
    }


def check_tokenizer(tokenizer) -> None:
    """Give a tokenizer a padding token; raise SettingError if it has no end of text or cannot write a reply."""
    if tokenizer.eos_token is None or tokenizer.eos_token_id is None:
        fault, remedy = (
            "the model's tokenizer has no eos_token",
            "name it in tokenizer_config.json, or take another model",
        )
        raise SettingError("model.id", fault, remedy)
    if tokenizer.pad_token is None or tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    reply = render_reply(LABEL)
    ids = tokenizer.encode(reply, add_special_tokens=False)
    if ids and tokenizer.bos_token_id == ids[0]:
        fault = f"the model's tokenizer puts {tokenizer.bos_token} before every text, also within a conversation"
        raise SettingError("model.id", fault, "mend add_bos_token in tokenizer_config.json, or take another model")
    text = tokenizer.decode(ids, skip_special_tokens=True)
    if parse_reply(text, [LABEL]) is None:
        fault = f"the model's tokenizer cannot write a reply: of {reply} it makes {text[:60]!r}"
        raise SettingError("model.id", fault, "take a model that has the tokenizer it was trained with")


def check_replies(tokenizer, adapted: Adapted, stops: list[int]) -> None:
    """Raise SettingError if a token that ends a reply stands within one, or if a prompt starts twice."""
    ids = tokenizer.encode(render_reply(LABEL), add_special_tokens=False)
    for stop in {tokenizer.eos_token_id, *stops} & set(ids):
        word = tokenizer.decode([stop])
        fault = f"a token that ends replies, {stop} ({word!r}), stands within every valid reply"
        raise SettingError("model.id", fault, "mend eos_token_id in generation_config.json or tokenizer_config.json")
    start, bos = prompt_ids(tokenizer, adapted)[:2], tokenizer.bos_token_id
    if bos is not None and start == [bos, bos] and tokenizer.bos_token not in adapted.turn.asked:  # begins turns too
        fault = f"prompts begin with {tokenizer.bos_token} twice: chat template and tokenizer both write it"
        raise SettingError("model.id", fault, "take it out of one of them in the model's folder")


def prompt_ids(tokenizer, adapted: Adapted) -> list[int]:
    """Token ids of a prompt."""
    return tokenizer(render(tokenizer, CASE, adapted.used), add_special_tokens=False)["input_ids"]


def system_warnings(adapted: Adapted) -> list[str]:
    """What is said of a system's message that the template does not take."""
    if "folded" not in adapted.system:
        return []
    return [
        "the chat template refuses or drops the system's message: its text stands at the start of the first user turn"
    ]


def turn_warnings(tokenizer, adapted: Adapted) -> list[str]:
    """What is said of how a turn begins and ends."""
    turn, found = adapted.turn, []
    if adapted.opening:
        found.append(
            f"finished turns have {adapted.opening.strip()!r} before the reply and the generation prompt has not: it "
            "was added to the prompt"
        )
    if turn.odd:
        hint = f"; if that begins a thought, look for a key of {KEYS} against it" if THOUGHT.search(turn.odd) else ""
        found.append(f"the generation prompt ends with {turn.odd!r}, which finished turns have not{hint}")
    if strange := strange_tags(tokenizer, turn.asked + turn.tail):
        found.append(
            f"the chat template writes {', '.join(strange)}, which are no tokens of the tokenizer: it and the "
            "template may not belong together"
        )
    if not turn.closes:
        found.append(f"the chat template ends a turn with no token: {turn.end}, the tokenizer's own, is taken")
    plain = tokenizer.encode("a")
    bos = tokenizer.bos_token_id
    if bos is not None and plain[:1] == [bos] and bos not in prompt_ids(tokenizer, adapted)[:1]:
        found.append(f"the tokenizer begins texts with {tokenizer.bos_token}, and the chat template writes none")
    return found


def strange_tags(tokenizer, text: str) -> list[str]:
    """Control tokens that `text` would hold if its tokenizer had them."""
    return sorted(set(TAG_SHAPE.findall(text)) - set(tokenizer.added_tokens_encoder))


def key_warnings(tokenizer, adapted: Adapted, template_kwargs: dict) -> list[str]:
    """What is said of keys that have no effect, and of thinking that is not switched off."""
    found, own = [], REPAIRS[adapted.system] + adapted.own
    for key, value in template_kwargs.items():
        others = {name: other for name, other in template_kwargs.items() if name != key}
        rendered = all_renderings(tokenizer, own, template_kwargs)
        effect, text = rendered != all_renderings(tokenizer, own, others), f"{KEYS}.{key}: {quoted(value)}"
        meant = TEXT_BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
        opposite = meant is not None and rendered == all_renderings(tokenizer, own, {**others, key: not meant})
        if meant is not None and (opposite or not effect):
            result = "has the opposite effect" if opposite and effect else "has no effect on prompts"
            found.append(f"{text} is text and {result}: write {key}: {str(meant).lower()} without quotes")
        elif not effect:
            found.append(f"{text} has no effect on prompts")
    return found + thinking_warnings(tokenizer, adapted, template_kwargs)


def thinking_warnings(tokenizer, adapted: Adapted, template_kwargs: dict) -> list[str]:
    """What is said of a model that may think before it replies because nothing says that it should not."""
    found, own = [], REPAIRS[adapted.system] + adapted.own
    if adapted.opening:  # the reply has begun
        return []
    for key in thinking_keys(adapted.keys):
        off = all_renderings(tokenizer, own, {**template_kwargs, key: False})
        if key not in template_kwargs and off != all_renderings(tokenizer, own, template_kwargs):
            found.append(
                "the model may think before it replies, and a thought is no valid reply: its chat template reads "
                f"{key}, which {KEYS} does not set; {{{key}: false}} switches thinking off in many models"
            )
    return found


def all_renderings(tokenizer, template: str, template_kwargs: dict) -> list[str]:
    """How every kind of conversation renders; a fault renders as its reason."""
    texts = []
    head = templates.clock_lines(template) if CLOCK in template else ""
    for messages in (CASE, CASE[1:], SHOTS):
        for ask in (True, False):
            try:
                texts.append(render(tokenizer, messages, head + template, ask, template_kwargs))
            except TemplateFaultError as fault:
                texts.append(str(fault))
    return texts


def date_warnings(tokenizer, adapted: Adapted) -> list[str]:
    """What is said of a template that writes today's date where the user gives none."""
    if not read_syntax(adapted.own).reads_clock:
        return []
    day = f"{templates.DAY:%Y-%m-%d}"
    lines = templates.clock_lines(adapted.own)
    other = adapted.used.replace(lines, templates.clock_lines(adapted.own, templates.OTHER_DAY))
    if all(render(tokenizer, of, adapted.used) == render(tokenizer, of, other) for of in (CASE, CASE[1:])):
        return []
    key = next((key for key in adapted.keys if "date" in key), None)
    cure = f"; {KEYS}: {{{key}: ...}} sets another" if key else ""
    return [
        f"the chat template writes today's date: it is held at {day}, so that prompts are the same on any day{cure}"
    ]


def conversation_warnings(tokenizer, adapted: Adapted) -> list[str]:
    """What is said of conversations other than one case: several turns, and a user alone."""
    found = []
    for messages, use in ((SHOTS, "prompts with examples"), (CASE[1:], "questions without a system's message")):
        try:
            lost = lost_text(render(tokenizer, messages, adapted.used), messages)
        except TemplateFaultError as fault:
            lost = str(fault)
        if lost:
            found.append(f"the chat template {lost}: {use} cannot be put to this model")
    return found
