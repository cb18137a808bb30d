"""Concurrent questions to one model: a bounded queue, and one thread that answers whatever waits together.

There is no delay to fill a batch: while one is computed the next one gathers. So a single client waits for its own
question alone, and of many each waits for two batches at the most, as long as all fit into one.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_TOKENS = 32_768  # of the prompts that are computed together

Answer = TypeVar("Answer")
Prompt = tuple[int, ...]


class BusyError(Exception):
    """Too many questions wait, or the server is closing."""


@dataclass(frozen=True)
class _Question(Generic[Answer]):
    prompt: Prompt
    future: Future


class Batcher(Generic[Answer]):
    """Answers of `compute` to prompts (token ids), computed together in one thread.

    compute: from distinct prompts to an answer each, in their order. batch_size: prompts at a time; most_waiting:
    questions that wait, beyond which `submit` raises BusyError.
    """

    def __init__(self, compute: Callable[[list[Prompt]], Sequence[Answer]], batch_size: int, most_waiting: int):
        self._compute, self._batch_size = compute, batch_size
        self._waiting: queue.Queue[_Question | None] = queue.Queue(most_waiting + 1)  # and the mark that ends it
        self._most, self._closed, self._lock = most_waiting, False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Questions that wait, about."""
        return self._waiting.qsize()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    def submit(self, prompt: Sequence[int]) -> Future:
        """The answer to come; cancelled, it is not computed if it still waits."""
        question: _Question = _Question(tuple(prompt), Future())
        with self._lock:
            if self._closed or not self._thread.is_alive() or self._waiting.qsize() >= self._most:
                raise BusyError
            self._waiting.put_nowait(question)
        return question.future

    def close(self) -> None:
        """Accept no more, answer what was accepted, and end the thread."""
        with self._lock:
            first, self._closed = not self._closed, True
            if first:
                self._waiting.put_nowait(None)
        self._thread.join()

    def _run(self) -> None:
        left: _Question | None = None
        while True:
            question = left or self._waiting.get()
            if question is None:
                return
            batch, left, ended = self._gathered(question)
            self._answer([one for one in batch if one.future.set_running_or_notify_cancel()])
            if ended:
                return

    def _gathered(self, first: _Question) -> tuple[list[_Question], _Question | None, bool]:
        """What is computed together with `first`; a question that no longer fits, if one was taken; was it the end?"""
        batch, n_tokens = [first], len(first.prompt)
        while len(batch) < self._batch_size:
            try:
                question = self._waiting.get_nowait()
            except queue.Empty:
                break
            if question is None:
                return batch, None, True
            n_tokens += len(question.prompt)
            if n_tokens > MAX_TOKENS:
                return batch, question, False
            batch.append(question)
        return batch, None, False

    def _answer(self, batch: list[_Question]) -> None:
        """Answer a batch; where that fails, question by question, so that one at fault fails alone."""
        if not batch:
            return
        prompts = list(dict.fromkeys(question.prompt for question in batch))
        try:
            answers = dict(zip(prompts, self._compute(prompts), strict=True))
        except Exception as error:  # of a model, a device, memory: whoever asked is told, and the thread goes on
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for question in batch:
                self._answer([question])
            return
        for question in batch:
            question.future.set_result(answers[question.prompt])
