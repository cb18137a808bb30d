"""The application behind `make serve`: OpenAI's `/v1/models` and `/v1/chat/completions`, `/v1/decisions`, `/health`.

A request is checked, its prompt made, and its question put to the batcher; the answer stands in the log, where there is
one, before the first byte of it leaves. Errors have OpenAI's form, and say nothing of the machine.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hidden_rule.deployment.answer_log import AnswerLog
from hidden_rule.deployment.batching import Batcher, BusyError
from hidden_rule.deployment.chat_replies import Answer, decide, error_body
from hidden_rule.deployment.chat_requests import ChatRequest, RequestError, chat_request, parse_body
from hidden_rule.deployment.served_policy import ServedPolicy
from hidden_rule.deployment.web import Access, read_body

log = logging.getLogger(__name__)

RETRY_S = 1  # after which a client that was turned away may ask again


@dataclass(frozen=True)
class Limits:
    """What protects the server from its clients."""

    body_bytes: int = 256 * 1024
    waiting: int = 256  # questions
    body_s: float = 30.0  # until a body has to be there
    answer_s: float = 120.0  # until a question has to be answered


class Server:
    """A policy, its queue, and the handlers of its routes."""

    def __init__(
        self, policy: ServedPolicy, access: Access, limits: Limits | None = None, answers: AnswerLog | None = None
    ):
        self.policy, self.access, self.limits, self.answers = policy, access, limits or Limits(), answers
        self.started = int(time.time())
        self.batcher: Batcher = Batcher(policy.branch_log_probs, policy.batch_size, self.limits.waiting)
        self._encoder = ThreadPoolExecutor(1, "prompts")  # a tokenizer belongs to one thread

    def close(self) -> None:
        """Answer what was accepted, and end."""
        self.batcher.close()
        self.policy.scores.close()
        self._encoder.shutdown()
        if self.answers:
            self.answers.close()

    async def health(self, request: Request) -> Response:
        can_score = self.policy.scores.is_alive
        alive = self.batcher.is_alive and can_score
        status = "ok" if alive else "closing" if can_score else "failed"
        state = {"status": status, "model": self.policy.name, "waiting": self.batcher.n_waiting}
        return JSONResponse(state, 200 if alive else 503)

    async def models(self, request: Request) -> Response:
        self.access.check(request)
        return JSONResponse({"object": "list", "data": [self._model]})

    async def model(self, request: Request) -> Response:
        self.access.check(request)
        if request.path_params["name"] != self.policy.name:
            raise RequestError(f"the only model is {self.policy.name}", "model", "model_not_found", 404)
        return JSONResponse(self._model)

    @property
    def _model(self) -> dict:
        labels = list(self.policy.vocabulary.labels)
        return {
            "id": self.policy.name,
            "object": "model",
            "created": self.started,
            "owned_by": "hidden-rule",
            "labels": labels,
        }

    async def chat(self, request: Request) -> Response:
        """Answer `POST /v1/chat/completions`."""
        asked = chat_request(await self._values(request), (self.policy.name,), self.policy.longest_reply)
        answer = await self._answer(asked)
        if asked.stream:
            head = {"Cache-Control": "no-store"}
            return StreamingResponse(answer.events(), media_type="text/event-stream", headers=head)
        return JSONResponse(answer.body())

    async def decision(self, request: Request) -> Response:
        """Answer `POST /v1/decisions`: a case, of which the messages are made here as they were for training."""
        values = await self._values(request)
        for name in values:
            if name != "case":
                raise RequestError(f"unknown parameter {name[:80]!r}; known: case", name[:80])
        asked = ChatRequest(self.policy.name, self.policy.messages(values.get("case")))
        answer = await self._answer(asked)
        said = {"id": answer.id, "object": "decision", "created": answer.created, "model": self.policy.name}
        return JSONResponse(said | {"label": answer.label, "probabilities": answer.probabilities})

    async def _values(self, request: Request) -> dict:
        """The JSON object that a request sends."""
        self.access.check(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a page of another site may send other types without being asked first
            raise RequestError("the Content-Type must be application/json", status=415)
        return parse_body(await read_body(request, self.limits.body_bytes, self.limits.body_s))

    async def _answer(self, asked: ChatRequest) -> Answer:
        """The answer to a request, which stands in the log."""
        loop = asyncio.get_running_loop()
        prompt = await loop.run_in_executor(self._encoder, self.policy.prompt, asked.messages)
        try:
            future = self.batcher.submit(prompt)
        except BusyError:
            fault = f"{self.batcher.n_waiting} questions wait already, or the server is closing: ask again later"
            raise RequestError(fault, code="overloaded", status=503) from None
        try:
            branches = await asyncio.wait_for(asyncio.wrap_future(future), self.limits.answer_s)
        except TimeoutError:
            fault = f"the question was not answered within {self.limits.answer_s:g} s: ask again later"
            raise RequestError(fault, code="timeout", status=503) from None
        decision = decide(self.policy.vocabulary, branches, asked)
        answer = Answer(asked, decision, self.policy.vocabulary, len(prompt), self.policy.fingerprint)
        if self.answers:
            record = {
                "time": round(time.time(), 3), "id": answer.id, "model": self.policy.name, "messages": asked.messages,
                "label": answer.label, "probabilities": answer.probabilities,
            }  # fmt: skip
            self.answers.append(record)
        return answer


def error_response(error: RequestError) -> Response:
    """An error in OpenAI's form; says when to ask again where that helps."""
    headers = {"Retry-After": str(RETRY_S)} if error.status in (429, 503) else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 413):  # what else the client sends is not read
        headers["Connection"] = "close"
    return JSONResponse(error_body(error), error.status, headers)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = "known: GET /v1/models, POST /v1/chat/completions, POST /v1/decisions, GET /health"
    return error_response(RequestError(f"{error.detail}; {known}", status=error.status_code))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client hung up before it had asked


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a question could not be answered", exc_info=error)
    return error_response(RequestError("the question could not be answered; the server's log says why", status=500))


def make_app(server: Server) -> Starlette:
    """The application, which closes the server when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, server.close)

    return Starlette(
        routes=[
            Route("/health", server.health),
            Route("/v1/models", server.models),
            Route("/v1/models/{name:path}", server.model),
            Route("/v1/chat/completions", server.chat, methods=["POST"]),
            Route("/v1/decisions", server.decision, methods=["POST"]),
        ],
        exception_handlers={
            RequestError: _refuse, HTTPException: _no_route, ClientDisconnect: _gone, Exception: _failed,
        },
        lifespan=lifespan,
    )  # fmt: skip
