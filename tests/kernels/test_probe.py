"""What a probe tolerates: as much as rounding does to the model at hand, and no fault beside it."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hidden_rule.kernels import install, probe
from tiny_models import SIZES

CPU = torch.device("cpu")


def random_network(std: float, n_layers: int, dtype: torch.dtype) -> LlamaForCausalLM:
    """A random model; with large weights a last digit of an early layer grows from layer to layer."""
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES | {"num_hidden_layers": n_layers}, initializer_range=std)
    return LlamaForCausalLM(config).to(dtype).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("std", "n_layers", "dtype", "amplifies"),
    [
        (0.3, 2, torch.float32, False),
        (0.3, 2, torch.bfloat16, False),
        (0.3, 12, torch.bfloat16, True),
        (0.5, 16, torch.float16, True),
    ],
)
def test_rounding_is_tolerated_and_a_fault_is_not(std, n_layers, dtype, amplifies):
    network = random_network(std, n_layers, dtype)
    install.set_attention(network, install.PLAIN)
    own, again = install.own_probe(network), install.own_probe(network)
    fixed = probe.TOLERANCE.get(dtype, probe.COARSE)
    assert own.tolerance == again.tolerance >= fixed and (own.tolerance > fixed) == amplifies
    kernels = install.compare(network, CPU)
    assert (kernels.attention_fault, kernels.sharing_fault) == (None, None)
    for layer in network.model.layers:
        layer.self_attn.scaling *= 3
    assert "differ from the model's own" in own.fault(lambda rows: install.whole_logits(network, rows))
