"""A meter inside the trainers: what each update took, and what the model computed in it."""

import time

import torch
from transformers import TrainerCallback

from hidden_rule.kernels.frozen_layers import share_frozen
from hidden_rule.kernels.meter import plain
from hidden_rule.kernels.shared_prefix import body, frozen_parts
from measure import Counts, flops, sizes


class Meter(TrainerCallback):
    """Times updates and counts positions; ends a training after `stop_after` updates.

    `on_backbone`, `on_head` and `on_fused` are forward pre-hooks of the model's parts.
    """

    def __init__(self, model, stop_after: int):
        self.model, self.stop_after = model, stop_after
        self.counts, self.ends, self.marks, self.tokens = Counts(), [], [], []
        self.kept_s = 0.0  # seconds of computing what frozen layers make of the rows, before the first update
        self.share_with_gradient = 1 - share_frozen(body(plain(model)))

    def add(self, positions: int, projected: int, share: float = 1.0) -> None:
        """Positions that passed a share of the layers; below the first trained one nothing has gradients."""
        grad, now = torch.is_grad_enabled(), self.counts
        self.counts = Counts(
            now.positions + round(positions * share),
            now.grad_positions + round(positions * min(share, self.share_with_gradient)) * grad,
            now.projected + projected,
            now.grad_projected + projected * grad,
        )

    def on_backbone(self, module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        embeds = kwargs.get("inputs_embeds")
        frozen = frozen_parts.get(module)
        n = ids.numel() if ids is not None else embeds.shape[0] * embeds.shape[1]
        self.add(n, 0, 1.0 if frozen is None else frozen.share)

    def on_head(self, module, args):
        self.add(0, args[0].numel() // args[0].shape[-1])

    def on_fused(self, module, args, kwargs):
        if kwargs.get("fused_lm_head"):
            self.add(0, int((kwargs["labels"][:, 1:] != -100).sum()))

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.marks.append(self.counts)
        control.should_training_stop |= len(self.ends) >= self.stop_after

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "num_tokens" in logs:
            self.tokens.append(int(logs["num_tokens"]))

    def steps(self, checkpointing: bool = False) -> dict[str, list]:
        """Each update but the first, which warms up: seconds, positions computed, rows' own tokens, FLOPs."""
        computed = [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
        weights = sizes(self.model)
        return {
            "seconds": [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)],
            "positions": [counts.positions for counts in computed],
            "tokens": [after - before for before, after in zip(self.tokens, self.tokens[1:], strict=False)],
            "flops": [flops(counts, **weights, checkpointing=checkpointing) for counts in computed],
        }
