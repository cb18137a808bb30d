"""What a model computes is counted where it is computed: shared prefixes once, with and without gradients."""

import torch

from hidden_rule.core.flops import Counts
from hidden_rule.kernels.meter import Meter, lap, sizes_of
from hidden_rule.kernels.shared_prefix import run_whole, tail_states
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.trie import LabelTrie
from hidden_rule.training.shared_forward import add_shared_prefix_forward
from tiny_models import DEVICE, tiny_model


def test_shared_positions_count_once_and_padding_counts():
    network = tiny_model("llama").get_base_model()
    meter = Meter(network)
    shared = list(range(1, 17))
    with torch.no_grad():
        run_whole(network, [[*shared, 20], [*shared, 21, 22]])
    assert meter.counts == Counts(2 * 18)
    before = meter.counts
    tail_states(network, [shared], [[20], [21, 22]], [0, 0])
    assert meter.counts - before == Counts(24, 24)  # 16 + 1 + 2, and up to a multiple of 8
    assert meter.calls == 2


def test_the_output_layer_counts_where_it_is_applied():
    model = tiny_model("qwen")
    meter = Meter(model)
    add_shared_prefix_forward(model.get_base_model())
    ids = torch.arange(1, 13, device=DEVICE).unsqueeze(0)
    labels = torch.where(ids > 9, ids, -100)
    model(input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids), fused_lm_head=True)
    assert (meter.counts.projected, meter.counts.grad_projected) == (3, 3)
    weights = sizes_of(model)
    assert weights == sizes_of(model.get_base_model())
    positions = meter.counts.positions
    by_hand = 2 * ((weights["n"] + weights["lora"]) * positions + 3 * weights["head"])
    by_hand += 2 * ((weights["n"] + 2 * weights["lora"]) * positions + 3 * weights["head"])
    assert meter.flops() == by_hand
    assert meter.flops(checkpointing=True) == by_hand + 2 * (weights["n"] + weights["lora"]) * positions


def test_batches_are_laps_of_a_metered_model_alone():
    model, trie = tiny_model("llama").get_base_model().eval(), LabelTrie([[40, 41], [42, 43]])
    prompts = [[1, 2, 3, n] for n in range(4, 10)]
    label_log_probs(model, trie, prompts, 2)  # nothing counts, nothing fails
    meter = Meter(model)
    label_log_probs(model, trie, prompts, 2)
    assert [of.kind for of in meter.laps.laps] == ["structured"] * 3
    assert sum(of.units for of in meter.laps.laps) == meter.counts.positions
    with lap(model, "free", by="calls"):
        run_whole(model, prompts)
    assert meter.laps.laps[-1].units == 1
    with lap(model, "free", by="calls"):
        pass  # nothing was computed: no lap
    assert len(meter.laps.laps) == 4
