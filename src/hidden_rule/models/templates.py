"""A model's chat template as text: what it reads, how it renders, and lines put before it that mend what it does.

A template is a program of the model's, run in transformers' sandbox: whatever it raises becomes a `TemplateFaultError`.
"""

import contextlib
import re
import resource
import signal
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from hidden_rule.models.template_syntax import CLOCK, TemplateFaultError, one_line

OWN = "own_chat_template"  # attribute of a tokenizer: the model's template, where `chat_template` is not it any more
DAY = datetime(2026, 1, 1)  # what a template takes for today: prompts must be the same on any day and machine
SECONDS = 20.0  # that a template may take, which takes milliseconds
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}>")
OTHER_DAY = datetime(2031, 11, 23, 22, 57, 48)
FOLD = (  # the system's text becomes the start of the first user turn
    "{% if messages | length > 1 and messages[0]['role'] == 'system' %}{% set messages = [{'role': "
    "messages[1]['role'], 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] "
    "+ messages[2:] %}{% endif %}\n"
)
PARTS = (  # templates of multimodal models may want a message's content as a list of parts
    "{% set in_parts = namespace(messages=[]) %}{% for message in messages %}{% set in_parts.messages = "
    "in_parts.messages + [{'role': message['role'], 'content': [{'type': 'text', 'text': message['content']}]}] %}"
    "{% endfor %}{% set messages = in_parts.messages %}\n"
)


class TimeUpError(BaseException):
    """Raised into a template that does not end; no `Exception`, which templates' errors are taken for."""


@contextlib.contextmanager
def limited_memory(n_bytes: int = 2**31) -> Iterator[None]:
    """Let the block take so much more address space, where the system counts it (Linux): MemoryError beyond."""
    try:
        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    lowest = min(limit for limit in (taken + n_bytes, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def limited_time(seconds: float = SECONDS) -> Iterator[None]:
    """Raise TemplateFaultError where what the block renders takes longer, and MemoryError where it takes much memory.

    Not heeded in other threads than the main.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def time_up(number, frame):
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, time_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with limited_memory():
            yield
    except TimeUpError as error:
        raise TemplateFaultError(f"takes longer than {seconds:g} s for a few prompts") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def own_template(tokenizer) -> str:
    """The chat template that a model came with; of several the one called `default`, as transformers takes it."""
    template = getattr(tokenizer, OWN, None) or getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict) and template:
        if "default" not in template:
            raise TemplateFaultError(f"has several forms ({', '.join(sorted(template))}) and none called default")
        template = template["default"]
    if not isinstance(template, str) or not template.strip():
        raise TemplateFaultError("is missing")
    return template


def render(
    tokenizer, messages: list[dict], template: str, ask: bool = True, template_kwargs: dict | None = None
) -> str:
    """A conversation as `template` renders it; `ask`: up to where the assistant's reply begins."""
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=ask, tokenize=False, **(template_kwargs or {})
        )
    except Exception as error:  # a program of the model's may raise anything
        raise TemplateFaultError(f"fails ({one_line(error)})") from error
    if ADDRESS.search(text):
        raise TemplateFaultError("writes an address of this process's memory, another one in each process")
    return str(text)


def lost_text(rendered: str, messages: list[dict]) -> str | None:
    """What became of a message whose text is not in `rendered` as it was given, in its place, or None if all are.

    Blanks around a text may go. A system's text may stand anywhere, as templates put it into one turn or another.
    """
    at = 0
    for message in messages:
        text, role = message["content"].strip(), message["role"]
        found = rendered.find(text, 0 if role == "system" else at)
        if found < 0:
            done = "moves or drops" if text in rendered else "changes" if text[:12] in rendered else "drops"
            return f"{done} a message of the {role}"
        at = at if role == "system" else found + len(text)
    return None


def clock_lines(template: str, day: datetime = DAY) -> str:
    """Lines before a template after which its clock stands still at midnight of `day`."""
    forms = [form for form in "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyYzZf" if f"%{form}" in template]
    short = [form for form in "dmyHIMSjeUW" if f"%-{form}" in template]
    values = {f"%{form}": day.strftime(f"%{form}") for form in forms}
    values |= {f"%-{form}": day.strftime(f"%{form}").lstrip(" 0") or "0" for form in short}
    values = values or {f"%{form}": day.strftime(f"%{form}") for form in "aAbBdHIjmMpSUwWyY"}
    values = {"%%": "\x01", **values, "\x01": "%"} if "%%" in template else values
    replaced = "".join(f" | replace({literal(form)}, {literal(value)})" for form, value in values.items())
    return f"{{%- macro {CLOCK}(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro %}}\n"


def default_lines(template_kwargs: dict) -> str:
    """Lines before a template after which keys have these values where none are passed."""
    return "".join(
        f"{{% if {key} is not defined %}}{{% set {key} = {literal(value)} %}}{{% endif %}}\n"
        for key, value in template_kwargs.items()
    )


def literal(value) -> str:
    """A JSON value as an expression of a template."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value) if isinstance(value, int | float) else _text_literal(str(value))


def _text_literal(text: str) -> str:
    """Text in quotes; what is not printable ASCII as escapes, which Jinja reads as Python does."""
    escaped = text.encode("unicode_escape").decode("ascii").replace("'", "\\'")
    return f"'{escaped}'"


def with_opening(template: str, opening: str) -> str:
    """A template whose generation prompt ends with `opening` too."""
    body = re.sub(r"\r?\n\Z", "", template)  # Jinja drops a template's last line break
    return f"{body}{{{{ {literal(opening)} if add_generation_prompt else '' }}}}"
