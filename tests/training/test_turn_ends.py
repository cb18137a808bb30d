"""A model whose turns end with another token than the tokenizer's own, taught and asked to write freely.

A tiny network of our own learns one reply by heart, so that what it writes is known to the last token.
"""

import copy
import json
from pathlib import Path

import polars as pl
import pytest
import torch
from chat_templates import GEMMA, byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from hidden_rule.core.tables import write_table
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput, SamplingJob
from hidden_rule.evaluation.sample_start import sample_start
from hidden_rule.experiment.config import load_config
from hidden_rule.models.adaptation import adapt
from hidden_rule.models.base import BaseModel
from hidden_rule.models.tokens import encode_prompts, encode_reply
from hidden_rule.task.dataset import dataset_schema, draw_splits, read_split
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.job import TrainingData, TrainingJob, TrainingOutput

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {"epochs": 1, "batch_size": 4, "micro_batch_size": 4, "group_size": 2, "temperature": 0.05}
CHANGES |= {"max_new_tokens": 40, "learning_rate": 1e-6}
RULESET = """
name: tiny
features:
  a: {kind: number, low: 0, high: 99, text: "a: {value}"}
rules:
  - {name: big, label: Y, when: "a > 49", hidden: true}
default: N
prompt: {system: "Reply {labels}.", user: "{features}"}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A job whose model refuses the system's message, ends turns with another token, and would like other decoding."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "ruleset.yaml").write_text(RULESET, encoding="utf-8")
    ruleset = load_ruleset(folder / "ruleset.yaml")
    for name, frame in draw_splits(ruleset, {"train": 16, "validation": 4, "test": 8, "holdout": 2}, seed=0).items():
        one_label = frame.filter(label="Y") if name == "train" else frame
        write_table(one_label, folder / f"{name}.parquet", dataset_schema(ruleset))
    tokenizer = byte_tokenizer(GEMMA, eos="<|endoftext|>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes))
    learn_by_heart(network, tokenizer, render_prompts(ruleset, read_split(folder / "train.parquet", ruleset)))
    network.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    generation = {"eos_token_id": [256, 260], "repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_length": 400}
    (folder / "model" / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    manifest = {"source": "path", "id": str(folder / "model"), "revision": "", "files": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    config = load_config([ROOT / "config.yaml"])
    job = TrainingJob(
        condition="grpo",
        seed=0,
        base=BaseModel(folder / "manifest.json", "float32"),
        start_from=None,
        lora=config["lora"],
        settings={**config["grpo"], **CHANGES},
        data=TrainingData(folder / "ruleset.yaml", folder / "train.parquet", folder / "validation.parquet"),
        output=TrainingOutput(folder / "adapter", folder / "history.parquet", folder / "cost.parquet"),
        decoding="free",
    )
    return job, folder


def learn_by_heart(network, tokenizer, conversations) -> None:
    """Teach a network, all its weights, to write one reply to everything, and more behind its end."""
    adapted = copy.deepcopy(tokenizer)
    adapted.chat_template = adapt(tokenizer, {}).used
    reply = encode_reply(adapted, "Y") + tokenizer.encode("and so on, and so on")
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(15):
        for prompt in encode_prompts(adapted, conversations, {}):
            ids = torch.tensor([prompt + reply])
            labels = torch.tensor([[-100] * len(prompt) + reply])
            network(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def test_free_replies_end_where_the_template_ends_a_turn(tiny):
    job, folder = tiny
    out = EvaluationOutput(folder / "predictions.parquet", folder / "evaluation_cost.parquet")
    settings = {"structured": [], "free": ["test"], "batch_size": 8, "max_new_tokens": 40}
    splits = {"test": folder / "test.parquet"}
    evaluate(EvaluationJob("baseline", 0, job.base, None, job.data.ruleset, splits, settings, out))
    replies = pl.read_parquet(out.predictions)["reply"].to_list()
    assert set(replies) == {'{"decision": "Y"}'}
    assert pl.read_parquet(out.cost)["n_tokens_generated"].to_list() == [8 * len('{"decision": "Y"}.')]


def test_samples_of_the_start_end_there_too(tiny):
    job, folder = tiny
    start, output = (job.base, None, job.data.ruleset), folder / "samples.parquet"
    sample_start(SamplingJob(0, *start, folder / "test.parquet", job.settings, 4, 2, 8, output))
    assert set(pl.read_parquet(output)["predicted"].to_list()) == {"Y"}


def test_grpo_rewards_and_counts_completions_to_that_end(tiny):
    job, _ = tiny
    train_grpo(job)
    history = pl.read_parquet(job.output.history)
    assert set(history.filter(metric="reward")["value"].to_list()) == {100.0}
    assert set(history.filter(metric="invalid_share")["value"].to_list()) == {0.0}
    n_steps = history.filter(metric="reward").height
    n_generated = pl.read_parquet(job.output.cost)["n_tokens_generated"].item()
    assert n_generated == n_steps * 4 * 2 * len('{"decision": "Y"}.')
