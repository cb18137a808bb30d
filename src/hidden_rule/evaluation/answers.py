"""What a model is asked in an evaluation, and its answers by our own code; `vllm_answers.py` has them by vLLM."""

from dataclasses import dataclass

import polars as pl
import torch

from hidden_rule.core.laps import Laps
from hidden_rule.evaluation.jobs import EvaluationJob
from hidden_rule.kernels.meter import Meter
from hidden_rule.models.decoding import Generation, generate_replies, label_log_probs
from hidden_rule.models.hardware import default_device, device_name, n_gpus, peak_bytes
from hidden_rule.models.kept_states import use_states
from hidden_rule.models.loading import load_policy
from hidden_rule.models.trie import LabelTrie


@dataclass(frozen=True)
class Asked:
    """The cases of a split or suite, and the prompt of each as token ids."""

    name: str  # in the settings
    suite: str
    cases: pl.DataFrame
    prompts: list[list[int]]


@dataclass(frozen=True)
class Work:
    """What answers took: what `core.costs.Cost` holds, and what `Spent` is told."""

    n_generated: int
    n_positions: int
    flops: float
    peak_bytes: int
    device: str
    n_gpus: int
    laps: Laps
    threads: int


@dataclass(frozen=True)
class Answers:
    """Answers to all cases that were asked, in their order."""

    log_probs: torch.Tensor  # (N, L), float32: of each valid reply under structured decoding
    replies: dict[str, list[str]]  # freely written ones by suite, where they were asked for
    work: Work


def answer(job: EvaluationJob, tokenizer, trie: LabelTrie, asked: list[Asked]) -> Answers:
    """The answers of a job's model, computed by this process."""
    device, settings = default_device(), job.settings
    model = load_policy(job.base, device, job.adapter)
    if job.states:
        use_states(model, job.states)
    meter = Meter(model)
    # all together: neighbours of all suites share what they start with
    prompts = [prompt for part in asked for prompt in part.prompts]
    log_probs = label_log_probs(model, trie, prompts, settings["batch_size"], "structured")
    free, replies, n_generated = Generation(settings["batch_size"], settings["max_new_tokens"]), {}, 0
    for part, of_rows in zip(asked, log_probs.split([len(part.prompts) for part in asked]), strict=True):
        if part.name in settings["free"]:
            likeliest = [trie.replies[i] for i in of_rows.argmax(1).tolist()]  # of the valid ones: a draft
            told = f"{part.suite}, free"
            replies[part.suite], n = generate_replies(model, tokenizer, part.prompts, free, told, likeliest)
            n_generated += n
    work = Work(
        n_generated=n_generated,
        n_positions=meter.counts.positions,
        flops=meter.flops(),
        peak_bytes=peak_bytes(device),
        device=device_name(device),
        n_gpus=n_gpus(device),
        laps=meter.laps,
        threads=torch.get_num_threads(),
    )
    return Answers(log_probs, replies, work)
