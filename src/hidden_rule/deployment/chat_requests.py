"""A body of `POST /v1/chat/completions` as a request that can be answered, or refused with a status and a reason.

What would change the answer and is not done here is refused, not ignored: several answers, stop words, tools.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

from hidden_rule.core.schemas import did_you_mean, quoted

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}  # as templates know them
MAX_MESSAGES = 64
MAX_TOP = 20  # alternatives that `top_logprobs` may ask for, as in OpenAI's API
MAX_TEMPERATURE = 2.0
COLDEST = 1e-6  # a temperature below is 0
SEEDS = 2**63
READ = {"model", "messages", "temperature", "seed", "logprobs", "top_logprobs", "stream", "stream_options"}
LENGTHS = ("max_tokens", "max_completion_tokens")
NEUTRAL: dict[str, tuple] = {  # what may be given as long as it asks for nothing; null always may
    "n": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "stop": ([], ""),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"}, {"type": "json_object"}),
    "modalities": (["text"],),
}
UNREAD = {  # what changes no answer
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"),
    *("prompt_cache_retention", "reasoning_effort", "verbosity"),
}


class RequestError(Exception):
    """Why a request is not answered, as the body of an error in OpenAI's form holds it."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400):
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


@dataclass(frozen=True)
class ChatRequest:
    """What is asked. temperature 0: the most probable reply; above: one drawn from the policy at that temperature."""

    model: str
    messages: list[dict[str, str]]  # `role` and `content`, as a chat template takes them
    temperature: float = 0.0
    seed: int | None = None  # of the draw
    top_logprobs: int | None = None  # alternatives for each token; None: no log-probabilities
    stream: bool = False
    include_usage: bool = False  # at the end of a stream


def parse_body(body: bytes) -> dict:
    """The JSON object of a body; raises RequestError for anything else."""
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise RequestError("the body is not text in UTF-8", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:120]
        raise RequestError(f"the body is not JSON ({reason})", code="invalid_json") from None
    if not isinstance(values, dict):
        raise RequestError("the body is not a JSON object", code="invalid_json")
    return values


def _no_constant(name: str):
    raise ValueError(f"{name} is no JSON number")


def chat_request(values: dict, models: tuple[str, ...], longest_reply: int) -> ChatRequest:
    """The request of a body's object.

    models: names that are served; longest_reply: tokens of the longest valid reply. Raises RequestError with the
    parameter that is wrong.
    """
    _check_parameters(values, longest_reply)
    model = values.get("model")
    if not isinstance(model, str):
        raise RequestError(f"model must be text: one of {', '.join(models)}", "model")
    if model not in models:
        fault = f"the model {quoted(model)} does not exist; known: {', '.join(models)}"
        raise RequestError(fault, "model", "model_not_found", 404)
    options = _optional(values, "stream_options", dict, "an object") or {}
    return ChatRequest(
        model=model,
        messages=_messages(values.get("messages")),
        temperature=_temperature(values),
        seed=_whole(values, "seed", -SEEDS, SEEDS - 1),
        top_logprobs=_top_logprobs(values),
        stream=bool(_optional(values, "stream", bool, "true or false")),
        include_usage=options.get("include_usage") is True,
    )


def _check_parameters(values: dict, longest_reply: int) -> None:
    """No parameter that is unknown, or that asks for what is not done."""
    for name, value in values.items():
        if value is None or name in READ or name in UNREAD:
            continue
        if name in LENGTHS:
            if (n := _whole(values, name, 1, SEEDS)) is not None and n < longest_reply:
                fault = f"{name} of {n} would cut a valid reply, which has up to {longest_reply} tokens"
                raise RequestError(fault, name)
        elif name not in NEUTRAL:
            known = [*READ, *LENGTHS, *NEUTRAL]
            raise RequestError(f"unknown parameter {quoted(name)}; {did_you_mean(name, sorted(known))}", quoted(name))
        elif not any(type(value) is not bool and value == neutral for neutral in NEUTRAL[name]):
            allowed = " or ".join(json.dumps(neutral) for neutral in NEUTRAL[name])
            raise RequestError(f"{name} may only be {allowed}: one of the valid replies is given, whole", name)


def _optional(values: dict, name: str, kind: type, words: str) -> Any:
    value = values.get(name)
    if value is not None and type(value) is not kind:
        raise RequestError(f"{name} must be {words}", name)
    return value


def _whole(values: dict, name: str, low: int, high: int) -> int | None:
    value = _optional(values, name, int, "a whole number")
    if value is not None and not low <= value <= high:
        raise RequestError(f"{name} must be from {low} to {high}", name)
    return value


def _temperature(values: dict) -> float:
    value = values.get("temperature")
    if value is None:
        return 0.0
    is_number = type(value) in (int, float) and math.isfinite(value)
    if not is_number or not 0 <= value <= MAX_TEMPERATURE:
        raise RequestError(f"temperature must be a number from 0 to {MAX_TEMPERATURE:g}", "temperature")
    return float(value) if value >= COLDEST else 0.0


def _top_logprobs(values: dict) -> int | None:
    wanted = _optional(values, "logprobs", bool, "true or false")
    top = _whole(values, "top_logprobs", 0, MAX_TOP)
    if top and not wanted:
        raise RequestError("top_logprobs needs logprobs: true", "top_logprobs")
    return (top or 0) if wanted else None


def _messages(given) -> list[dict[str, str]]:
    """The conversation, which ends with the user's message."""
    if not isinstance(given, list) or not given:
        raise RequestError("messages must be a list of at least one message", "messages")
    if len(given) > MAX_MESSAGES:
        raise RequestError(f"messages has {len(given)} entries, of at most {MAX_MESSAGES}", "messages")
    messages = [_message(item, f"messages[{i}]") for i, item in enumerate(given)]
    if messages[-1]["role"] != "user":
        raise RequestError("the last message must be the user's, which is answered", f"messages[{len(given) - 1}].role")
    return messages


def _message(item, place: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise RequestError(f"{place} must be an object with role and content", place)
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise RequestError(f"{place}.role must be system, user or assistant", f"{place}.role")
    for name in ("tool_calls", "function_call", "audio", "refusal"):
        if item.get(name):
            raise RequestError(f"{place}.{name} cannot be part of a case", f"{place}.{name}")
    return {"role": ROLES[role], "content": _content(item.get("content"), f"{place}.content")}


def _content(content, place: str) -> str:
    """A message's text: given as such, or as parts of the type text."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        words = [text for text in texts if isinstance(text, str)]
        if not words or len(words) < len(content):
            raise RequestError(f"{place} may hold parts of the type text only", place)
        content = "".join(words)
    if not isinstance(content, str):
        raise RequestError(f"{place} must be text", place)
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError(f"{place} holds half of a surrogate pair, which is no character", place) from None
    return content
