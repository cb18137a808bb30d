"""Losses of direct preference optimization, as TRL's `DPOTrainer` has them.

With the log-ratio of a reply, log π(y|x) − log π_ref(y|x), and Δ that of the chosen reply less that of the rejected:

    sigmoid   −log σ(β Δ)                                   DPO (Rafailov et al. 2023)
    ipo       (Δ' − 1 / (2β))²                              IPO (Azar et al. 2024); Δ' of log-ratios a token
    robust    −[(1 − ε) log σ(β Δ) − ε log σ(−β Δ)] / (1 − 2ε)   robust DPO (Chowdhury et al. 2024); ε: label_smoothing
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Ratios:
    """Of P pairs, the log-ratios (P,) of their chosen and their rejected replies, and the tokens (P,) in these."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    n_chosen: torch.Tensor
    n_rejected: torch.Tensor

    @property
    def margin(self) -> torch.Tensor:
        """Δ (P,)."""
        return self.chosen - self.rejected


def preference_loss(ratios: Ratios, loss_type: str, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """The loss (P,) of each pair."""
    if loss_type == "ipo":
        margin = ratios.chosen / ratios.n_chosen - ratios.rejected / ratios.n_rejected
        return (margin - 1 / (2 * beta)) ** 2
    scaled = beta * ratios.margin
    if loss_type == "robust":
        clean, flipped = (1 - label_smoothing) * logsigmoid(scaled), label_smoothing * logsigmoid(-scaled)
        return -(clean - flipped) / (1 - 2 * label_smoothing)
    return -logsigmoid(scaled)
