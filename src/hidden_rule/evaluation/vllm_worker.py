"""Answers by vLLM to prompts of token ids: a program of its own, in vLLM's environment.

    .engines/vllm/bin/python -m hidden_rule.evaluation.vllm_worker JOB ANSWERS

JOB and ANSWERS are JSON files, `Job` and `Answers` as dictionaries. What needs a tokenizer stays with the program that
starts this one: prompts are the token ids that it made, a reply ends at the tokens that it names. So nothing here
depends on what vLLM makes of a chat template, a tokenizer or a model's generation settings.

A branch of the trie of valid replies (`models/trie.py`) is scored by a request for one token after the prompt and the
branch's path, with all tokens ruled out but the branch's own: vLLM's processed log-probabilities are then those of
structured decoding, a log-softmax over the allowed tokens. Prompts share what they start with (prefix caching), and of
each request one row of logits is computed, not one a token of the prompt as `prompt_logprobs` has it.

Imports of the package only what needs the standard library alone.
"""

import ctypes
import json
import os
import re
import resource
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

KV_CACHE_GIB = "2"  # on a CPU, unless the environment says otherwise; what does not fit waits


@dataclass(frozen=True)
class Job:
    """What a model is asked."""

    model: str  # a folder
    dtype: str  # bfloat16 | float16 | float32
    prompts: list[list[int]]
    branches: list[list[list[int]]]  # path and allowed tokens of each branch; no branches: nothing is scored
    free: list[int]  # the prompts that are answered freely, by their places in `prompts`
    stops: list[int]  # tokens that end a free reply
    max_new_tokens: int
    batch_size: int  # sequences at a time
    seed: int = 0


@dataclass(frozen=True)
class Answers:
    """What it answers, and what that took."""

    log_probs: list[list[float]]  # (N, K): of the tokens of every branch, side by side, after each prompt
    replies: list[list[int]]  # token ids, of each of `free`, up to a stop token or the limit
    n_positions: int  # computed: of prompts without what was cached, and of replies
    n_projected: int  # positions whose logits were computed
    peak_bytes: int  # of the GPU, or resident
    versions: dict[str, str] = field(default_factory=dict)


def end_with_parent() -> None:
    """Let the kernel end this process once the one that started it has ended, however it did (Linux)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended before
            os.kill(os.getpid(), signal.SIGKILL)


def prepare_environment() -> None:
    """What vLLM reads when it is imported: one process, so that it ends whole; no network; threads as we are given."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = os.environ["DO_NOT_TRACK"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", KV_CACHE_GIB)
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def make_engine(job: Job, context: int | None):
    """vLLM's engine with the job's model; on a CPU without compilation, which takes longer than most evaluations.

    context: tokens of the longest prompt with what follows it; None is what the model allows.
    """
    from vllm import LLM
    from vllm.platforms import current_platform

    return LLM(
        model=job.model,
        skip_tokenizer_init=True,
        dtype=job.dtype,
        seed=job.seed,
        max_model_len=context,
        max_num_seqs=job.batch_size,
        max_logprobs=max((len(tokens) for _, tokens in job.branches), default=1),
        logprobs_mode="processed_logprobs",
        generation_config="vllm",  # the model's own settings are not used
        enable_prefix_caching=True,
        enforce_eager=current_platform.is_cpu(),
        load_format="safetensors",
        trust_remote_code=False,
    )


def longest(job: Job) -> int:
    """Tokens of a job's longest prompt with what follows it."""
    longest_path = max((len(path) for path, _ in job.branches), default=0)
    return max(map(len, job.prompts)) + max(longest_path + 1, job.max_new_tokens if job.free else 1)


class Respondent:
    """An engine, asked; it counts what it computes."""

    def __init__(self, engine, progress: bool = True):
        self.engine, self.progress = engine, progress
        self.n_positions = self.n_projected = 0

    def ask(self, prompts: list[list[int]], parameters) -> list:
        """vLLM's completion of each prompt."""
        outputs = self.engine.generate(
            [{"prompt_token_ids": ids} for ids in prompts], parameters, use_tqdm=self.progress
        )
        for output in outputs:
            n_new = len(output.outputs[0].token_ids)
            self.n_positions += len(output.prompt_token_ids) - (output.num_cached_tokens or 0) + n_new - 1
            self.n_projected += n_new
        return [output.outputs[0] for output in outputs]

    def log_probs(self, prompts: list[list[int]], branches: list[list[list[int]]]) -> list[list[float]]:
        """Log-probabilities (N, K) of the tokens of every branch, side by side, after each prompt."""
        columns = [self.branch_log_probs(prompts, path, tokens) for path, tokens in branches]
        return [[number for of in row for number in of] for row in zip(*columns, strict=True)]

    def branch_log_probs(self, prompts: list[list[int]], path: list[int], tokens: list[int]) -> list[list[float]]:
        """Log-probabilities (N, K) of the K allowed tokens after each prompt and the path."""
        from vllm import SamplingParams

        parameters = SamplingParams(
            temperature=1.0, max_tokens=1, allowed_token_ids=tokens, logprobs=len(tokens), detokenize=False
        )
        found = [done.logprobs[0] for done in self.ask([[*prompt, *path] for prompt in prompts], parameters)]
        return [[of[token].logprob for token in tokens] for of in found]

    def replies(self, prompts: list[list[int]], stops: list[int], max_new_tokens: int) -> list[list[int]]:
        """The most probable continuation of each prompt, token by token."""
        from vllm import SamplingParams

        greedy = SamplingParams(
            temperature=0.0, max_tokens=max_new_tokens, stop_token_ids=stops, ignore_eos=True, detokenize=False
        )
        return [list(done.token_ids) for done in self.ask(prompts, greedy)]


def answer(job: Job) -> Answers:
    """Score the branches after every prompt, and answer freely where that is asked."""
    import torch

    respondent = Respondent(make_engine(job, longest(job)))
    log_probs = respondent.log_probs(job.prompts, job.branches)
    free = [job.prompts[i] for i in job.free]
    replies = respondent.replies(free, job.stops, job.max_new_tokens) if free else []
    on_gpu = torch.cuda.is_available()
    return Answers(
        log_probs=log_probs,
        replies=replies,
        n_positions=respondent.n_positions,
        n_projected=respondent.n_projected,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else peak_resident_bytes(),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Of the packages that answer."""
    import torch
    import transformers
    import vllm

    return {"vllm": vllm.__version__, "torch": torch.__version__, "transformers": transformers.__version__}


def peak_resident_bytes() -> int:
    """The most memory of this process that was resident at a time, on Linux without its parent's at the fork."""
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(job_path: str, answers_path: str) -> None:
    end_with_parent()
    prepare_environment()
    job = Job(**json.loads(Path(job_path).read_text(encoding="utf-8")))
    Path(answers_path).write_text(json.dumps(asdict(answer(job))), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
