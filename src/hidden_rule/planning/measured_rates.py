"""Rates of this machine: processes that run real steps (planning/probe.py), and what they measured."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hidden_rule.core.engines import TRL
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
LOAD_SHARE = 0.3  # the same of loading and writing
# Threads that wait for each other spin on an idle machine and sleep on a busy one, which CPU time then lacks
SPUN, MOST_SPUN = 1.3, 2.0
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


THOROUGH, QUICK = Effort(steps=40, rows=64, seconds=20.0), Effort(steps=4, rows=32, seconds=2.0)


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
    """Rates from the answers of probes that ran side by side."""
    step, validated, missing = {}, {}, []
    for kind in trial.kinds:
        of = [answer["trained"][kind.condition] for answer in answers]
        steps = [found for each in of if (found := typical(each["step_s"]))]
        validated[kind.name] = over(each["validated_s"] for each in of)
        if steps:
            step[kind.name] = of_kind(kind, over(steps), trial.config["launch"]["processes"])
        else:
            missing.append(kind)
    for kind in missing:  # no step was done: nothing that it sampled was of use
        known = list(step.values()) or [Span(1.0, 0.1, 10.0)]
        step[kind.name] = Span(max(s.value for s in known), min(s.low for s in known), 3 * max(s.high for s in known))
    asked = {prompt: [answer["asked"][prompt] for answer in answers] for prompt in trial.prompts}
    free = {prompt: over(each.get("free_s", (0.0, 0.0)) for each in of) for prompt, of in asked.items()}
    every = [each for answer in answers for each in answer["trained"].values()]
    before = [each["before_s"] for each in every] or [each["loaded_s"] for of in asked.values() for each in of]
    return Rates(
        load=over((answer["libraries_s"] for answer in answers), LOAD_SHARE) + over(before, LOAD_SHARE),
        write=over([each["write_s"] for each in every] or [(0.5, 1.0)], LOAD_SHARE),
        step=step,
        validated=validated,
        structured={prompt: over(each["structured_s"] for each in of) for prompt, of in asked.items()},
        free={key: Span((1 + SHORT_REPLY) / 2 * of.value, SHORT_REPLY * of.low, of.high) for key, of in free.items()},
        origin=origin_of(trial, answers[0]),
        notes=notes_of(missing, answers),
        kept=over(kept) if (kept := [each["kept_s"] for each in every if each["kept_s"]]) else Span(),
    )


def over(bounds, share: float = SHARE) -> Span:
    """The mean of probes' bounds, and a share to either side; on a busy machine what CPU time says counts most."""
    least, most = (statistics.fmean(of) for of in zip(*bounds, strict=True))
    return Span(min(most, SPUN * least), least * (1 - share), min(most, MOST_SPUN * least) * (1 + share))


def of_kind(kind: Kind, measured: Span, processes: int) -> Span:
    """A step of a kind from one of a single process of our own: engines differ, and processes share the batch."""
    span = measured
    if kind.engine != TRL:
        updates = kind.settings.get("updates", 1)
        of = ENGINE_FACTORS
        span = Span(of.value * span.value, of.low * span.low, of.high * span.high).times(updates)
    return Span(span.value / processes, span.low / processes, span.high)


def origin_of(trial: Trial, answer: dict) -> str:
    """What was measured on, in words."""
    n = answer["threads"]
    beside = f", {trial.at_once} side by side" if trial.at_once > 1 else ""
    place = f"{answer['device']}, {answer['dtype']}, {n} thread{'s' * (n != 1)}{beside}"
    return f"measured steps ({place}); range: {SHARE:.0%} to either side"


def notes_of(missing: list[Kind], answers: list[dict]) -> tuple[str, ...]:
    """What makes rates less certain, a line each."""
    notes = [f"{kind.condition}: its step was not measured, for nothing that it sampled was of use" for kind in missing]
    if (waited := statistics.fmean(answer["waited_share"] for answer in answers)) > BUSY:
        notes.append(
            f"the machine is busy ({waited:.0%} of the time was spent waiting for a core), so that ranges are wide: "
            "measure again when it is idle"
        )
    return tuple(notes)


def typical(steps: list) -> tuple[float, float] | None:
    """The medians of steps' bounds, without the first step, which warms up, where there are others; None of no step."""
    if not steps:
        return None
    least, most = (statistics.median(of) for of in zip(*(steps[1:] or steps), strict=True))
    return least, most
