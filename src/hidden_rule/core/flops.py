"""Floating-point operations of a language model, from the number of positions that it computed.

Kaplan et al. 2020 (arXiv 2001.08361, section 2.1): a forward pass takes 2 a parameter and token, a backward pass 2 for
the gradients of activations and 2 for those of weights; frozen weights have none of the latter:

    forward     2 · ((N + L) · positions + H · projected)
    backward    2 · ((N + 2 L) · positions + H · projected), of those with gradients
    recomputed  2 · (N + L) · positions with gradients, under gradient checkpointing

N: the backbone's frozen weights without embeddings; L: LoRA's weights; H: the output layer's weights. Positions are
those that the backbone was really given, padding included and shared prefixes once; projected those that the whole
output layer was applied to. An estimate: attention's own products are left out (some 4% at a few hundred tokens),
logits of single tokens too, and of a mixture of experts all experts count.
"""

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Counts:
    """Positions that a model computed: all, those with gradients, and the same for the output layer."""

    positions: int = 0
    grad_positions: int = 0
    projected: int = 0
    grad_projected: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


def flops(counts: Counts, n: int, lora: int, head: int, checkpointing: bool = False) -> int:
    """Floating-point operations by the formula of the module's docstring; `n`, `lora`, `head` are N, L and H."""
    forward = 2 * ((n + lora) * counts.positions + head * counts.projected)
    backward = 2 * ((n + 2 * lora) * counts.grad_positions + head * counts.grad_projected)
    recomputed = 2 * (n + lora) * counts.grad_positions if checkpointing else 0
    return forward + backward + recomputed
