"""RMS normalization with a backward pass in closed form: half the operations that autograd records for it."""

import types

import torch


class RMSNormFunction(torch.autograd.Function):
    """w · x / rms(x) over the last dimension for x (…, H) and a frozen w (H,); Zhang and Sennrich, arXiv 1910.07467.

    Computed in float32 and rounded before the multiplication by w, as transformers' models do. With n = x / rms(x) and
    d = w · grad, the gradient in x is (d - n · mean(d · n)) / rms(x).
    """

    @staticmethod
    def forward(ctx, x, weight, eps):
        high = x.float()
        inverse = torch.rsqrt(high.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, inverse, weight)
        return weight * (high * inverse).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, inverse, weight = ctx.saved_tensors
        normal = x.float() * inverse
        scaled = (grad * weight).float()
        mean = (scaled * normal).mean(-1, keepdim=True)
        return scaled.sub_(normal.mul_(mean)).mul_(inverse).to(x.dtype), None, None


def fused_forward(self, hidden_states):
    """An RMS layer's forward by `RMSNormFunction`."""
    return RMSNormFunction.apply(hidden_states, self.weight, self.variance_epsilon)


def fuse_norms(network) -> int:
    """Give `fused_forward` to every layer that computes the same; returns how many.

    Layers are known by what they do, not by their class: one that answers a random input otherwise (Gemma's, which
    multiply by 1 + w) keeps its own forward.
    """
    fused = 0
    for layer in network.modules():
        weight = getattr(layer, "weight", None)
        if not hasattr(layer, "variance_epsilon") or not isinstance(weight, torch.Tensor) or weight.dim() != 1:
            continue
        probe = torch.linspace(-2, 3, weight.numel(), dtype=weight.dtype, device=weight.device)
        with torch.no_grad():
            same = torch.allclose(fused_forward(layer, probe), layer(probe), rtol=1e-2, atol=1e-5)
        if same:
            weight.requires_grad_(False)
            layer.forward = types.MethodType(fused_forward, layer)
            fused += 1
    return fused
