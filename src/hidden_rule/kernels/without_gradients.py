"""Functions with a backward pass of their own, called without autograd's bookkeeping where no gradients are computed.

When a model generates, each token takes a call of every layer, and the call itself takes as long as the layer's work.
"""

import torch


class _Nothing:
    """Stands for autograd's context, and keeps nothing for a backward pass."""

    def save_for_backward(self, *tensors) -> None:
        pass

    def mark_non_differentiable(self, *tensors) -> None:
        pass


def call(function: type[torch.autograd.Function], *arguments):
    """`function.apply(*arguments)`, or, where no gradients are computed, the same operations of its `forward` alone."""
    if torch.is_grad_enabled():
        return function.apply(*arguments)
    return function.forward(_Nothing(), *arguments)
