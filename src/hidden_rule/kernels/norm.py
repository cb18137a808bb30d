"""RMS normalization with a backward pass in closed form: half the operations that autograd records for it."""

import types

import torch

from hidden_rule.kernels import native, without_gradients
from hidden_rule.kernels.compat_transformers import class_of

NORMS = frozenset({"LlamaRMSNorm", "MistralRMSNorm", "Phi3RMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "SmolLM3RMSNorm"})


class RMSNormFunction(torch.autograd.Function):
    """w · x / rms(x) over the last dimension for x (…, H) and a frozen w (H,); Zhang and Sennrich, arXiv 1910.07467.

    Computed in float32 and rounded before the multiplication by w, as transformers' models do. With n = x / rms(x) and
    d = w · grad, the gradient in x is (d - n · mean(d · n)) / rms(x).
    """

    @staticmethod
    def forward(ctx, x, weight, eps):
        if native.takes(x, weight):
            x, out, inverse = x.contiguous(), torch.empty_like(x), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
            native.call("norm_forward", x, weight, float(eps), out, inverse, inverse.numel(), x.shape[-1])
            ctx.save_for_backward(x, inverse, weight)
            return out
        high = x.float()
        inverse = torch.rsqrt(high.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, inverse, weight)
        return weight * (high * inverse).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, inverse, weight = ctx.saved_tensors
        if native.takes(x, weight, grad):
            out = torch.empty_like(x)
            native.call("norm_backward", grad.contiguous(), x, weight, inverse, out, inverse.numel(), x.shape[-1])
            return out, None, None
        normal = x.float() * inverse
        scaled = (grad * weight).float()
        mean = (scaled * normal).mean(-1, keepdim=True)
        return scaled.sub_(normal.mul_(mean)).mul_(inverse).to(x.dtype), None, None


def fused_forward(self, hidden_states, *args, **kwargs):
    """An RMS layer's forward by `RMSNormFunction`; its own where it is given more, as gated layers are."""
    if args or kwargs:
        return type(self).forward(self, hidden_states, *args, **kwargs)
    return without_gradients.call(RMSNormFunction, hidden_states, self.weight, self.variance_epsilon)


def fuse_norms(network) -> int:
    """Give `fused_forward` to every layer of the classes `NORMS`; returns how many.

    A layer of another class keeps its own forward: Gemma's multiply by 1 + w, gated ones take a second input. Every
    class of the list is compared with `fused_forward` in tests/kernels/test_layers.py.
    """
    fused = 0
    for layer in network.modules():
        if class_of(layer) in NORMS:
            layer.weight.requires_grad_(False)
            layer.forward = types.MethodType(fused_forward, layer)
            fused += 1
    return fused
