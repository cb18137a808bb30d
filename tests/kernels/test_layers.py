"""Every layer class whose forward is replaced computes what it computed before: forwards, backwards, in both types."""

import importlib

import pytest
import torch
from transformers import PretrainedConfig

from hidden_rule.kernels.compat_transformers import class_of
from hidden_rule.kernels.mlp import MLPS, fuse_mlps
from hidden_rule.kernels.norm import NORMS, fuse_norms

SIZES = {"hidden_size": 24, "intermediate_size": 40, "mlp_bias": False, "attention_bias": False}


def layer_class(name: str, suffix: str):
    """The class of transformers with this name."""
    family = name.removesuffix(suffix).lower()
    return getattr(importlib.import_module(f"transformers.models.{family}.modeling_{family}"), name)


def make_norm(name: str) -> torch.nn.Module:
    layer = layer_class(name, "RMSNorm")(24, eps=1e-5)
    torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    return layer


def make_mlp(name: str, activation: str = "silu") -> torch.nn.Module:
    return layer_class(name, "MLP")(PretrainedConfig(**SIZES, hidden_act=activation))


def outcome(layer, x):
    """Output and the input's gradient."""
    x = x.clone().requires_grad_()
    output = layer(x)
    return output.detach(), torch.autograd.grad(output.float().pow(2).sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(NORMS | MLPS))
def test_a_listed_class_computes_what_ours_does(name, dtype):
    """In bfloat16 up to its rounding, for the order of the gradient's sums differs."""
    torch.manual_seed(0)
    make, fuse = (make_norm, fuse_norms) if name in NORMS else (make_mlp, fuse_mlps)
    layer = make(name).to(dtype).requires_grad_(False)
    x = (3 * torch.randn(7, 5, 24)).to(dtype)
    expected = outcome(layer, x)
    assert fuse(layer) == 1 and "forward" in vars(layer)
    found = outcome(layer, x)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    scale = float(expected[1].abs().max())
    torch.testing.assert_close(found[1], expected[1], rtol=tolerance, atol=tolerance * scale)


def test_another_activation_keeps_its_own_forward():
    assert fuse_mlps(make_mlp("LlamaMLP", "gelu")) == 0


def test_a_class_of_the_same_name_from_elsewhere_keeps_its_own_forward():
    class LlamaRMSNorm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.variance_epsilon = torch.nn.Parameter(torch.ones(4)), 1e-5

    assert class_of(LlamaRMSNorm()) is None and fuse_norms(LlamaRMSNorm()) == 0
