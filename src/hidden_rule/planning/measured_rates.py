"""Rates of this machine: processes that run real steps (planning/probe.py), and what they measured."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import json_sha256, read_json, write_text
from hidden_rule.experiment.layout import Layout
from hidden_rule.models.files import known_record
from hidden_rule.planning.machine import Machine
from hidden_rule.planning.model_facts import model_record
from hidden_rule.planning.probe import Request
from hidden_rule.planning.rates import Rates, Span
from hidden_rule.planning.workload import Kind

SHARE = 0.15  # to either side of what was measured
BUSY = 0.10  # share of their time in which the probes' threads waited for a core, above which it is said
SHORT_REPLY = 0.5  # of the tokens that were generated: a trained model ends its reply, an untrained one does not
ENGINE_FACTORS = Span(3.0, 1.0, 8.0)  # what a step of verl or OpenRLHF takes beside one of our own
OUTPUT_LINES = 3  # of a failed probe, in its error


@dataclass(frozen=True)
class Effort:
    """How much is measured: steps of each kind of training, rows of an evaluation, seconds of a training's steps."""

    steps: int
    rows: int
    seconds: float


THOROUGH, QUICK = Effort(steps=10, rows=64, seconds=8.0), Effort(steps=4, rows=32, seconds=2.0)


@dataclass(frozen=True)
class Trial:
    """What is measured, and where: `at_once` processes side by side, each with so many threads and GPUs."""

    config: dict
    kinds: list[Kind]
    prompts: list[str]
    machine: Machine
    at_once: int = 1
    threads: int = 1
    gpus_each: int = 0

    @property
    def identity(self) -> str:
        """A name for all that the rates depend on, but for the code."""
        config = self.config
        used = {key: config[key] for key in ("model", "lora", "ruleset", "decoding", "evaluation")}
        machine = asdict(self.machine) | {"available": 0, "free_disk": 0}
        kinds = [kind.name for kind in self.kinds]
        return json_sha256([used, machine, kinds, self.prompts, self.at_once, self.threads, self.gpus_each])


def kept_file(config: dict) -> Path:
    """Where an experiment's measurement is kept."""
    return Path("results") / config["experiment"] / "preflight.json"


def kept_rates(trial: Trial) -> Rates | None:
    """The rates that were measured before for the same experiment and machine, or None."""
    path = kept_file(trial.config)
    kept = known_record(path)
    return Rates.from_json(kept["rates"], path) if kept.get("identity") == trial.identity and "rates" in kept else None


def keep(trial: Trial, rates: Rates) -> None:
    """Write the rates down for the next time."""
    values = {"identity": trial.identity, "rates": rates.as_json()}
    write_text(json.dumps(values, indent=1) + "\n", kept_file(trial.config))


def manifest_of(config: dict) -> Path | None:
    """A manifest of the experiment's model that is here already: its own, or that of the model's preparation."""
    model = config["model"]
    own = Layout(Path("results") / config["experiment"]).model
    for path in (own, model_record(model)):
        if all(known_record(path).get(key) == model[key] for key in ("source", "id", "revision")):
            return path
    return None


def measured_rates(trial: Trial, effort: Effort) -> Rates:
    """Run the probes and take means over them; raises UserError with what a probe says if it fails."""
    manifest = manifest_of(trial.config)
    request = Request(
        config=trial.config,
        manifest=str(manifest or model_record(trial.config["model"])),
        conditions=[kind.condition for kind in trial.kinds],
        prompts=trial.prompts,
        threads=trial.threads,
        gpus=min(1, trial.gpus_each),
        **asdict(effort),
    )
    with tempfile.TemporaryDirectory(prefix="hidden-rule-preflight-") as folder:
        place = Path(folder)
        write_text(json.dumps(asdict(request)), place / "request.json")
        first = [] if manifest else [run_probes(place, 1)]  # prepares the model; several at a time would each do so
        answers = run_probes(place, trial.at_once) if trial.at_once > 1 or not first else first[0]
    return rates_of(trial, answers)


