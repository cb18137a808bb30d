"""Random numbers of vLLM's rollouts in TRL's own process (`grpo.use_vllm`); written for TRL 1.16.

TRL gives the engine a process's number as its seed, and the training's seed never reaches it
(https://github.com/huggingface/trl/pull/7040): trainings that are to differ by their seed alone draw the same numbers,
and a resumed training draws those of its first steps again. A seed in TRL's `generation_kwargs` would be worse: all
requests get one set of parameters, so that all completions of a group start from the same random state and are equal,
and no group has an advantage.

Here each request has a seed of its own: of the training's seed, its step, the batch within the step, the process, and
the completion's place in the batch. To be removed when TRL seeds the engine, and a checkpoint holds its state.

What is used beyond documented interfaces: `GRPOTrainer.vllm_generation.llm`, vLLM's `LLM`, whose `generate` gets the
parameters of all completions by the name `sampling_params`. Imports nothing that vLLM's environment lacks.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hidden_rule.core.versions import check_version


@dataclass
class RequestSeeds:
    """The seeds of a training's requests; `trainer`: its `state.global_step` counts the steps done."""

    seed: int
    process: int
    trainer: Any
    _step: int = field(default=-1, init=False)
    _batch: int = field(default=0, init=False)

    def next(self, n: int) -> list[int]:
        """Seeds of the next batch of `n` completions, from 0 to below 2³²."""
        step = self.trainer.state.global_step
        self._batch = self._batch + 1 if step == self._step else 0
        self._step = step
        drawn = np.random.SeedSequence([self.seed, step, self._batch, self.process]).generate_state(n)
        return [int(number) for number in drawn]


def with_seed(parameters, seed: int):
    """A copy of vLLM's SamplingParams with a seed."""
    seeded = copy.copy(parameters)
    vars(seeded).pop("sampling_type", None)  # cached: it says whether there is a seed
    seeded.seed = seed
    return seeded


def seed_rollouts(trainer, seed: int, process: int) -> None:
    """Let a TRL trainer's vLLM draw each completion from a seed of its own."""
    check_version("trl")
    seed_requests(trainer.vllm_generation.llm, RequestSeeds(seed, process, trainer))


def seed_requests(llm, seeds: RequestSeeds) -> None:
    """Let vLLM's `generate` draw each completion from a seed of its own."""
    generate = llm.generate

    def seeded(prompts, *, sampling_params, **options):
        each = [with_seed(sampling_params, seed) for seed in seeds.next(len(prompts))]
        return generate(prompts, sampling_params=each, **options)

    llm.generate = seeded
