"""States below the first trained layer are kept: losses and gradients are those of computing every layer anew."""

import random

import pytest
import torch
from peft import get_peft_model_state_dict

from hidden_rule.core.errors import SettingError
from hidden_rule.core.flops import Counts
from hidden_rule.kernels import frozen_layers, shared_prefix
from hidden_rule.kernels.frozen_layers import keep_frozen_states, n_frozen
from hidden_rule.kernels.meter import Meter
from hidden_rule.models.adapters import add_adapter
from hidden_rule.models.targets import find_targets
from hidden_rule.models.trie import LabelTrie
from hidden_rule.training.shared_forward import add_shared_prefix_forward
from tiny_models import padded_batch, tiny_model

REPLIES = [[40, 41, 2], [40, 42, 43, 2], [44, 2]]
FAMILIES = [("llama", None), ("qwen", None), ("qwen", 16), ("gemma", None), ("gemma", 16)]


def tail_model(family: str = "llama", n_frozen: int = 2, window: int | None = None):
    """A tiny model of three layers, of which the first ones have no adapter that is trained."""
    model = tiny_model(family, window=window)
    for layer in shared_prefix.body(model.get_base_model()).layers[:n_frozen]:
        layer.requires_grad_(False)
    return model


def prompts_of(seed: int = 0, n: int = 9) -> list[list[int]]:
    rng = random.Random(seed)
    start = [rng.randrange(1, 39) for _ in range(20)]
    return [start + [rng.randrange(1, 39) for _ in range(rng.randint(2, 9))] for _ in range(n)]


def rows_of(prompts) -> list[list[int]]:
    return [prompt + reply for prompt in prompts for reply in REPLIES]


def sft_loss(model, rows) -> torch.Tensor:
    return model(**padded_batch(rows, "right"), fused_lm_head=True).loss


def gradients(model, scalar) -> dict[str, torch.Tensor]:
    model.zero_grad()
    scalar.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("family", "window"), FAMILIES)
def test_loss_and_gradients_are_those_of_all_layers(family, window, n):
    model, prompts = tail_model(family, n, window), prompts_of()
    base, trie = model.get_base_model(), LabelTrie(REPLIES)
    add_shared_prefix_forward(base)
    batch = [(prompts[i], REPLIES[i % 3]) for i in (7, 2, 5)]

    def computed():
        branches = model(label_trie=trie, prompts=prompts[3:6])
        return [*gradients(model, sft_loss(model, batch) + branches.square().sum()).items(), ("", branches.detach())]

    expected = computed()
    assert keep_frozen_states(base, rows_of(prompts))
    meter = Meter(model)
    found = computed()
    assert meter.counts.positions == meter.counts.grad_positions > 0  # nothing below was computed
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert len(found) == 1 + (3 - n) * 4 * 2
    for (name, ours), (_, theirs) in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_a_row_that_is_alone_passes_no_frozen_layer():
    """It shares nothing, and would otherwise be computed by the model's own forward pass, from the first layer on."""
    model, prompts = tail_model(), prompts_of()
    add_shared_prefix_forward(model.get_base_model())
    batch = [(prompts[4], REPLIES[1])]
    expected = gradients(model, sft_loss(model, batch))
    keep_frozen_states(model.get_base_model(), rows_of(prompts))
    meter = Meter(model)
    found = gradients(model, sft_loss(model, batch))
    assert meter.counts.positions == meter.counts.grad_positions > 0
    for name, ours in found.items():
        torch.testing.assert_close(ours, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_rows_that_are_not_known_are_computed_whole():
    model, prompts = tail_model(), prompts_of()
    base = model.get_base_model()
    known, unknown = prompts[:6], prompts[6:]
    expected, _ = shared_prefix.run_packed(base, unknown)
    keep_frozen_states(base, rows_of(known))
    meter = Meter(base)
    found, _ = shared_prefix.run_packed(base, unknown)
    assert torch.equal(found, expected)
    n = meter.counts.positions
    assert meter.counts == Counts(n, round(n / 3))  # a third of the layers has gradients
    shared_prefix.run_packed(base, [known[0], unknown[0]])  # one known, one not
    assert meter.counts.positions > n


def test_states_do_not_follow_what_is_trained_above():
    model, prompts = tail_model(), prompts_of()
    base = model.get_base_model()
    keep_frozen_states(base, rows_of(prompts))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05)
    found, _ = shared_prefix.run_packed(base, prompts[:3])
    fresh = tail_model()
    fresh.load_state_dict(model.state_dict())
    expected, _ = shared_prefix.run_packed(fresh.get_base_model(), prompts[:3])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_order_and_company_of_rows_do_not_matter_to_a_resumed_training():
    rows = rows_of(prompts_of())
    states = []
    for given in (rows, rows[::-1]):
        base = tail_model().get_base_model()
        keep_frozen_states(base, given)
        states.append(shared_prefix.frozen_parts[shared_prefix.body(base)].states)
    assert torch.equal(*states)


