"""Replies scored by vLLM, which keeps the model loaded in a process of its own environment (`vllm_service.py`)."""

import contextlib
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch

from hidden_rule.core.errors import UserError
from hidden_rule.deployment import vllm_service
from hidden_rule.evaluation.vllm_answers import branches_of, start_program
from hidden_rule.models.trie import LabelTrie

KEY = "ENGINE"
ENDING_S = 10  # that the process has to end in


class VllmScores:
    """Log-probabilities of the branches of a trie, by vLLM. To be made in the main thread, asked in one at a time.

    model: a plain folder of weights; batch_size: sequences at a time; context: tokens of prompt and reply, None for
    what the model allows. The process ends with this one, however that ends; a terminal's Ctrl-C does not reach it.
    Raises UserError where vLLM does not come to answer.
    """

    def __init__(self, model: Path, dtype: torch.dtype, trie: LabelTrie, batch_size: int, context: int | None):
        of_type = str(dtype).removeprefix("torch.")
        service = vllm_service.Service(str(model.resolve()), of_type, branches_of(trie), batch_size, context)
        self.dtype = dtype
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = start_program(vllm_service, **pipes, start_new_session=True)
        assert self._process.stdin and self._process.stdout
        self._questions, self._answers = self._process.stdin, self._process.stdout
        try:
            self.versions: dict[str, str] = self._ask(asdict(service))["versions"]
        except _EndedError as error:
            self.close()
            raise UserError(KEY, "vllm", str(error), "it says above why; ENGINE=transformers serves too") from None
        except BaseException:
            self.close()
            raise

    def __call__(self, prompts: list[list[int]]) -> torch.Tensor:
        """Float32 log-probabilities (N, K) of the tokens of every branch, on the CPU."""
        said = self._ask(prompts)
        if "error" in said:
            raise RuntimeError(f"vLLM: {said['error']}")
        return torch.tensor(said["log_probs"])

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        for pipe in (self._questions, self._answers):
            with contextlib.suppress(OSError):  # what it has not read, as it is no more
                pipe.close()
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, question) -> dict:
        try:
            print(json.dumps(question), file=self._questions, flush=True)
            line = self._answers.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):
            raise _EndedError(f"vLLM ended ({how_it_ended(self._process)})")
        return json.loads(line)


class _EndedError(RuntimeError):
    """The process is no more."""


def how_it_ended(process: subprocess.Popen) -> str:
    """`status 1`, `signal 9`; waits a moment for a process whose output ended."""
    try:
        status = process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        return "it closed its output"
    return f"signal {-status}" if status < 0 else f"status {status}"
