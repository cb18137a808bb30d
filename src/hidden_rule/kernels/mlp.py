"""Gated MLPs with a backward pass in closed form: a third fewer of the widest activations are kept for it."""

import types

import torch
from torch.nn.functional import linear, silu

from hidden_rule.kernels import native, without_gradients
from hidden_rule.kernels.compat_torch import silu_backward
from hidden_rule.kernels.compat_transformers import class_of, is_silu

PARTS = ("gate_proj", "up_proj", "down_proj")
MLPS = frozenset({"LlamaMLP", "MistralMLP", "Olmo2MLP", "Qwen2MLP", "Qwen3MLP", "SmolLM3MLP"})


def parts_of(layer) -> list:
    """The gate, up and down projections of a gated MLP."""
    return [getattr(layer, name) for name in PARTS]


def gate_product(gated: torch.Tensor, raised: torch.Tensor) -> torch.Tensor:
    """silu(gated) · raised, of contiguous tensors of one shape."""
    if not native.takes(gated, raised):
        return silu(gated).mul_(raised)
    out = torch.empty_like(gated)
    native.call("gate_forward", gated, raised, out, out.numel())
    return out


def gate_gradients(gated, raised, inner) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of both factors of `gate_product`, whose own, `inner`, is overwritten."""
    if not native.takes(gated, raised, inner):
        grad_raised = silu(gated).mul_(inner)
        return silu_backward(inner.mul_(raised), gated), grad_raised
    grad_raised = torch.empty_like(raised)
    native.call("gate_backward", gated, raised, inner, grad_raised, inner.numel())
    return inner, grad_raised


class GatedMLPFunction(torch.autograd.Function):
    """(silu(x Gᵀ) · x Uᵀ) Dᵀ for x (…, H) and frozen G, U (F, H) and D (H, F); Shazeer, arXiv 2002.05202.

    The two products of x are kept for the backward pass, and nothing else but weights.
    """

    @staticmethod
    def forward(ctx, x, gate, up, down):
        gated, raised = linear(x, gate), linear(x, up)
        ctx.save_for_backward(gated, raised, gate, up, down)
        return linear(gate_product(gated, raised), down)

    @staticmethod
    def backward(ctx, grad):
        gated, raised, gate, up, down = ctx.saved_tensors
        inner = grad @ down
        grad_gated, grad_raised = gate_gradients(gated, raised, inner)
        rows = (grad_gated @ gate).view(-1, gate.shape[1])
        rows.addmm_(grad_raised.view(-1, up.shape[0]), up)
        return rows.view(*grad.shape[:-1], -1), None, None, None


def fused_forward(self, x, *args, **kwargs):
    """A gated MLP's forward: by `GatedMLPFunction` where its layers are plain and frozen, else its own."""
    if args or kwargs:
        return type(self).forward(self, x, *args, **kwargs)
    layers = parts_of(self)
    if any(type(layer) is not torch.nn.Linear for layer in layers):  # one has a LoRA adapter
        return type(self).forward(self, x)
    weights = [layer.weight for layer in layers]
    if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
        return type(self).forward(self, x)
    return without_gradients.call(GatedMLPFunction, x, *weights)


def fuse_mlps(network) -> int:
    """Give `fused_forward` to every MLP of the classes `MLPS` whose activation is SiLU; returns how many.

    A layer of another class keeps its own forward. Every class of the list is compared
    with `fused_forward` in tests/kernels/test_layers.py.
    """
    fused = 0
    for layer in network.modules():
        if class_of(layer) not in MLPS or not is_silu(layer.act_fn):
            continue
        if all(type(part) is torch.nn.Linear and part.bias is None for part in parts_of(layer)):
            layer.forward = types.MethodType(fused_forward, layer)
            fused += 1
    return fused
