"""Numbers that are not finite stop a job with one line, where they first appear: run, step, quantity, type, remedy.

Losses, gradients and probabilities of an overflow in float16, a NaN among the weights or a learning rate that is too
high would otherwise go on as NaN, of which `argmax` makes a decision. Checks read what is on the CPU already, or is
brought there anyway: a check of its own would let a GPU wait.
"""

import functools
import math
from pathlib import Path

import torch
from safetensors import safe_open

from hidden_rule.core.errors import UserError, setting_file

WIDER = {torch.float16: "bfloat16 or float32", torch.bfloat16: "float32"}
DAMAGED = "take another copy of the model, whose weights may be damaged"


class NotFiniteError(UserError):
    """What is not finite, and where: `of` adds the run, `at` the step, to what the place knew.

    what: a quantity with its article, in the singular; dtype: of what computed it; step: optimizer steps done; run: the
    condition (None where a job knows none), seed, and learning rate (None where nothing is trained).
    """

    def __init__(self, what: str, value: float, dtype: torch.dtype, step: int | None = None, run: tuple | None = None):
        self.what, self.value, self.dtype, self.step, self.run = what, value, dtype, step, run
        condition, seed, rate = run or (None, None, None)
        key = f"conditions.{condition}" if condition else "model"
        where = [f"seed {seed}"] * (seed is not None) + [f"step {step}"] * (step is not None)
        of_type = str(dtype).removeprefix("torch.")
        fault = f"{', '.join(where)}{': ' * bool(where)}{what} is not finite ({value}), computed in {of_type}"
        super().__init__(setting_file(key), key, fault, self.remedy(rate))

    def remedy(self, rate: float | None) -> str:
        """What may help; with a step and a learning rate, training may be at fault, and else it is not."""
        cures = [f"set model.dtype to {WIDER[self.dtype]}"] if self.dtype in WIDER else []
        if rate is not None and self.step:
            cures.append(f"lower learning_rate ({rate:g})")
        elif self.dtype != torch.float16:
            cures.append(DAMAGED)
        return ", or ".join(cures)

    def at(self, step: int) -> "NotFiniteError":
        """The same with a step, where it had none."""
        return NotFiniteError(self.what, self.value, self.dtype, step if self.step is None else self.step, self.run)

    def of(self, job) -> "NotFiniteError":
        """The same of a job's run."""
        run = (getattr(job, "condition", None), job.seed, (getattr(job, "settings", None) or {}).get("learning_rate"))
        return NotFiniteError(self.what, self.value, self.dtype, self.step, run)


def naming_run(work):
    """`work(job, …)`, whose errors of this kind say of which run they are."""

    @functools.wraps(work)
    def named(job, *args, **kwargs):
        try:
            return work(job, *args, **kwargs)
        except NotFiniteError as error:
            raise error.of(job) from None

    return named


def dtype_of(model) -> torch.dtype:
    """The type that a causal model computes in: its embeddings', not an adapter's."""
    return model.get_input_embeddings().weight.dtype


def check_values(values: torch.Tensor, what: str, dtype: torch.dtype) -> None:
    """Raise NotFiniteError if one of `values` is not finite; on a GPU this waits for it."""
    finite = torch.isfinite(values)
    if not finite.all():
        raise NotFiniteError(what, float(values[~finite].flatten()[0]), dtype)


def check_numbers(numbers: dict[str, float], dtype: torch.dtype, step: int) -> None:
    """Raise NotFiniteError for the first of some numbers by name, measured at a step, that is not finite."""
    for what, value in numbers.items():
        if not math.isfinite(value):
            raise NotFiniteError(what, value, dtype, step)


def check_next_tokens(network) -> None:
    """Let a causal model raise NotFiniteError instead of generating a token from logits that are not finite.

    By a hook on its output layer, for generation whoever asks for it; -inf is a token that a model rules out. While
    gradients are computed the loss is checked instead.
    """

    def check(layer, inputs, logits):
        if not torch.is_grad_enabled():
            check_values(logits.amax(-1), "a logit of the next token", logits.dtype)

    network.get_output_embeddings().register_forward_hook(check)


def weights_are_finite(model) -> bool:
    """Whether this process's part of all trained weights is finite."""
    parts = [p.to_local() if hasattr(p, "to_local") else p for p in model.parameters() if p.requires_grad]
    flags = [torch.isfinite(part.detach()).all() for part in parts]
    return bool(torch.stack(flags).all()) if flags else True


def not_finite_weight(path) -> tuple[str, float] | None:
    """The name of the first tensor of a safetensors file with a value that is not finite, and the value."""
    with safe_open(Path(path), framework="pt") as file:
        for name in sorted(file.keys()):
            values = file.get_tensor(name)
            finite = torch.isfinite(values)
            if not finite.all():
                return name, float(values[~finite].flatten()[0])
    return None
