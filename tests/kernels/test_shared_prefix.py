"""Sharing prefixes, attention over a tree, fused LoRA, norms and MLPs change neither losses nor gradients."""

import contextlib
import logging
import random
import types

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Phi3Config, Phi3ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from hidden_rule.kernels import attention
from hidden_rule.kernels import shared_prefix as prefix
from hidden_rule.kernels.lora import fuse_lora, products
from hidden_rule.kernels.mlp import fuse_mlps
from hidden_rule.kernels.mlp import fused_forward as mlp_forward
from hidden_rule.kernels.norm import fuse_norms
from hidden_rule.training.shared_forward import add_shared_prefix_forward
from tiny_models import ATTENTION, DEVICE, SIZES, padded_batch, random_rows, tiny_model

FAMILIES = [("llama", None), ("qwen", None), ("qwen", 16), ("gemma", None), ("gemma", 16)]


def plain_log_probs(model, batch, temperature=1.0):
    """The textbook computation: every row whole, logits at every position, transformers' own attention."""
    model.get_base_model().set_attn_implementation("eager")
    mask = batch["attention_mask"]
    logits = model(
        input_ids=batch["input_ids"], attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)
    ).logits
    every = torch.log_softmax(logits[:, :-1].float() / temperature, -1)
    labels = batch["labels"][:, 1:]
    chosen = every.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
    entropy = -(every.exp() * every).sum(-1)
    return chosen.masked_fill(labels == -100, 0.0), entropy.masked_fill(labels == -100, 0.0)


def quick(model):
    """The causal model inside a plain one, with everything of ours that computes the same by other ways."""
    model.get_base_model().set_attn_implementation(ATTENTION)
    fuse_lora(model)
    fuse_norms(model)
    fuse_mlps(model)
    return model.get_base_model()


def gradients(model, scalar):
    """The gradient of `scalar` in every trainable parameter, by name."""
    model.zero_grad()
    scalar.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def relative_error(a, b):
    return float((a - b).detach().norm() / b.detach().norm().clamp(min=1e-12))


@pytest.mark.parametrize(("family", "window"), FAMILIES)
@pytest.mark.parametrize(
    ("n_prompts", "group", "shared", "families", "side"),
    [
        (5, 1, 20, 0, "right"),  # an SFT batch
        (6, 1, 20, 2, "right"),  # rows that share more than all do
        (6, 1, 0, 2, "right"),  # the same, though all together share nothing
        (5, 1, 0, 0, "right"),  # nothing in common
        (1, 1, 20, 0, "right"),  # a batch of one
        (3, 4, 20, 0, "both"),  # GRPO: groups share whole prompts
        (4, 3, 20, 2, "both"),  # all share, a family shares, a prompt's completions do
        (1, 6, 9, 0, "both"),  # one group: the whole prompt is the shared prefix
        (4, 3, 3, 0, "both"),  # groups, but too little in common across them
    ],
)
def test_loss_and_gradients_equal_the_plain_ones(family, window, n_prompts, group, shared, families, side):
    for seed in range(3):
        rows = random_rows(random.Random(seed), n_prompts, group, shared, families)
        batch = padded_batch(rows, side)
        model = tiny_model(family, seed, window=window)
        weight = torch.randn(batch["labels"][:, 1:].shape, device=DEVICE)  # as advantages weigh tokens
        expected, expected_entropy = plain_log_probs(model, batch, temperature=0.7)
        expected_gradients = gradients(model, (weight * expected + 0.1 * expected_entropy).sum())
        base = quick(model)
        add_shared_prefix_forward(base, temperature=0.7, entropy_gradient=True)
        output = model(**batch, fused_lm_head=True)
        assert relative_error(output.log_probs, expected) < 1e-5
        assert relative_error(output.entropy, expected_entropy) < 1e-5
        found = gradients(model, (weight * output.log_probs + 0.1 * output.entropy).sum())
        for name, gradient in expected_gradients.items():
            assert relative_error(found[name], gradient) < 1e-4, name


