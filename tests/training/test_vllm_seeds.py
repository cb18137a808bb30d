"""vLLM's rollouts within TRL: each completion is drawn from a seed of its own, which the training's seed decides."""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

import pytest
import torch

from conftest import ROOT
from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.training.compat_vllm import RequestSeeds, seed_requests, with_seed

ASK = """
import json, os, sys
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
from types import SimpleNamespace
from vllm import LLM, SamplingParams
from hidden_rule.training.compat_vllm import RequestSeeds, seed_requests

def main(folder):
    llm = LLM(model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=64, max_num_seqs=8, seed=0,
              enforce_eager=True)
    group, parameters = [{"prompt_token_ids": [3, 4, 5]}] * 8, SamplingParams(max_tokens=6, detokenize=False)

    def draw(parameters, **options):
        return [list(o.outputs[0].token_ids) for o in llm.generate(group, sampling_params=parameters, **options)]

    one = SamplingParams(max_tokens=6, detokenize=False, seed=7)
    drawn, plain = {"one seed": draw(one, use_tqdm=False)}, llm.generate
    for name, seed, step in (("first", 7, 3), ("again", 7, 3), ("later", 7, 4), ("other", 8, 3)):
        llm.generate = plain
        seed_requests(llm, RequestSeeds(seed, 0, SimpleNamespace(state=SimpleNamespace(global_step=step))))
        drawn[name] = draw(parameters, use_tqdm=False)
    print("DRAWN " + json.dumps(drawn))

main(sys.argv[1])
"""


def seeds(seed: int = 1, process: int = 0, step: int = 0) -> RequestSeeds:
    return RequestSeeds(seed, process, SimpleNamespace(state=SimpleNamespace(global_step=step)))


def test_seeds_differ_within_a_group_and_by_all_that_may_not_repeat():
    of = seeds()
    drawn = {"first": of.next(8), "second batch of the step": of.next(8)}
    of.trainer.state.global_step = 1
    drawn |= {"next step": of.next(8), "process": seeds(process=1).next(8), "seed": seeds(seed=2).next(8)}
    every = [number for numbers in drawn.values() for number in numbers]
    assert len(set(every)) == 40 and all(0 <= number < 2**32 for number in every)


def test_a_resumed_training_goes_on_with_the_seeds_of_its_step():
    of, found = seeds(), []
    for step in range(3):
        of.trainer.state.global_step = step
        found.append([of.next(4), of.next(4)])
    resumed = seeds(step=2)
    assert [resumed.next(4), resumed.next(4)] == found[2]
    assert seeds().next(4) == found[0][0]


@dataclass
class Parameters:
    """Like vLLM's: whether there is a seed is cached."""

    temperature: float
    seed: int | None = None

    @cached_property
    def sampling_type(self) -> str:
        return "random" if self.seed is None else "seeded"


def test_parameters_are_copied_and_their_cache_is_not():
    plain = Parameters(0.7)
    assert plain.sampling_type == "random"
    seeded = with_seed(plain, 5)
    assert (seeded.temperature, seeded.seed, seeded.sampling_type) == (0.7, 5, "seeded")
    assert plain.seed is None and plain.sampling_type == "random"


def test_the_engine_gets_parameters_for_each_completion():
    calls = []
    llm = SimpleNamespace(generate=lambda prompts, **options: calls.append((prompts, options)) or "outputs")
    seed_requests(llm, seeds())
    assert llm.generate(["a", "a", "b"], sampling_params=Parameters(1.0), use_tqdm=False) == "outputs"
    ((prompts, options),) = calls
    assert prompts == ["a", "a", "b"] and options["use_tqdm"] is False
    assert [each.seed for each in options["sampling_params"]] == seeds().next(3)


@pytest.mark.engines("vllm")
def test_vllm_draws_a_group_of_different_completions_that_repeat(tmp_path):
    """And why a seed in TRL's generation_kwargs would not do: a group of equal completions teaches nothing."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads)).save_pretrained(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    command = [str(ENVIRONMENTS["vllm"].python), "-P", "-c", ASK, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("DRAWN "))[6:])
    distinct = {name: len({tuple(reply) for reply in replies}) for name, replies in drawn.items()}
    assert distinct == {"one seed": 1, "first": 8, "again": 8, "later": 8, "other": 8}
    assert drawn["first"] == drawn["again"]
    assert not {tuple(r) for r in drawn["first"]} & {tuple(r) for name in ("later", "other") for r in drawn[name]}
