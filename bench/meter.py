"""A meter inside the trainers: what each update took, and what the model computed in it."""

import time

import torch
from transformers import TrainerCallback

from hidden_rule.kernels.meter import Meter as ComputeMeter
from measure import Counts, flops


class Meter(ComputeMeter, TrainerCallback):
    """Times updates and counts positions; ends a training after `stop_after` updates.

    `fused`: the model's forward applies the output layer's weights without calling the layer.
    """

    def __init__(self, model, stop_after: int, fused: bool):
        super().__init__(model)
        self.stop_after, self.fused = stop_after, fused
        self.ends: list[float] = []
        self.marks: list[tuple[Counts, Counts]] = []  # what was counted, and what of it was computed
        self.tokens: list[int] = []
        self.kept_s = 0.0  # seconds of computing what frozen layers make of the rows, before the first update

    def on_fused(self, module, args, kwargs) -> None:
        if self.fused and kwargs.get("fused_lm_head"):
            self.add(0, int((kwargs["labels"][:, 1:] != -100).sum()))

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.marks.append((self.counts, self.computed))
        control.should_training_stop |= len(self.ends) >= self.stop_after

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "num_tokens" in logs:
            self.tokens.append(int(logs["num_tokens"]))

    def steps(self, checkpointing: bool = False) -> dict[str, list]:
        """Each update but the first, which warms up: seconds, positions, rows' own tokens, FLOPs."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        computed = [after - before for (_, before), (_, after) in pairs]
        return {
            "seconds": [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)],
            "positions": [(after - before).positions for (before, _), (after, _) in pairs],
            "tokens": [after - before for before, after in zip(self.tokens, self.tokens[1:], strict=False)],
            "flops": [flops(counts, **self.sizes, checkpointing=checkpointing) for counts in computed],
        }
