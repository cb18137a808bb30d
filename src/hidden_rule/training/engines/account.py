"""What a training by an engine went through and took: its progress while it runs, then its history and its cost.

`n_positions` and `flops`, which no engine tells, are null. Peak memory is the engine's own number where it logs one (a
GPU's), else what its processes held beside what they share, sampled.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl
import psutil
import torch
from tqdm import tqdm

from hidden_rule.core.costs import Cost, Spent, peak_resident_bytes, write_costs
from hidden_rule.core.files import write_text
from hidden_rule.core.laps import STEP, Lap, Laps
from hidden_rule.core.tables import HISTORY, write_table
from hidden_rule.core.usage import Snapshot, Usage
from hidden_rule.models.finite import check_numbers
from hidden_rule.models.hardware import device_name, n_gpus
from hidden_rule.training.engines.processes import Processes
from hidden_rule.training.engines.prompts import read_prompts
from hidden_rule.training.engines.rollouts import Step, Tail, check_rollouts, read_rollouts, steps_of
from hidden_rule.training.engines.run import Engine, EngineRun, Logged
from hidden_rule.training.start import Start
from hidden_rule.training.watcher import IN_WORDS, SHARE_PREFIX

SPENT = "spent.json"
SAMPLED_S = 5.0  # between looks at the processes' memory, and at checkpoints
PEAK = "peak_bytes"


@dataclass
class Clock:
    """What all attempts took: those before this one up to their last checkpoint."""

    begun: Snapshot
    earlier: Usage = field(default_factory=Usage)
    peak: int = 0  # bytes

    def go_on(self, folder: Path) -> None:
        """Count on from the attempts that left their numbers in `folder`."""
        if (path := folder / SPENT).exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.earlier, self.peak = Usage(**kept["usage"]), kept["peak"]

    def keep(self, folder: Path) -> None:
        """Write down what was spent so far, with a checkpoint."""
        write_text(json.dumps({"usage": asdict(self.usage()), "peak": self.peak}), folder / SPENT)

    def usage(self) -> Usage:
        return self.earlier + self.begun.usage()


class Progress:
    """A progress bar of steps, and what has to be noticed while an engine runs: failed rewards, checkpoints, memory."""

    def __init__(self, engine: Engine, run: EngineRun, clock: Clock, processes: Processes):
        self.engine, self.run, self.clock, self.processes = engine, run, clock, processes
        self.saved, self.looked = engine.saved(run), 0.0
        self.tail = Tail(run.rollouts)

    def __enter__(self) -> "Progress":
        self.bar = tqdm(total=self.run.n_steps, initial=self.saved, unit="step", mininterval=1.0)
        return self

    def __exit__(self, *error) -> None:
        self.look(now=True)
        self.bar.close()

    def look(self, now: bool = False) -> None:
        """Called again and again; raises UserError if a reward failed."""
        if time.monotonic() < self.looked + SAMPLED_S and not now:
            return
        self.looked = time.monotonic()
        check_rollouts(self.run.rollouts, self.engine.name, self.run.place.log)
        if (place := self.tail.last_place(self.run.attempt)) is not None:
            step = place // self.run.settings["batch_size"]
            self.bar.update(max(0, step - self.bar.n))
        held = peak_resident_bytes() + sum(map(_own_bytes, self.processes.descendants()))
        self.clock.peak = max(self.clock.peak, held)
        if (saved := self.engine.saved(self.run)) > self.saved:
            self.saved = saved
            self.clock.keep(self.run.folder)


def _own_bytes(process: psutil.Process) -> int:
    """Memory of a process that it does not share with others."""
    try:
        memory = process.memory_info()
        return max(0, memory.rss - memory.shared)
    except psutil.Error:
        return 0


@dataclass(frozen=True)
class Timed:
    """A step with what had been reached when its replies were scored."""

    step: Step
    wall_s: float  # of training
    seconds: float | None  # since the step before; None of the first of an attempt, which waits for the engine
    n_tokens: int  # prompts and replies so far


def timed(steps: list[Step], prompt_tokens: list[int]) -> list[Timed]:
    """The steps with their times; `prompt_tokens`: of the prompt at each place of the prompts' file.

    Times of an attempt count on from the last step of the attempt before it.
    """
    found: list[Timed] = []
    n_tokens, wall_s, before = 0, 0.0, None
    for step in steps:
        n_tokens += sum(prompt_tokens[each.place] + (each.n_tokens or 0) for each in step.rollouts)
        last = max(step.rollouts, key=lambda each: each.at)
        seconds = last.at - before.at if before and before.attempt == last.attempt else None
        wall_s += max(0.0, last.at - last.began if seconds is None else seconds)
        found.append(Timed(step, wall_s, seconds, n_tokens))
        before = last
    return found


def history_of(run: EngineRun, labels, steps: list[Timed], logged: list[Logged]) -> list[dict]:
    """The rows of a history but those of validation; raises NotFiniteError for a number that is not finite."""
    by_step: dict[int, dict[str, float]] = {}
    for each in logged:
        if each.metric != PEAK:
            by_step.setdefault(each.step, {})[each.metric] = each.value
    rows = []
    for at in steps:
        metrics = by_step.get(at.step.number, {}) | at.step.metrics(labels)
        in_words = {IN_WORDS.get(name, name): value for name, value in metrics.items()}
        check_numbers(in_words, getattr(torch, run.dtype), at.step.number)
        place = {"step": at.step.number, "wall_s": at.wall_s, "n_tokens": at.n_tokens}
        for name, value in metrics.items():
            label = name.removeprefix(SHARE_PREFIX) if name.startswith(SHARE_PREFIX) else None
            metric = name if label is None else "predicted_share"
            rows.append({**place, "metric": metric, "label": label, "value": float(value)})
    return rows


def write_account(run: EngineRun, start: Start, logged: list[Logged], validation: list[dict], clock: Clock) -> None:
    """Write the history and the cost that the job names; validation: its metrics before and after training."""
    prompt_tokens = [len(row["tokens"]) for row in read_prompts(run.prompts)]
    steps = timed(steps_of(read_rollouts(run.rollouts), run.settings["batch_size"]), prompt_tokens)
    rows = history_of(run, start.ruleset.labels, steps, logged)
    ends = [(0, 0.0, 0), (run.n_steps, steps[-1].wall_s, steps[-1].n_tokens)]
    for (step, wall_s, n_tokens), metrics in zip(ends, validation, strict=True):
        place = {"step": step, "wall_s": wall_s, "n_tokens": n_tokens}
        rows += [{**place, "metric": name, "label": None, "value": float(value)} for name, value in metrics.items()]
    rows.sort(key=lambda row: row["step"])
    write_table(pl.DataFrame(rows, schema=HISTORY), run.job.output.history, HISTORY)
    laps = Laps()
    laps.laps += [Lap(STEP, at.seconds, at.seconds) for at in steps if at.seconds]
    cost = Cost(
        condition=run.job.condition,
        seed=run.job.seed,
        stage="train",
        n_tokens_trained=steps[-1].n_tokens,
        n_tokens_generated=sum(each.n_tokens or 0 for at in steps for each in at.step.rollouts),
        peak_bytes=max([int(each.value) for each in logged if each.metric == PEAK], default=clock.peak),
        device=device_name(start.device),
        n_gpus=n_gpus(start.device),
    )
    spent = Spent(clock.usage(), laps, load_start=clock.begun.load, threads=run.place.threads)
    write_costs(run.job.output.cost, cost.row(spent) | {"n_steps": run.n_steps})
