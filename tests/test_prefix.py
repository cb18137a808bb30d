"""Sharing prefixes changes neither losses nor gradients."""

import logging
import random

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from hidden_rule import prefix
from tiny_models import padded_batch, random_rows, tiny_model

FAMILIES = [("llama", None), ("qwen", None), ("qwen", 16), ("gemma", None), ("gemma", 16)]


def plain_log_probs(model, batch, temperature=1.0):
    """The textbook computation: every row whole, logits at every position."""
    mask = batch["attention_mask"]
    logits = model(
        input_ids=batch["input_ids"], attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)
    ).logits
    every = torch.log_softmax(logits[:, :-1].float() / temperature, -1)
    labels = batch["labels"][:, 1:]
    chosen = every.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
    entropy = -(every.exp() * every).sum(-1)
    return chosen.masked_fill(labels == -100, 0.0), entropy.masked_fill(labels == -100, 0.0)


def gradients(model, scalar):
    """The gradient of `scalar` in every trainable parameter, by name."""
    model.zero_grad()
    scalar.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def relative_error(a, b):
    return float((a - b).detach().norm() / b.detach().norm().clamp(min=1e-12))


@pytest.mark.parametrize(("family", "window"), FAMILIES)
@pytest.mark.parametrize(
    ("n_prompts", "group", "shared", "side"),
    [
        (5, 1, 20, "right"),  # an SFT batch
        (5, 1, 0, "right"),  # nothing in common: the plain computation
        (1, 1, 20, "right"),  # a batch of one
        (3, 4, 20, "both"),  # GRPO: groups share whole prompts
        (1, 6, 9, "both"),  # one group: the whole prompt is the shared prefix
        (4, 3, 3, "both"),  # groups, but too little in common across them
    ],
)
def test_loss_and_gradients_equal_the_plain_ones(family, window, n_prompts, group, shared, side):
    for seed in range(3):
        rows = random_rows(random.Random(seed), n_prompts, group, shared)
        batch = padded_batch(rows, side)
        model = tiny_model(family, seed, window=window)
        weight = torch.randn(batch["labels"][:, 1:].shape)  # as advantages weigh tokens
        expected, expected_entropy = plain_log_probs(model, batch, temperature=0.7)
        expected_gradients = gradients(model, (weight * expected + 0.1 * expected_entropy).sum())
        base = model.get_base_model()
        prefix.add_shared_prefix_forward(base, temperature=0.7)
        output = model(**batch, fused_lm_head=True)
        assert relative_error(output.log_probs, expected) < 1e-5
        assert relative_error(output.entropy, expected_entropy) < 1e-5
        found = gradients(model, (weight * output.log_probs + 0.1 * output.entropy).sum())
        for name, gradient in expected_gradients.items():
            assert relative_error(found[name], gradient) < 1e-4, name


def test_output_is_the_one_trl_expects():
    batch = padded_batch(random_rows(random.Random(0), 4, 1, 20), "right")
    ours, theirs = tiny_model("llama"), tiny_model("llama")
    prefix.add_shared_prefix_forward(ours.get_base_model())
    add_fused_lm_head(theirs.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    found, expected = ours(**batch, fused_lm_head=True), theirs(**batch, fused_lm_head=True)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.log_probs, expected.log_probs)
    torch.testing.assert_close(found.entropy, expected.entropy)
    assert (found.is_top1 == expected.is_top1).all()
    assert (found.label_mask == expected.label_mask).all()


def test_prefix_is_computed_once(monkeypatch):
    computed = []
    model = tiny_model("llama")
    base = model.get_base_model()
    prefix.add_shared_prefix_forward(base)
    base.model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    rows = [([7] * 40 + [i], [8, 9]) for i in range(1, 5) for _ in range(3)]
    model(**padded_batch(rows, "both"), fused_lm_head=True)
    # 40 shared tokens; a prompt's last token stands before the completion's, whose own last token predicts nothing
    assert sum(computed) <= 40 + 12 * 2


def test_bfloat16_differs_no_more_than_a_shuffled_plain_batch():
    model = tiny_model("llama", dtype=torch.bfloat16)
    batch = padded_batch(random_rows(random.Random(1), 8, 1, 30), "right")
    exact = tiny_model("llama")
    truth, _ = plain_log_probs(exact.float(), batch)
    plain, _ = plain_log_probs(model, batch)
    prefix.add_shared_prefix_forward(model.get_base_model())
    shared = model(**batch, fused_lm_head=True).log_probs
    assert relative_error(shared, truth) < 1.5 * relative_error(plain, truth)


def test_gradient_checkpointing_falls_back_with_one_line(caplog):
    batch = padded_batch(random_rows(random.Random(0), 4, 1, 20), "right")
    model = tiny_model("llama")
    expected, _ = plain_log_probs(model, batch)
    base = model.get_base_model()
    base.gradient_checkpointing_enable()
    base.enable_input_require_grads()
    prefix.add_shared_prefix_forward(base)
    with caplog.at_level(logging.WARNING, logger="hidden_rule.prefix"):
        for _ in range(2):
            found = model(**batch, fused_lm_head=True).log_probs
    torch.testing.assert_close(found, expected)
    assert [record.getMessage() for record in caplog.records if record.name == "hidden_rule.prefix"] == [
        "prefixes are not shared: gradient checkpointing and the cache of keys and values exclude each other; "
        "every row is computed whole"
    ]
