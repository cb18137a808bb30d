"""LoRA layers computed in the base model's type, by fewer operations than PEFT's.

PEFT computes the adapter's part of a layer in the type of its weights, float32: the layer's input is copied to float32,
four products of full width and two conversions follow. Here the low-rank products run in the type of the activations
and are added inside the matrix product, forwards and backwards; weights, their gradients' sums and the optimizer stay
in float32, as under mixed precision. With a float32 base model the result is PEFT's.
"""

import types

import torch

from hidden_rule.kernels import without_gradients
from hidden_rule.kernels.compat_peft import is_plain, only_adapter


class LoraProduct(torch.autograd.Function):
    """x Wᵀ + bias + scale (x Aᵀ) Bᵀ for x (N, in), frozen W (out, in) and bias, trained A (r, in) and B (out, r)."""

    @staticmethod
    def forward(ctx, x, weight, bias, a, b, scale):
        a_low, b_low = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = x @ a_low.T
        result = torch.nn.functional.linear(x, weight, bias)
        ctx.save_for_backward(x, inner, weight, a_low, b_low)
        ctx.scale, ctx.types = scale, (a.dtype, b.dtype)
        return result.addmm_(inner, b_low.T)

    @staticmethod
    def backward(ctx, grad):
        x, inner, weight, a_low, b_low = ctx.saved_tensors
        grad_inner = grad @ b_low
        grad_x = (grad @ weight).addmm_(grad_inner, a_low) if ctx.needs_input_grad[0] else None
        grad_a = (grad_inner.T @ x).to(ctx.types[0]) if ctx.needs_input_grad[3] else None
        grad_b = (grad.T @ inner).to(ctx.types[1]).mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        return grad_x, None, None, grad_a, grad_b, None


def fused_forward(self, x, *args, **kwargs):
    """A LoRA layer's forward: `LoraProduct` where the layer computes nothing else, otherwise PEFT's own."""
    name = only_adapter(self)
    if args or kwargs or name is None:
        return type(self).forward(self, x, *args, **kwargs)
    base = self.base_layer
    rows = without_gradients.call(
        LoraProduct,
        x.reshape(-1, x.shape[-1]),
        base.weight,
        base.bias,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        self.scaling[name],
    )
    return rows.view(*x.shape[:-1], rows.shape[-1])


def fuse_lora(model) -> None:
    """Give every plain LoRA layer of a PEFT model (`compat_peft.is_plain`) `fused_forward`.

    The layer's own attribute hides its class's method: PEFT makes the layers, and saves and merges them by their class.
    """
    for layer in model.modules():
        if is_plain(layer):
            layer.forward = types.MethodType(fused_forward, layer)
