"""LoRA layers computed in the base model's type, by fewer operations than PEFT's.

PEFT computes the adapter's part of a layer in the type of its weights, float32: the layer's input is copied to float32,
four products of full width and two conversions follow. Here the low-rank products run in the type of the activations
and are added inside the matrix product, forwards and backwards; weights, their gradients' sums and the optimizer stay
in float32, as under mixed precision. With a float32 base model the result is PEFT's.
"""

import types

import torch
from peft.tuners.lora import Linear


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
    """A LoRA layer's forward: `LoraProduct` where that is all there is to do, else PEFT's own."""
    active = self.active_adapters
    if args or kwargs or self.disable_adapters or self.merged or len(active) != 1 or active[0] not in self.lora_A:
        return type(self).forward(self, x, *args, **kwargs)
    base, name = self.base_layer, active[0]
    rows = LoraProduct.apply(
        x.reshape(-1, x.shape[-1]),
        base.weight,
        base.bias,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        self.scaling[name],
    )
    return rows.view(*x.shape[:-1], rows.shape[-1])


def fuse_lora(model) -> None:
    """Give every plain LoRA layer of a PEFT model `fused_forward`.

    Plain: over `torch.nn.Linear` with frozen weights, without dropout, biases of its own or a variant (DoRA, …).
    """
    for layer in model.modules():
        if type(layer) is not Linear or type(layer.base_layer) is not torch.nn.Linear:
            continue
        trained = any(p.requires_grad for p in layer.base_layer.parameters())
        drops = any(not isinstance(drop, torch.nn.Identity) for drop in layer.lora_dropout.values())
        biased = any(b.bias is not None for b in layer.lora_B.values())
        if not (trained or drops or biased or layer.lora_variant or layer.fan_in_fan_out):
            layer.forward = types.MethodType(fused_forward, layer)