def test_output_is_the_one_trl_expects():
    batch = padded_batch(random_rows(random.Random(0), 4, 1, 20), "right")
    ours, theirs = tiny_model("llama"), tiny_model("llama")
    add_shared_prefix_forward(quick(ours))
    add_fused_lm_head(theirs.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    found, expected = ours(**batch, fused_lm_head=True), theirs(**batch, fused_lm_head=True)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.log_probs, expected.log_probs)
    torch.testing.assert_close(found.entropy, expected.entropy)
    assert (found.is_top1 == expected.is_top1).all()
    assert (found.label_mask == expected.label_mask).all()


def test_a_tree_holds_what_rows_share_once():
    ids, tree, paths = prefix.pack([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 4], [6], [1, 2, 3]], "cpu")
    assert ids.tolist() == [1, 2, 3, 4, 5, 6, 6, 6]  # the last once more until there are eight
    assert tree.positions.tolist() == [0, 1, 2, 3, 2, 0, 0, 0]
    assert paths == [[0, 1, 2, 3], [0, 1, 4], [0, 1, 2, 3], [5], [0, 1, 2]]
    # parts of 3, 1, 1 and 1 new tokens, for [1, 2, 3] comes before [1, 2, 3, 4]: 4 stretches of 3 queries
    assert tree.queries.tolist() == [[0, 1, 2], [3, 3, 3], [4, 4, 4], [5, 5, 5]]
    assert tree.keys.shape == (4, 32)
    assert tree.keys[:, :4].tolist() == [[0, 1, 2, 0], [0, 1, 2, 3], [0, 1, 4, 0], [5, 0, 0, 0]]
    assert tree.slots.tolist() == [0, 1, 2, 3, 6, 9, 9, 9]
    seen = tree.mask(window=2, dtype=torch.float32)[:, 0] == 0
    assert not seen[:, :, 4:].any()
    seen = seen[:, :, :4]
    assert seen[0].tolist() == [[True, False, False, False], [True, True, False, False], [False, True, True, False]]
    assert seen[1, 0].tolist() == [False, False, True, True]
    assert seen[3, 0].tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("lengths", "width"),
    [
        ([40] * 16, 40),  # alike: nothing to pad
        ([1], 1),
        ([200] + [40] * 16, 40),  # what all share is cut: 21 x (40 + 16) against 17 x (200 + 16)
        ([3, 1, 1, 1], 3),  # 4 x (3 + 16) against 6 x (1 + 16)
    ],
)
def test_stretches_are_as_wide_as_costs_least(lengths, width):
    assert prefix.stretch_width(lengths) == width


def test_prefix_is_computed_once():
    computed = []
    model = tiny_model("llama")
    base = quick(model)
    add_shared_prefix_forward(base)
    base.model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    rows = [([7] * 40 + [i], [8, 9]) for i in range(1, 5) for _ in range(3)]
    model(**padded_batch(rows, "both"), fused_lm_head=True)
    # 40 shared tokens; a prompt's last token stands before the completion's, whose own last token predicts nothing
    assert sum(computed) <= 40 + 12 * 2


@pytest.mark.slow
@pytest.mark.parametrize(("fused", "limit"), [(False, 1.15), (True, 1.5)])
def test_bfloat16_errs_no_more_than_the_plain_computation(fused, limit):
    """Against float32 with the same weights, over 30 batches. Fused LoRA rounds its small matrices too, as autocast."""
    errors = []
    for seed in range(30):
        model, exact = tiny_model("llama", seed, dtype=torch.bfloat16), tiny_model("llama", seed)
        for low, high in zip(model.parameters(), exact.parameters(), strict=True):
            high.data.copy_(low.data)
        batch = padded_batch(random_rows(random.Random(seed), 8, 1, 30), "right")
        truth, _ = plain_log_probs(exact, batch)
        plain, _ = plain_log_probs(model, batch)
        base = quick(model) if fused else model.get_base_model()
        base.set_attn_implementation(ATTENTION)
        add_shared_prefix_forward(base)
        shared = model(**batch, fused_lm_head=True).log_probs
        errors.append((relative_error(shared, truth), relative_error(plain, truth)))
    ours, plain = map(sum, zip(*errors, strict=True))
    assert 0 < ours < limit * plain


