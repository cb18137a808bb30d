"""Checkpoints of a training, each complete or ignored, from which a killed training resumes.

A checkpoint is transformers' own (`checkpoint-<step>`: adapter, optimizer, schedule, random generators) and two more
files: `progress.json`, what our own callbacks counted and measured so far, and, written last, `whole.json`, the size
and SHA-256 of every other file. Without a matching `whole.json` a checkpoint is damaged or unfinished, and is never
read.

They lie outside the rule's outputs, which Snakemake deletes after a failure, in a folder named by a hash of everything
the training depends on: with another configuration, data, start or code there is no checkpoint.
"""

import json
import logging
import math
import os
import shutil
import signal
import time
from pathlib import Path

from transformers import TrainerCallback

from hidden_rule.core import processes
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_entry, file_sha256, write_text
from hidden_rule.models.finite import NotFiniteError, dtype_of, weights_are_finite
from hidden_rule.training.job import CheckpointPlan
from hidden_rule.training.remembered import remembered_parts

log = logging.getLogger(__name__)

WHOLE, PROGRESS = "whole.json", "progress.json"
KEPT = 2


def is_whole(folder: Path) -> bool:
    """Whether every file of a checkpoint has the size and hash with which it was written."""
    try:
        files = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
        return all(
            (folder / name).stat().st_size == entry["bytes"] and file_sha256(folder / name) == entry["sha256"]
            for name, entry in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


class Counters:
    """Attributes of an object that a checkpoint saves and a resumed training restores."""

    def __init__(self, owner, *names: str):
        self.owner, self.names = owner, names

    def progress(self) -> dict:
        return {name: getattr(self.owner, name) for name in self.names}

    def restore(self, progress: dict) -> None:
        for name in self.names:
            setattr(self.owner, name, progress[name])


class Checkpoints(TrainerCallback):
    """Writes checkpoints as a plan says, and at SIGTERM if it asks for that.

    After SIGTERM a training stops with the step under way, and `stopped` is true.
    """

    def __init__(self, plan: CheckpointPlan):
        self.root, self.folder = Path(plan.root), Path(plan.root) / plan.identity
        self.steps, self.minutes = plan.steps, plan.minutes
        self.counters: dict = {}
        self.stopped = False
        self.last = time.monotonic()
        if plan.at_sigterm:
            signal.signal(signal.SIGTERM, self.on_signal)

    def newest(self) -> Path | None:
        """The newest whole checkpoint, or None if this training never finished one.

        Unfinished and damaged ones are named in the log and skipped; raises UserError if none is whole and one was
        damaged.
        """
        found = sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
        for path in found:
            if is_whole(path):
                return path
            log.warning("%s is damaged or unfinished: skipped", path)
        if any((path / WHOLE).exists() for path in found):
            remedy = f"delete {self.folder} to train from the start"
            raise UserError(found[0], None, "is damaged, and this training has no other whole checkpoint", remedy)
        if found:
            log.warning("no checkpoint was finished before the training was killed: it starts from its beginning")
        return None

    def train(self, trainer, counters: dict) -> None:
        """Run `trainer` to its end, from the newest checkpoint if there is one.

        `counters` have `progress() -> dict` (JSON) and `restore(dict)`, and are saved and restored with it. After
        SIGTERM the process ends with status 143.
        """
        self.counters, newest = counters, self.newest()
        if newest is not None:
            progress = json.loads((newest / PROGRESS).read_text(encoding="utf-8"))
            for name, counter in counters.items():
                counter.restore(progress[name])
            log.warning("resuming from %s", newest)
        trainer.add_callback(self)
        try:
            with remembered_parts(trainer.model):
                trainer.train(resume_from_checkpoint=newest and str(newest))
        except NotFiniteError as error:
            raise error.at(trainer.state.global_step) from None
        if self.stopped:
            log.warning("stopped by SIGTERM after step %d, with a checkpoint", trainer.state.global_step)
            raise SystemExit(128 + signal.SIGTERM)

    def on_signal(self, number, frame) -> None:
        self.stopped = True

    def on_step_end(self, args, state, control, **kwargs):
        due = self.steps and state.global_step % self.steps == 0
        due = due or (self.minutes and time.monotonic() - self.last >= 60 * self.minutes)
        # all processes do the same at the same step: rank 0's clock says when, and a signal to one is a signal to all
        due, stopped = processes.reduced([bool(due) * (processes.rank() == 0), self.stopped], largest=True)
        self.stopped = bool(stopped)
        control.should_save = bool(due or stopped) and state.global_step < state.max_steps
        control.should_training_stop |= self.stopped

    def on_log(self, args, state, control, model=None, **kwargs):
        """Raise NotFiniteError, in all processes, before weights are saved that are not finite."""
        if control.should_save and any(processes.reduced([not weights_are_finite(model)], largest=True)):
            raise NotFiniteError("a weight of the adapter", math.nan, dtype_of(model), state.global_step)

    def on_save(self, args, state, control, **kwargs):
        self.last = time.monotonic()
        processes.wait()  # until each has written its random generators' state
        if processes.rank() != 0:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        progress = {name: counter.progress() for name, counter in self.counters.items()}
        write_text(json.dumps(progress), folder / PROGRESS)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != WHOLE)
        for path in files:
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
        entries = {str(path.relative_to(folder)): file_entry(path) for path in files}
        write_text(json.dumps(entries, indent=1), folder / WHOLE)
        self.delete_old(state.global_step)

    def delete_old(self, step: int) -> None:
        """Keep KEPT checkpoints up to `step`: by their numbers; transformers goes by modification times."""
        steps = sorted(int(path.name.split("-")[1]) for path in self.folder.glob("checkpoint-*"))
        for old in [n for n in steps if n <= step][:-KEPT]:
            shutil.rmtree(self.folder / f"checkpoint-{old}", ignore_errors=True)

    def clear(self) -> None:
        """Delete the checkpoints: the training is done and its outputs are written."""
        shutil.rmtree(self.root, ignore_errors=True)
