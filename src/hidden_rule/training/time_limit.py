"""A time limit for trainings: to compare methods at equal cost instead of equal epochs."""

import logging
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from hidden_rule.core import processes
from hidden_rule.training.watcher import Watcher

log = logging.getLogger(__name__)


class ClockedSchedule:
    """Mixin before a trainer class: the learning rate follows a `TimeLimit`, if there is one.

    Operations are counted by `kernels/meter.py`; transformers would go through all layers in each step for its own.
    """

    time_limit: "TimeLimit | None" = None
    args: Any  # the trainer's
    optimizer: Any

    def floating_point_ops(self, inputs) -> int:
        return 0

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.time_limit is None:
            return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]
        warmup = self.args.get_warmup_steps(num_training_steps)
        factor = self.time_limit.factors(num_training_steps, warmup)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler


def limit_time(trainer, minutes: float, watcher: Watcher) -> None:
    """Let `trainer`, a `ClockedSchedule` whose clock is `watcher`'s, end after `minutes`; 0 is no limit."""
    if minutes:
        trainer.time_limit = TimeLimit(minutes, watcher)
        trainer.add_callback(trainer.time_limit)


class TimeLimit(TrainerCallback):
    """Ends a training with the step in which its clock passes `minutes`.

    The clock is the history's: it starts with the first step's preparation, counts validation, and goes on from where
    a killed process left its last checkpoint. The learning rate rises over the warm-up steps, then falls linearly to 0
    with whatever runs out first, the time or the steps of all epochs. The result depends on the machine's speed.
    """

    def __init__(self, minutes: float, watcher: Watcher):
        self.minutes, self.watcher = minutes, watcher
        self.elapsed = 0.0  # share of the time that is spent: rank 0's, so that all processes do the same
        self.is_up = False

    def factors(self, n_steps: int, warmup: int):
        """What the learning rate is multiplied by, as a function of the step."""

        def factor(step: int) -> float:
            rise = step / warmup if step < warmup else 1.0
            return max(0.0, min(rise, 1 - step / n_steps, 1 - self.elapsed))

        return factor

    def on_train_begin(self, args, state, control, **kwargs):
        self.watcher.bar.total = None  # the steps of all epochs are not what there is time for

    def on_optimizer_step(self, args, state, control, **kwargs):
        elapsed = self.watcher.clock_s() / (60 * self.minutes) if processes.rank() == 0 else 0.0
        self.elapsed = processes.reduced([elapsed], largest=True)[0]

    def on_step_end(self, args, state, control, **kwargs):
        if self.elapsed >= 1 and state.global_step < state.max_steps:
            self.is_up = control.should_training_stop = True
            log.info("stopped after step %d: its %g minutes are over", state.global_step, self.minutes)

    def on_train_end(self, args, state, control, **kwargs):
        if self.is_up:
            self.watcher.add(state.global_step, "stopped_by_time_limit", self.minutes)
            if not self.watcher.is_validated(state.global_step):
                self.watcher.validate(state.global_step)