def test_gradient_checkpointing_shares_too():
    batch = padded_batch(random_rows(random.Random(0), 4, 3, 20), "both")
    model = tiny_model("llama")
    expected, _ = plain_log_probs(model, batch)
    expected_gradients = gradients(model, expected.sum())
    base = quick(model)
    base.gradient_checkpointing_enable({"use_reentrant": False})
    base.enable_input_require_grads()
    add_shared_prefix_forward(base)
    computed = []
    base.model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    found = gradients(model, model(**batch, fused_lm_head=True).log_probs.sum())
    for name, gradient in expected_gradients.items():
        assert relative_error(found[name], gradient) < 1e-4, name
    assert sum(computed) < batch["attention_mask"].sum()


def test_another_attention_falls_back_with_one_line(caplog):
    batch = padded_batch(random_rows(random.Random(0), 4, 1, 20), "right")
    model = tiny_model("llama")
    expected, _ = plain_log_probs(model, batch)
    add_shared_prefix_forward(model.get_base_model())  # transformers' eager, as the tiny models are made
    with caplog.at_level(logging.WARNING, logger="hidden_rule.kernels.shared_prefix"):
        for _ in range(2):
            found = model(**batch, fused_lm_head=True).log_probs
    torch.testing.assert_close(found, expected)
    assert [record.getMessage() for record in caplog.records if record.name == "hidden_rule.kernels.shared_prefix"] == [
        "prefixes are not shared: attention is computed by eager, which knows no prefix tree; "
        "every row is computed whole"
    ]


def test_a_layer_that_does_not_see_the_tree_is_an_error(monkeypatch):
    """A model that keeps the tree from its attention layers would compute something else without a word."""
    model = tiny_model("llama")
    add_shared_prefix_forward(quick(model))
    monkeypatch.setattr(attention.PrefixTree, "n_calls", property(lambda self: 0, lambda self, value: None))
    with pytest.raises(RuntimeError, match="0 layers of llama followed the prefix tree"):
        model(**padded_batch(random_rows(random.Random(0), 4, 1, 20), "right"), fused_lm_head=True)


@pytest.mark.parametrize("kind", ["plain", "dropout", "dora", "disabled"])
def test_fused_lora_layers_are_pefts(kind):
    """PEFT's own forward stays where a layer does more than the two products."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(12, 8, bias=True))
    settings = {"dropout": {"lora_dropout": 0.5}, "dora": {"use_dora": True}}.get(kind, {})
    model = get_peft_model(network, LoraConfig(r=3, lora_alpha=5, target_modules=["0"], **settings)).train()
    torch.nn.init.normal_(model.base_model.model[0].lora_B["default"].weight)
    x = torch.randn(2, 5, 12, requires_grad=True)

    def run():
        torch.manual_seed(1)
        with model.disable_adapter() if kind == "disabled" else contextlib.nullcontext():
            result = model(x)
        inputs = [x, *(p for p in model.parameters() if p.requires_grad and kind != "disabled")]
        return [result, *torch.autograd.grad(result.pow(2).sum(), inputs)]

    expected = run()
    fuse_lora(model)
    assert ("forward" in vars(model.base_model.model[0])) == (kind in ("plain", "disabled"))
    for found, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_layers_with_one_input_are_computed_at_once():
    """Of other ranks and scales each, with and without a bias; not together with one that does more."""
    torch.manual_seed(0)
    network = torch.nn.ModuleDict({"a": torch.nn.Linear(12, 8), "b": torch.nn.Linear(12, 5, bias=False)})
    network["c"] = torch.nn.Linear(12, 8)
    settings = LoraConfig(r=3, lora_alpha=5, target_modules=["a", "b"], rank_pattern={"b": 4}, alpha_pattern={"b": 7})
    get_peft_model(network, settings)
    layers = [network["a"], network["b"]]
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(6, 12, requires_grad=True)
    trained = [x, *(p for layer in layers for p in layer.parameters() if p.requires_grad)]

    def gradients_of(outputs):
        return torch.autograd.grad(sum(output.pow(2).sum() for output in outputs), trained)

    expected = [layer(x) for layer in layers]
    expected += gradients_of(expected)
    fuse_lora(network)
    found = products(x, layers)
    found += gradients_of(found)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-5
    assert products(x, [network["a"], network["c"]]) is None
    network["b"].merge()
    assert products(x, layers) is None


@pytest.mark.parametrize(("family", "n_fused"), [("llama", 3 * 2 + 1), ("qwen", 3 * 4 + 1), ("gemma", 0)])
def test_norms_that_compute_something_else_keep_their_own(family, n_fused):
    """Two in a layer and one at the end; Qwen3 has two more for queries and keys, Gemma's multiply by 1 + w."""
    model = tiny_model(family)
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    assert fuse_norms(model) == n_fused


