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


class LoraProducts(torch.autograd.Function):
    """x Wᵀ + bias + scale (x Aᵀ) Bᵀ of one or several layers, for the same x (N, in).

    `layers`: of each frozen W (out, in) and bias, trained A (r, in) and B (out, r), four after the other. All layers'
    products with A are one, and so are their gradients.
    """

    @staticmethod
    def forward(ctx, x, scales, *layers):
        weights, biases, down, up = (layers[i::4] for i in range(4))
        a_low = torch.cat([a.to(x.dtype) for a in down])
        b_low = [(b * scale).to(x.dtype) for b, scale in zip(up, scales, strict=True)]
        inner = x @ a_low.T
        ctx.ranks = [len(a) for a in down]
        parts = zip(weights, biases, b_low, inner.split(ctx.ranks, 1), strict=True)
        results = tuple(torch.nn.functional.linear(x, w, bias).addmm_(part, b.T) for w, bias, b, part in parts)
        ctx.save_for_backward(x, inner, a_low, *weights, *b_low)
        ctx.scales, ctx.types = scales, [(a.dtype, b.dtype) for a, b in zip(down, up, strict=True)]
        return results

    @staticmethod
    def backward(ctx, *grads):
        x, inner, a_low, *rest = ctx.saved_tensors
        n = len(grads)
        weights, b_low = rest[:n], rest[n:]
        grad_inner = torch.cat([grad @ b for grad, b in zip(grads, b_low, strict=True)], 1)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grads[0] @ weights[0]).addmm_(grad_inner, a_low)
            for grad, weight in zip(grads[1:], weights[1:], strict=True):
                grad_x.addmm_(grad, weight)
        result = [grad_x, None]
        needed = ctx.needs_input_grad[2:]
        grads_a = (grad_inner.T @ x).split(ctx.ranks) if any(needed[2::4]) else [None] * n
        for i, (grad, part) in enumerate(zip(grads, inner.split(ctx.ranks, 1), strict=True)):
            type_a, type_b = ctx.types[i]
            grad_a = grads_a[i].to(type_a) if needed[4 * i + 2] else None
            grad_b = (part.T @ grad).T.to(type_b).mul_(ctx.scales[i]) if needed[4 * i + 3] else None
            result += [None, None, grad_a, grad_b]
        return tuple(result)


def products(x: torch.Tensor, layers: list) -> list[torch.Tensor] | None:
    """What layers make of rows x (N, in), by `LoraProducts`; None where one is none of ours, or computes otherwise."""
    if not all(getattr(vars(layer).get("forward"), "__func__", None) is fused_forward for layer in layers):
        return None
    names = [only_adapter(layer) for layer in layers]
    if None in names:
        return None
    parts = []
    for layer, name in zip(layers, names, strict=True):
        parts += [layer.base_layer.weight, layer.base_layer.bias, layer.lora_A[name].weight, layer.lora_B[name].weight]
    scales = tuple(layer.scaling[name] for layer, name in zip(layers, names, strict=True))
    return list(without_gradients.call(LoraProducts, x, scales, *parts))


def fused_forward(self, x, *args, **kwargs):
    """A LoRA layer's forward: `LoraProducts` where the layer computes nothing else, otherwise PEFT's own."""
    found = None if args or kwargs else products(x.reshape(-1, x.shape[-1]), [self])
    if found is None:
        return type(self).forward(self, x, *args, **kwargs)
    return found[0].view(*x.shape[:-1], found[0].shape[-1])


def fuse_lora(model) -> None:
    """Give every plain LoRA layer of a PEFT model (`compat_peft.is_plain`) `fused_forward`.

    The layer's own attribute hides its class's method: PEFT makes the layers, and saves and merges them by their class.
    """
    for layer in model.modules():
        if is_plain(layer):
            layer.forward = types.MethodType(fused_forward, layer)
