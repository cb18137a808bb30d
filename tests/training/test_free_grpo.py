"""Free exploration generates once a step, and explores alike whatever the micro-batches and the memory."""

import logging

import polars as pl
import pytest
import torch

from hidden_rule.models import free_replies
from hidden_rule.training import free_grpo, grpo
from hidden_rule.training.free_grpo import FreeGRPOTrainer

BY_LENGTH = """
def reward(replies, cases):
    right = ['{"decision": "%s"}' % case["label"] for case in cases]
    return [100.0 if reply == best else float(len(reply) % 7) for reply, best in zip(replies, right)]
"""
GROUP = 3


@pytest.fixture
def explored(tiny_jobs, tmp_path, monkeypatch):
    """Train two steps of eight prompts; the history, and the numbers of rows and the replies of each generation."""
    (tmp_path / "lengths.py").write_text(BY_LENGTH, encoding="utf-8")
    plain = free_grpo.draw_replies

    def explored(name: str, most_rows: int = 10**9, **settings):
        tried, drawn = [], []

        def draw_replies(network, prompts, *rest):
            tried.append(len(prompts))
            assert not network.training
            if len(prompts) > most_rows:
                raise torch.OutOfMemoryError
            drawn.extend(plain(network, prompts, *rest))
            return drawn[-len(prompts) :]

        monkeypatch.setattr(free_grpo, "draw_replies", draw_replies)
        settings = {
            **tiny_jobs.config["grpo"], "epochs": 1, "batch_size": 8, "micro_batch_size": 8, "group_size": GROUP,
            "learning_rate": 3e-4, "max_new_tokens": 4, "warmup_steps": 0, "loss_type": "grpo", "entropy_coef": 0.0,
            "reward": {"file": str(tmp_path / "lengths.py"), "function": "reward"}, **settings,
        }  # fmt: skip
        job = tiny_jobs.make(name, settings, decoding="free")
        model = grpo.train_grpo(job)
        weights = {key: weight.detach() for key, weight in model.named_parameters() if "lora_" in key}
        history = pl.read_parquet(job.output.history).sort("step")
        values = {key: of["value"].to_list() for (key,), of in history.group_by("metric", maintain_order=True)}
        return values, tried, drawn, weights

    return explored


def test_micro_batches_change_nothing(explored):
    whole, tried, expected, weights = explored("whole")
    assert tried == [24, 24]
    assert len(set(map(tuple, expected))) > 24 and len(set(whole["reward"])) == 2
    parts, tried, found, trained = explored("parts", micro_batch_size=2)
    assert tried == [24, 24]
    assert found == expected
    assert parts["reward"] == pytest.approx(whole["reward"])
    for name, weight in weights.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-3, atol=1e-5)


def test_the_last_step_of_an_epoch_may_have_fewer(explored):
    _, tried, _, _ = explored("fewer", batch_size=6, micro_batch_size=2)
    assert tried == [18, 18, 12]


def test_rows_that_do_not_fit_are_generated_in_parts(explored, caplog):
    _, _, expected, _ = explored("fits")
    with caplog.at_level(logging.WARNING, logger="hidden_rule.training.free_grpo"):
        _, tried, found, _ = explored("crowded", most_rows=7)
    assert found == expected
    assert tried == [24, 12, *[6] * 4, *[6] * 4]  # what fits is remembered
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"out of GPU memory: {n} completions at a time instead of {of}" for n, of in [(12, 24), (6, 12)]]


def test_a_row_that_does_not_fit_is_the_caller_s(explored):
    with pytest.raises(torch.OutOfMemoryError):
        explored("full", most_rows=0)


def test_other_seeds_steps_and_places_draw_other_numbers(explored):
    _, _, drawn, _ = explored("other", learning_rate=1e-30, epochs=2)
    first, second = drawn[:48], drawn[48:]
    assert len(set(map(tuple, first)) & set(map(tuple, second))) < 5
    groups = [set(map(tuple, drawn[i : i + GROUP])) for i in range(0, len(drawn), GROUP)]
    assert sum(len(group) > 1 for group in groups) > 0.9 * len(groups)


def test_vllm_and_shared_weights_generate_as_trl_does(tiny_jobs, monkeypatch):
    from types import SimpleNamespace

    network = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=7))
    monkeypatch.setattr(free_replies, "stop_tokens", lambda tokenizer, model: [7])
    start = SimpleNamespace(
        tokenizer=SimpleNamespace(pad_token_id=0),
        model=SimpleNamespace(get_base_model=lambda: network),
        train=SimpleNamespace(prompts=[[1]]),
    )
    settings = tiny_jobs.config["grpo"]

    def kind(**changes):
        return grpo.trainer_class(tiny_jobs.make("kind", {**settings, **changes}, decoding="free"), start, None)[0]

    assert kind() is FreeGRPOTrainer
    assert kind(use_vllm=True) is grpo.EpochOrderedGRPOTrainer
    monkeypatch.setenv("HIDDEN_RULE_LAUNCHED", "1")
    assert kind() is FreeGRPOTrainer
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert kind() is grpo.EpochOrderedGRPOTrainer