def test_nothing_is_kept_where_it_would_not_be_exact(monkeypatch):
    rows = rows_of(prompts_of())
    trained_everywhere = tiny_model("llama").get_base_model()
    assert n_frozen(shared_prefix.body(trained_everywhere)) == 0
    assert not keep_frozen_states(trained_everywhere, rows)
    dropping = tail_model().get_base_model()
    dropping.config.attention_dropout = 0.1
    assert not keep_frozen_states(dropping, rows)
    embedding = tail_model().get_base_model()
    embedding.get_input_embeddings().weight.requires_grad_(True)
    assert not keep_frozen_states(embedding, rows)
    large = tail_model().get_base_model()
    monkeypatch.setattr(frozen_layers, "MOST_BYTES", 1000)
    assert not keep_frozen_states(large, rows)


def test_layers_that_hand_on_more_than_states_compute_every_row(caplog):
    base, rows = tail_model().get_base_model(), rows_of(prompts_of())
    layers = shared_prefix.body(base).layers
    below, above = layers[1].forward, layers[2].forward
    layers[1].forward = lambda *args, **kwargs: (below(*args, **kwargs), "more")
    layers[2].forward = lambda given, **kwargs: above(given[0], **kwargs)
    before = [layer.forward for layer in layers]
    expected, _ = shared_prefix.run_packed(base, rows)
    assert not keep_frozen_states(base, rows)
    assert "LlamaDecoderLayer gives more than states" in caplog.text
    assert [layer.forward for layer in layers] == before
    assert torch.equal(shared_prefix.run_packed(base, rows)[0], expected)


def test_an_adapter_in_the_last_layers_alone():
    network = tiny_model("llama").unload()
    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "last_layers": 1}
    model = add_adapter(network, lora)
    names = get_peft_model_state_dict(model)
    assert len(names) == 4 and all(".layers.2.self_attn." in name for name in names)
    assert n_frozen(shared_prefix.body(model.get_base_model())) == 2
    in_all = add_adapter(tiny_model("llama").unload(), {**lora, "last_layers": 4})  # of a model that has three
    assert len(get_peft_model_state_dict(in_all)) == 12
    assert sorted(in_all.peft_config["default"].target_modules) == ["q_proj", "v_proj"]


def test_the_last_layers_of_those_that_hold_a_target():
    """Hybrid models have attention in some layers alone, which need not be among the very last."""
    network = tiny_model("llama").unload()
    layers = shared_prefix.body(network).layers
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        delattr(layers[2].self_attn, name)
    assert find_targets(network, ["q_proj", "down_proj"], 3).adapted == (
        *(f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)),
        *(f"model.layers.{i}.mlp.down_proj" for i in (0, 1, 2)),
    )
    assert find_targets(network, ["q_proj"], 1).adapted == ("model.layers.1.self_attn.q_proj",)
    with pytest.raises(SettingError, match="is 1, and 'q_proj' names none in the last layers of LlamaForCausalLM"):
        find_targets(network, ["q_proj", "down_proj"], 1)


def test_layers_that_cannot_be_counted_all_get_an_adapter():
    network = tiny_model("llama").unload()
    network.config.num_hidden_layers = 5  # not as many as its list has
    targets = find_targets(network, ["q_proj"], 1)
    assert targets.everywhere and len(targets.adapted) == 3
