"""Logits as a causal model makes them of hidden states: its output layer, a constant factor, a soft cap.

Families multiply (Cohere, Falcon-H1, HyperCLOVA X) or divide (Granite) by a constant of their configuration, and bound
logits by cap · tanh(logits / cap) (Gemma). A configuration may hold such a number that its family does not use; loading
a model compares the form with the model's own logits (`probe.py`) and keeps the one that they have.
"""

import weakref
from dataclasses import dataclass

import torch

FACTORS = ("logit_scale", "output_multiplier", "lm_head_multiplier")
QUOTIENT = "logits_scaling"  # Granite divides by it
MULTIPLIED_QUOTIENT = "hyperclovax"  # model types that multiply by it
CAPS = ("final_logit_softcapping", "logits_soft_cap")


@dataclass(frozen=True)
class LogitForm:
    """What happens to the output layer's product: it is multiplied by `scale`, then bounded by `cap`."""

    scale: float = 1.0
    cap: float | None = None

    def of(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits (…, V) of an output layer's product (…, V)."""
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


confirmed: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # by model: the form that its own logits have


def declared_form(config) -> LogitForm:
    """The form that a text configuration declares."""

    def number(name: str):
        value = getattr(config, name, None)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    scale = 1.0
    for name in FACTORS:
        scale *= 1.0 if (factor := number(name)) is None else factor
    if quotient := number(QUOTIENT):
        multiplies = str(getattr(config, "model_type", "")).startswith(MULTIPLIED_QUOTIENT)
        scale = scale * quotient if multiplies else scale / quotient
    return LogitForm(scale, next((cap for name in CAPS if (cap := number(name))), None))


def logit_form(model) -> LogitForm:
    """The form of a causal model's logits: as its loading confirmed it, else as its configuration declares it."""
    form = confirmed.get(model)
    return declared_form(model.config.get_text_config()) if form is None else form
