"""The last layer computes what is read: states that are read, and all gradients, are those of computing every token."""

import random

import pytest
import torch

from hidden_rule.core.flops import Counts
from hidden_rule.kernels import mlp, native, shared_prefix
from hidden_rule.kernels.frozen_layers import keep_frozen_states
from hidden_rule.kernels.install import install_kernels
from hidden_rule.kernels.last_layer import narrow_last_layer
from hidden_rule.kernels.lora import fuse_lora
from hidden_rule.kernels.meter import Meter
from hidden_rule.kernels.shared_prefix import body, tail_states
from hidden_rule.training.shared_forward import add_shared_prefix_forward
from tiny_models import DEVICE, padded_batch, random_rows, tiny_model

PARTS = ("mlp", "self_attn.q_proj", "self_attn.o_proj")


def installed(family: str = "llama", window: int | None = None):
    """A tiny model with an adapter and all of our kernels."""
    model = tiny_model(family, window=window)
    model.get_base_model().eval()
    install_kernels(model.get_base_model(), DEVICE)
    fuse_lora(model)
    add_shared_prefix_forward(model.get_base_model())
    return model


def outcome(model, batch):
    """Log-probabilities and all gradients."""
    model.zero_grad()
    output = model(**batch, fused_lm_head=True)
    output.loss.backward()
    return output.log_probs.detach(), *(p.grad for p in model.parameters() if p.grad is not None)


def rows_given(model, monkeypatch) -> dict[str, list[int]]:
    """Lists that fill with how many states the last layer's projections are given, and every layer's MLP."""
    counts: dict[str, list[int]] = {name: [] for name in PARTS}
    last = body(model.get_base_model()).layers[-1]
    for name in PARTS[1:]:
        part = last.get_submodule(name)
        part.register_forward_pre_hook(lambda module, args, name=name: counts[name].append(len(args[0])))
    gate_product = mlp.gate_product

    def counting(gated, raised):
        counts["mlp"].append(gated.flatten(0, -2).shape[0])
        return gate_product(gated, raised)

    monkeypatch.setattr(mlp, "gate_product", counting)
    return counts


@pytest.mark.parametrize(("family", "window"), [("llama", None), ("qwen", None), ("qwen", 16)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_read_and_gradients_are_those_of_every_token(monkeypatch, family, window, checkpointing):
    model = installed(family, window)
    base = model.get_base_model()
    if checkpointing:
        base.train()
        model.enable_input_require_grads()
        base.gradient_checkpointing_enable({"use_reentrant": False})
    batch = padded_batch(random_rows(random.Random(0), 5, 1, 20), "right")
    counts = rows_given(model, monkeypatch)
    found = outcome(model, batch)
    scored, passes = int((batch["labels"] != -100).sum()), 1 + checkpointing
    n_narrow = 3 if family == "llama" and native.library() else 1  # where attention is not compiled, the MLP alone
    assert [counts[name].count(scored) for name in PARTS[:n_narrow]] == [passes] * n_narrow
    assert len(counts["mlp"]) == 3 * passes
    del shared_prefix.narrow[body(base)]
    expected = outcome(model, batch)
    assert not any(scored in counts[name][3 * passes if name == "mlp" else passes :] for name in PARTS)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_pass_without_a_tree_computes_everything(monkeypatch):
    model = installed()
    ids = torch.arange(1, 31, device=DEVICE).view(2, 15)
    before = model(input_ids=ids).logits
    tail_states(model.get_base_model(), [[1, 2, 3]], [[4], [5]], [0, 0])
    counts = rows_given(model, monkeypatch)
    assert torch.equal(model(input_ids=ids).logits, before)
    assert counts["mlp"] == [30] * 3


def test_nothing_is_left_out_after_a_pass_that_failed(monkeypatch):
    """The layer forgets what was read, whatever happens inside it."""
    model, gate_product = installed(), mlp.gate_product
    ids = torch.arange(1, 31, device=DEVICE).view(2, 15)
    before = model(input_ids=ids).logits

    def failing(gated, raised):
        if gated.shape[0] == 2:  # in the last layer: the two tails' tokens
            raise MemoryError
        return gate_product(gated, raised)

    with monkeypatch.context() as changed:
        changed.setattr(mlp, "gate_product", failing)
        with pytest.raises(MemoryError):
            tail_states(model.get_base_model(), [[1, 2, 3]], [[4], [5]], [0, 0])
    assert torch.equal(model(input_ids=ids).logits, before)


def test_states_of_frozen_layers_are_those_of_every_token():
    model = installed()
    base = model.get_base_model()
    for layer in body(base).layers[:2]:
        layer.requires_grad_(False)
    pairs = random_rows(random.Random(1), 5, 1, 20)
    expected = outcome(model, padded_batch(pairs, "right"))
    assert keep_frozen_states(base, [prompt + reply for prompt, reply in pairs])
    found = outcome(model, padded_batch(pairs, "right"))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_what_is_left_out_is_no_operation_but_a_position():
    model = installed()
    base = model.get_base_model()
    meter = Meter(model)
    prompt = list(range(1, 15))
    tail_states(base, [prompt], [[20], [21]], [0, 0])  # 16 tokens, of which 2 are read
    # of 3 layers: q, k, v, o, the MLP's three, two norms, and a norm at the end
    every = 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32) + 32
    left = round(14 * (2 * 32 * 32 + 3 * 32 * 48) / every)
    assert left > 0 and meter.counts == Counts(16, 16) and meter.computed == Counts(16 - left, 16 - left)
    lora = 3 * 4 * ((32 + 32) + 2 * (32 + 16) + (32 + 32))
    assert meter.flops() == (16 - left) * (2 * (every + lora) + 2 * (every + 2 * lora))


def test_a_model_whose_layers_are_not_ours_is_left_alone():
    assert narrow_last_layer(tiny_model("gemma").get_base_model()) is None
    model = installed("gemma")
    assert body(model.get_base_model()) not in shared_prefix.narrow


def test_a_last_layer_that_computes_otherwise_is_widened_again(monkeypatch):
    """One whose MLP is computed before its attention, from the same states."""
    model = tiny_model("llama").get_base_model().eval()
    layer = body(model).layers[-1]

    def side_by_side(hidden_states, **kwargs):
        states = layer.input_layernorm(hidden_states)
        return hidden_states + layer.mlp(states) + layer.self_attn(hidden_states=states, **kwargs)[0]

    monkeypatch.setattr(layer, "forward", side_by_side)
    kernels = install_kernels(model, DEVICE)
    assert kernels.sharing_fault is None
    assert not kernels.narrow and body(model) not in shared_prefix.narrow
