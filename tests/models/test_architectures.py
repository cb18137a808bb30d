"""Models of every family are trained, evaluated and loaded by plain PEFT, to what their own computation gives."""

import logging
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from hidden_rule.kernels import attention, install
from hidden_rule.kernels.compat_transformers import attention_name
from hidden_rule.models.base import BaseModel
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.loading import load_policy
from hidden_rule.models.prepare import prepare_model
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.sft import train_sft
from hidden_rule.training.start import load_start
from tiny_architectures import TRAINED, Architecture, save_folder

CPU = torch.device("cpu")
STEPS = {"epochs": 1, "batch_size": 8, "micro_batch_size": 4, "warmup_steps": 0, "learning_rate": 5.0e-3}
QUICK = ("gemma3 with a tower for images", "gpt2, transposed layers", "gpt_oss, attention sinks", "cohere2")
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in TRAINED]


@pytest.fixture(scope="module")
def tokenizer(manifest):
    return AutoTokenizer.from_pretrained(manifest.parent)


@pytest.fixture
def prepared(tokenizer, tmp_path):
    """`prepared(architecture)`: the manifest of a tiny model of a family."""

    def prepare(architecture: Architecture):
        folder = save_folder(architecture, tokenizer, tmp_path / "model")
        prepare_model({"source": "path", "id": str(folder), "revision": ""}, tmp_path / "manifest.json")
        return tmp_path / "manifest.json"

    return prepare


def plain_log_probs(model, trie, prompts) -> torch.Tensor:
    """Log-probabilities (N, L) of each reply by the textbook: a whole row for each, logits at every position."""
    result = torch.zeros(len(prompts), len(trie.replies))
    for i, prompt in enumerate(prompts):
        for k, reply in enumerate(trie.replies):
            logits = model(input_ids=torch.tensor([[*prompt, *reply]]), use_cache=False).logits[0].float()
            for b, choice in trie.choices(reply):
                branch = trie.branches[b]
                allowed = logits[len(prompt) - 1 + len(branch.path), list(branch.tokens)]
                result[i, k] += torch.log_softmax(allowed, -1)[choice]
    return result


@pytest.mark.parametrize("name", NAMES)
def test_a_family_trains_and_evaluates_as_its_own_computation_does(name, prepared, tiny_jobs, caplog):
    architecture = TRAINED[name]
    manifest = prepared(architecture)
    changes = {
        "base": BaseModel(manifest, "float32", tiny_jobs.config["model"]["chat_template_kwargs"]),
        "lora": {**tiny_jobs.config["lora"], "target_modules": list(architecture.targets)},
    }
    sft = tiny_jobs.make(f"sft-{architecture.kind}", {**tiny_jobs.config["sft"], **STEPS}, **changes)
    start = load_start(sft)
    before = {name: weight.detach().clone() for name, weight in start.model.named_parameters() if "lora_" in name}
    with caplog.at_level(logging.WARNING):
        after = dict(train_sft(sft, start).named_parameters())
    assert before and all(not torch.equal(weight, after[name]) for name, weight in before.items())
    assert caplog.text.count("prefixes are not shared") == (not architecture.shares)
    grpo = tiny_jobs.make(f"grpo-{architecture.kind}", {**tiny_jobs.config["grpo"], **STEPS}, **changes)
    train_grpo(replace(grpo, start_from=sft.output.adapter))

    prompts = start.validation.prompts[:2]
    found = label_log_probs(load_policy(grpo.base, CPU, grpo.output.adapter), start.trie, prompts, 2)
    folder = manifest.parent / "model"
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    plain = PeftModel.from_pretrained(plain, grpo.output.adapter).eval()
    with torch.no_grad():
        torch.testing.assert_close(found, plain_log_probs(plain, start.trie, prompts), atol=1e-4, rtol=0)
        with plain.disable_adapter():
            assert (plain_log_probs(plain, start.trie, prompts[:1]) - found[:1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("name", ["gemma2, soft caps", "gpt_oss, attention sinks"])
def test_a_family_without_fused_attention_computes_as_on_a_cpu(name, prepared):
    """On a GPU our fused attention is tried first; transformers refuses it to these families."""
    manifest = prepared(TRAINED[name])
    network = AutoModelForCausalLM.from_pretrained(manifest.parent / "model", dtype=torch.float32).eval()
    with pytest.raises(ValueError, match="does not support"):
        install.set_attention(network, attention.GPU)
    install.set_attention(network, install.PLAIN)
    on_cpu = install.compare(network, CPU)
    install.set_attention(network, install.PLAIN)
    expected = install.own_probe(network)
    assert install.choose_attention(network, torch.device("cuda"), expected) == on_cpu.attention_fault
    assert attention_name(network.config) == on_cpu.attention
