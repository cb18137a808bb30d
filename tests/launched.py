"""A training as a rule's script runs it, in as many processes as a file asks for: `python launched.py sft job.json`.

With HOLD_AT_STEP=7 it waits for SIGTERM at the end of step 7.
"""

import importlib
import os
import sys
import time

from hidden_rule.core.logs import logged
from hidden_rule.core.processes import LAUNCHED
from hidden_rule.training import launch


def hold_at(held: int) -> None:
    """Let trainings wait for SIGTERM at the end of step `held`, a minute at the most."""
    from hidden_rule.training.checkpoints import Checkpoints

    plain = Checkpoints.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        until = time.monotonic() + 60 * (state.global_step == held)
        while not self.stopped and time.monotonic() < until:
            time.sleep(0.01)
        plain(self, args, state, control, **kwargs)

    Checkpoints.on_step_end = on_step_end


def method_of(name: str):
    """The function that trains by a method."""
    if "HOLD_AT_STEP" in os.environ:
        hold_at(int(os.environ["HOLD_AT_STEP"]))
    return getattr(importlib.import_module(f"hidden_rule.training.{name}"), f"train_{name}")


if __name__ == "__main__":
    name, path = sys.argv[1:]
    if LAUNCHED in os.environ:
        launch.run_rank(method_of(name))
    else:
        job, place = launch.read_job(path)
        rank = [__file__, name] if "HOLD_AT_STEP" in os.environ else ["-m", f"hidden_rule.training.{name}"]
        with logged(place.log):
            launch.start(rank, job, place)
            launch.train(method_of(name), job, place)
