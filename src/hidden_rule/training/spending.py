"""What a training spends, over all processes that it is resumed in."""

from dataclasses import asdict, replace

import torch

from hidden_rule.core import processes
from hidden_rule.core.costs import Spent
from hidden_rule.core.flops import Counts
from hidden_rule.core.laps import STEP, Laps
from hidden_rule.core.usage import Usage
from hidden_rule.kernels.meter import Meter
from hidden_rule.training.start import Start


class Spending:
    """Clocks and counters of a training; a checkpoint keeps them.

    A step is a lap from the last step's log, or from what came between (validation, a checkpoint), to its own: its
    batch's preparation, rollouts and generation included. Trainers log after the numbers of a step are on the CPU, so a
    GPU's work is in its own step. Its units are the positions that it computed, those with gradients counted twice:
    steps of one training may differ in that by far, as those of GRPO in which no group has a signal.
    """

    def __init__(self, start: Start):
        self.begun, self.meter = start.begun, Meter(start.model)
        self.earlier, self.again, self.loading = Usage(), Usage(), Usage()
        self.load_start = self.begun.load
        self.step = 0  # the last one that was closed
        self.between = True  # whether something other than a step may be under way
        self.passed = 0  # positions before the step that is under way

    def progress(self) -> dict:
        """What a checkpoint keeps."""
        return {
            "usage": asdict(self.earlier + self.begun.usage()),
            "again": asdict(self.again + self.loading),
            "laps": self.meter.laps.as_json(),
            "counts": asdict(self.meter.counts),
            "left_out": asdict(self.meter.left_out),
            "load_start": self.load_start,
        }

    def restore(self, progress: dict) -> None:
        """Go on from what a checkpoint kept."""
        self.earlier, self.again = Usage(**progress["usage"]), Usage(**progress["again"])
        self.meter.laps, self.meter.counts = Laps(progress["laps"]), Counts(**progress["counts"])
        self.meter.left_out = Counts(**progress["left_out"])
        self.load_start = progress["load_start"]

    def begin(self, step: int) -> None:
        """The training begins after `step` steps: what came before is the loading."""
        self.loading, self.step = self.begun.usage(), step
        self.pause()

    def pause(self) -> None:
        """What is under way is no step: the next one begins when `begin_step` says."""
        self.between = True

    def begin_step(self) -> None:
        """A step begins, if none is under way."""
        if self.between:
            self.meter.laps.mark()
            self.between, self.passed = False, self.passes()

    def end_step(self, step: int) -> None:
        """Step number `step` is done; a second call for it does nothing."""
        if step > self.step and not self.between:
            before, self.passed = self.passed, self.passes()
            self.meter.laps.end(STEP, max(1, self.passed - before))
            self.step = step

    def passes(self) -> int:
        """Positions so far, those with gradients counted twice: a backward pass takes as long as a forward pass."""
        return self.meter.counts.positions + self.meter.counts.grad_positions

    def spent(self, began: float = 0.0) -> Spent:
        """What the training took so far; all processes call this, and rank 0's clocks count.

        began: `time.perf_counter()` before which this process had other work, a start that was loaded before.
        """
        usage = self.begun.usage()
        usage = replace(usage, wall_s=usage.wall_s - max(0.0, began - self.begun.at))
        everyone = processes.reduced([usage.cpu_s])[0]
        return Spent(
            usage=self.earlier + usage + self.meter.laps.elsewhere,
            laps=self.meter.laps,
            again=self.again,
            load_start=self.load_start,
            threads=torch.get_num_threads() * processes.n_processes(),
            cpu_beside_s=everyone - usage.cpu_s,
        )

    def computed(self, checkpointing: bool) -> dict:
        """`n_positions` and `flops` of all processes together; all of them call this."""
        summed = processes.reduced([self.meter.counts.positions, self.meter.flops(checkpointing)])
        return {"n_positions": int(summed[0]), "flops": summed[1]}
