"""Bodies of answers, streams and errors in the form of OpenAI's chat completions.

Beside that form each choice has `decision`: the `label`, and `probabilities`, that of every label. They are the exact
policy's over the valid replies, whatever the temperature of the request.
"""

import json
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from hidden_rule.deployment.chat_requests import ChatRequest, RequestError
from hidden_rule.models.trie import LabelTrie

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass(frozen=True)
class Vocabulary:
    """What decisions are written in: each of L labels, its reply as text and as tokens, in the trie's order."""

    labels: tuple[str, ...]
    replies: tuple[str, ...]
    trie: LabelTrie
    token_texts: dict[int, str]  # of every token of the trie


@dataclass(frozen=True)
class Decision:
    """An answer: the place of the label, the probability of each (L,), and log-probabilities (K,) of the branches."""

    place: int
    probabilities: list[float]
    branches: torch.Tensor


def decide(vocabulary: Vocabulary, branches: torch.Tensor, request: ChatRequest) -> Decision:
    """The decision by float32 log-probabilities (K,) of the trie's branches; drawn where the request has a temperature.

    At a temperature the log-probabilities of each branch are divided by it and normalised anew, as a sampler of tokens
    does it; a request's seed gives the same draw again.
    """
    trie = vocabulary.trie
    log_probs = trie.reply_log_probs(branches.unsqueeze(0))[0]
    place = int(log_probs.argmax())
    if request.temperature:
        parts = branches.split([len(branch.tokens) for branch in trie.branches])
        tempered = torch.cat([torch.log_softmax(part.double() / request.temperature, dim=-1) for part in parts])
        weights = trie.reply_log_probs(tempered.unsqueeze(0))[0].exp().tolist()
        draw = random.SystemRandom() if request.seed is None else random.Random(request.seed)
        place = draw.choices(range(len(weights)), weights)[0]
    return Decision(place, log_probs.double().exp().tolist(), branches)


def token_logprobs(vocabulary: Vocabulary, decision: Decision, top: int) -> list[dict]:
    """Each token of the reply with its log-probability and the `top` likeliest of those allowed in its place.

    A token without an alternative has log-probability 0. The token that ends the turn is no part of the text.
    """
    trie, reply = vocabulary.trie, vocabulary.trie.replies[decision.place]
    starts, at = {}, 0
    for b, branch in enumerate(trie.branches):
        starts[b] = at
        at += len(branch.tokens)
    choices = {len(trie.branches[b].path): b for b, _ in trie.choices(reply)}
    content = []
    for position, token in enumerate(reply[:-1]):
        allowed = {token: 0.0}
        if (choice := choices.get(position)) is not None:
            tokens, start = trie.branches[choice].tokens, starts[choice]
            values = decision.branches[start : start + len(tokens)].tolist()
            allowed = dict(zip(tokens, values, strict=True))
        likeliest = sorted(allowed, key=lambda one: -allowed[one])[:top]
        entry = _token(vocabulary, token, allowed[token])
        content.append(entry | {"top_logprobs": [_token(vocabulary, one, allowed[one]) for one in likeliest]})
    return content


def _token(vocabulary: Vocabulary, token: int, log_prob: float) -> dict:
    text = vocabulary.token_texts[token]
    return {"token": text, "logprob": log_prob, "bytes": list(text.encode("utf-8"))}


@dataclass(frozen=True)
class Answer:
    """A request, its decision, and what identifies the answer."""

    request: ChatRequest
    decision: Decision
    vocabulary: Vocabulary
    n_prompt: int  # tokens
    fingerprint: str  # of the weights
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def label(self) -> str:
        return self.vocabulary.labels[self.decision.place]

    @property
    def reply(self) -> str:
        return self.vocabulary.replies[self.decision.place]

    @property
    def probabilities(self) -> dict[str, float]:
        return dict(zip(self.vocabulary.labels, self.decision.probabilities, strict=True))

    @property
    def usage(self) -> dict[str, int]:
        n_reply = len(self.vocabulary.trie.replies[self.decision.place])
        return {
            "prompt_tokens": self.n_prompt,
            "completion_tokens": n_reply,
            "total_tokens": self.n_prompt + n_reply,
        }

    @property
    def _logprobs(self) -> dict | None:
        top = self.request.top_logprobs
        if top is None:
            return None
        return {"content": token_logprobs(self.vocabulary, self.decision, top), "refusal": None}

    @property
    def _said(self) -> dict:
        return {"decision": {"label": self.label, "probabilities": self.probabilities}}

    def _head(self, kind: str) -> dict:
        about = {"id": self.id, "object": kind, "created": self.created, "model": self.request.model}
        return about | {"system_fingerprint": self.fingerprint}

    def body(self) -> dict:
        """A `chat.completion`."""
        message = {"role": "assistant", "content": self.reply, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": self._logprobs, "finish_reason": "stop"} | self._said
        return self._head("chat.completion") | {"choices": [choice], "usage": self.usage}

    def events(self) -> Iterator[str]:
        """Server-sent events of a stream: `chat.completion.chunk`s, then [DONE]."""
        head = self._head("chat.completion.chunk") | ({"usage": None} if self.request.include_usage else {})

        def chunk(delta: dict, logprobs: dict | None = None, finish: str | None = None, **more) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish} | more
            return f"data: {json.dumps(head | {'choices': [choice]})}\n\n"

        yield chunk({"role": "assistant", "content": ""})
        yield chunk({"content": self.reply}, self._logprobs)
        yield chunk({}, finish="stop", **self._said)
        if self.request.include_usage:
            yield f"data: {json.dumps(head | {'choices': [], 'usage': self.usage})}\n\n"
        yield "data: [DONE]\n\n"


def error_body(error: RequestError) -> dict:
    """An error in OpenAI's form."""
    kind = KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