def run_probes(place: Path, n: int) -> list[dict]:
    """The answers of `n` probes that run side by side."""
    environment, processes = os.environ | {"PYTHONWARNINGS": "ignore"}, []
    for i in range(n):
        words = [sys.executable, "-m", "hidden_rule.planning.probe", place / "request.json", place / f"answer{i}.json"]
        with open(place / f"log{i}", "w", encoding="utf-8") as log:
            processes.append(subprocess.Popen(list(map(str, words)), stdout=log, stderr=log, env=environment))
    try:
        failed = [i for i, process in enumerate(processes) if process.wait()]
    finally:
        for process in processes:  # where this one was interrupted
            if process.poll() is None:
                process.terminate()
    if failed:
        said = (place / f"log{failed[0]}").read_text(encoding="utf-8", errors="replace")
        raise UserError("preflight", "measurement", *reason_of(said))
    return [read_json(place / f"answer{i}.json") for i in range(n)]


def reason_of(said: str) -> tuple[str, str]:
    """The fault and the remedy in what a failed probe printed."""
    lines = [line for line in said.splitlines() if line.strip()]
    if line := next((line for line in reversed(lines) if line.startswith("error: ")), None):
        return line.removeprefix("error: "), ""
    fault = " ".join(lines[-OUTPUT_LINES:]) or "was killed, which is often for memory"
    return fault, "see what else runs here, or plan without it: MEASURE=no"


def rates_of(trial: Trial, answers: list[dict]) -> Rates:
    """Rates from probes' answers, whose values are averaged; `trial.config` says who runs several processes."""
    processes = trial.config["launch"]["processes"]

    def mean(values) -> float:
        return statistics.fmean(values)

    step, validated, missing = {}, {}, []
    for kind in trial.kinds:
        of = [answer["trained"][kind.condition] for answer in answers]
        steps = [typical(each["step_s"]) for each in of]
        if None in steps:
            missing.append(kind.condition)
            continue
        span = Span.within(mean(steps), SHARE)
        if kind.engine != "trl":
            updates = kind.settings.get("updates", 1)
            span = Span(*(getattr(ENGINE_FACTORS, part) * span.value * updates for part in ("value", "low", "high")))
        step[kind.name] = Span(span.value / processes, span.low / processes, span.high)
        validated[kind.name] = Span.within(mean(each["validated_s"] for each in of), SHARE)
    for kind in trial.kinds:
        if kind.condition in missing:  # no step was done: nothing that it sampled was of use
            known = [span.value for span in step.values()] or [1.0]
            step[kind.name] = Span(max(known), min(known), 3 * max(known))
            validated[kind.name] = next(iter(validated.values()), Span(0.05, 0.0, 0.2))
    asked = {prompt: [answer["asked"][prompt] for answer in answers] for prompt in trial.prompts}
    free = {prompt: mean(each.get("free_s", 0.0) for each in of) for prompt, of in asked.items()}
    every = [each for answer in answers for each in answer["trained"].values()]
    load = mean(answer["libraries_s"] for answer in answers)
    load += mean([each["before_s"] for each in every] or [answer["loaded_s"] for answer in answers])
    notes = [f"{name}: its step was not measured, for nothing that it sampled was of use" for name in missing]
    if (waited := mean(answer["waited_share"] for answer in answers)) > BUSY:
        notes.append(f"the machine is busy: {waited:.0%} of the time was spent waiting for a core; measure again later")
    device, dtype, threads = (answers[0][key] for key in ("device", "dtype", "threads"))
    beside = f", {trial.at_once} side by side" if trial.at_once > 1 else ""
    return Rates(
        load=Span.within(load, 0.3),
        write=Span.within(mean([each["write_s"] for each in every] or [1.0]), 0.5),
        step=step,
        validated=validated,
        structured={key: Span.within(mean(each["structured_s"] for each in of), SHARE) for key, of in asked.items()},
        free={key: Span(0.9 * value, SHORT_REPLY * value, (1 + SHARE) * value) for key, value in free.items()},
        origin=f"measured steps ({device}, {dtype}, {threads} thread{'s' * (threads != 1)}{beside}); "
        f"range: {SHARE:.0%} to either side",
        notes=tuple(notes),
    )


def typical(seconds: list[float]) -> float | None:
    """The median of steps, without the first, which warms up, where there are others; None of no step."""
    later = seconds[1:] or seconds
    return statistics.median(later) if later else None