@pytest.mark.parametrize(("family", "n_fused"), [("llama", 3), ("qwen", 3), ("gemma", 0)])
def test_mlps_that_compute_something_else_keep_their_own(family, n_fused):
    assert fuse_mlps(tiny_model(family)) == n_fused


@pytest.mark.parametrize("trained", ["gate_proj", "down_proj", "everything"])
def test_an_mlp_with_something_to_train_is_not_fused(trained):
    """Its gradients are the plain computation's, in adapters and in weights of its own."""
    torch.manual_seed(0)
    network = tiny_model("llama").get_base_model().requires_grad_(trained == "everything")
    layer, x = network.model.layers[0].mlp, torch.randn(2, 5, network.config.hidden_size, device=DEVICE)
    if trained != "everything":
        setattr(
            layer,
            trained,
            get_peft_model(
                torch.nn.Sequential(getattr(layer, trained)), LoraConfig(r=2, target_modules=["0"])
            ).base_model.model[0],
        )
    own = [p for p in layer.parameters() if p.requires_grad]
    expected = torch.autograd.grad(layer(x).pow(2).sum(), own)
    layer.forward = types.MethodType(mlp_forward, layer)
    for found, wanted in zip(torch.autograd.grad(layer(x).pow(2).sum(), own), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_row_s_own_length_scales_its_positions_where_a_family_does_so(caplog):
    """LongRoPE rotates a row beyond 24 tokens otherwise; a shorter one in the same batch stays as it is alone."""
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [8.0] * 4, "rope_theta": 10000.0}
    sizes = {name: size for name, size in SIZES.items() if name != "head_dim"}
    config = Phi3Config(**sizes, original_max_position_embeddings=24, rope_parameters=rope)
    torch.manual_seed(0)
    model = Phi3ForCausalLM(config).to(DEVICE).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    start = list(range(1, 16))
    for ends, alone in (((4, 6), False), ((4, 20), True)):
        caplog.clear()
        tails = [[40 + i] * n for i, n in enumerate(ends)]
        with torch.no_grad(), caplog.at_level(logging.WARNING):
            found = prefix.tail_states(model, [start], tails, [0, 0])
            for states, tail in zip(found, tails, strict=True):
                ids = torch.tensor([start + tail], device=DEVICE)
                expected = model.model(input_ids=ids, use_cache=False).last_hidden_state[0, len(start) :]
                torch.testing.assert_close(states[: len(tail)], expected, atol=1e-4, rtol=1e-4)
        assert ("has its own scale" in caplog.text) == alone


def test_a_row_alone_is_computed_as_in_a_batch(monkeypatch):
    """Without gradients: where the plain computation sums in another order, a near-tie is decided otherwise alone."""
    model = quick(tiny_model("llama").eval())
    start, tails = list(range(1, 20)), [[40, 41], [42, 43]]
    with torch.no_grad():
        together = prefix.tail_states(model, [start], tails, [0, 0])
        with monkeypatch.context() as changed:
            changed.setattr(prefix, "run_whole", None)
            alone = torch.cat([prefix.tail_states(model, [start], [tail], [0]) for tail in tails])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    with monkeypatch.context() as changed:
        changed.setattr(prefix, "run_packed", None)  # with gradients a row that shares nothing has nothing to gain
        torch.testing.assert_close(prefix.tail_states(model, [start], tails[:1], [0]), together[:1])
