"""What an experiment lacks on a machine: each check is a line that says what was found, or a UserError."""

import os
from pathlib import Path

from hidden_rule.core.errors import SettingError, UserError
from hidden_rule.core.files import existing_parent, free_bytes
from hidden_rule.planning.estimate import Estimate
from hidden_rule.planning.machine import Machine
from hidden_rule.planning.memory import MemoryNeed
from hidden_rule.planning.model_facts import ModelFacts, has_token
from hidden_rule.planning.storage import DiskNeed

PLAN = "make preflight shows the plan; docs/planning.md"


def size(n: float) -> str:
    """Bytes in MB or GB: `269 MB`, `28.3 GB`."""
    return f"{n / 1e6:.0f} MB" if n < 1e9 else f"{n / 1e9:.1f} GB"


def model_line(model: dict, facts: ModelFacts) -> str:
    """What is known of the model."""
    note = f"; it {facts.note}" if facts.note else ""
    if facts.shape is None:
        return f"{model['id']}: of unknown size{note}"
    shape = facts.shape
    number = shape.parameters / 1e9
    parameters = f"{number:.1f} billion" if number >= 1 else f"{1000 * number:.0f} million"
    return f"{model['id']}: {parameters} parameters, {size(shape.bytes)}, by {shape.origin}{note}"


def check_memory(need: MemoryNeed, what: str, machine: Machine) -> str:
    """Compare the memory of a job with the machine's; raises SettingError where weights and adapter alone exceed it."""
    on_gpu = bool(machine.gpus)
    have = machine.gpus[0].gb * 1e9 if on_gpu else machine.memory
    where = f"a GPU of {machine.gpus[0].gb:.0f} GB" if on_gpu else "the machine has"
    if have is None:
        return f"{what} needs {size(need.total)}; the machine's memory is not known"
    if need.least > have:
        fault = f"weights and adapter alone need {size(need.least)} of memory"
        fault += f", more than {where} has" if on_gpu else f", and {where} {size(have)}"
        raise SettingError("model.id", fault, "take a smaller model or a larger machine; docs/planning.md", beside=())
    spared = machine.available if not on_gpu and machine.available is not None else have
    line = f"{what} needs some {size(need.total)} ({size(need.weights)} weights, {size(need.activations)} activations)"
    if need.total > have:
        return f"warning: {line}, more than the {size(have)} that there are: lower micro_batch_size"
    if need.total > spared:
        return f"warning: {line}, more than is free now ({size(spared)})"
    return f"{line} of {size(have)}"


def check_disk(need: DiskNeed, results: Path, cache: Path, machine: Machine) -> str:
    """Compare free disk with the need, of the cache too where it is another disk; raises UserError where it is less."""
    line = f"needs {size(need.results)} for results ({size(need.checkpoints)} of it for checkpoints)"
    line += f" and {size(need.model)} for the model" if need.model else ""
    if not machine.real:
        if machine.free_disk is not None and need.results + need.model > machine.free_disk:
            fault = f"{line}, and {size(machine.free_disk)} are free"
            raise UserError("MACHINE", "disk_gb", fault, "plan for a larger disk")
        return line
    places = {results: need.results, cache: need.model}
    if os.stat(existing_parent(results)).st_dev == os.stat(existing_parent(cache)).st_dev:
        places = {results: need.results + need.model}
    for place, wanted in places.items():
        if wanted > (free := free_bytes(place)):
            fault = f"{size(wanted)} are needed ({line}), and {size(free)} are free"
            raise UserError(place, None, fault, "free some space, or make prune EXPERIMENT=… of a finished one")
    return f"{line}; {size(free_bytes(results))} are free"


def check_token(model: dict, facts: ModelFacts) -> str:
    """Whether a Hub model can be fetched; raises SettingError for a gated one without a token."""
    if model["source"] != "hub":
        return "not needed"
    if facts.folder is not None:
        return f"not needed: the model is in {facts.cache}"
    there = has_token()
    if facts.gated and not there:
        fault = f"{model['id']} is gated on the Hub, and no token is set"
        raise SettingError(
            "model.id", fault, "accept its terms there, and set HF_TOKEN or run hf auth login", beside=()
        )
    known = {True: "the model is gated", False: "the model is not gated", None: "whether it is gated is not known"}
    return f"{known[facts.gated]}; a token is {'set' if there else 'not set'}"


def cache_line(facts: ModelFacts, results: Path) -> str:
    """Where a Hub model lies, and whether jobs on other machines are likely to see it."""
    if facts.cache is None:
        return "the model lies with the results or in its own folder"
    same = os.stat(existing_parent(facts.cache)).st_dev == os.stat(existing_parent(results)).st_dev
    local = str(existing_parent(facts.cache)).startswith(("/tmp", "/var/tmp", "/dev/shm", "/scratch/local"))
    if same and not local:
        return f"{facts.cache}, on the disk of the results: seen by every job that sees those"
    return f"warning: {facts.cache} is not on the disk of the results; jobs on other machines must see it (HF_HOME)"


def check_processes(config: dict, machine: Machine) -> None:
    """Raise SettingError where one training asks for more GPUs than there are."""
    wanted = config["launch"]["processes"]
    if machine.gpus and wanted > len(machine.gpus):
        fault = f"{wanted} processes need as many GPUs, and there are {len(machine.gpus)}"
        raise SettingError("launch.processes", fault, f"take {len(machine.gpus)}", beside=())


def check_budget(config: dict, estimate: Estimate) -> None:
    """Raise SettingError where even the low end of an estimate exceeds the config's `budget`."""
    budget = config.get("budget", {})
    spans = {"hours": estimate.hours, "gpu_hours": estimate.gpu_hours, "money": estimate.money}
    for key, span in spans.items():
        if key in budget and span is not None and span.low > budget[key]:
            unit = {"hours": " hours", "gpu_hours": " GPU-hours", "money": ""}[key]
            fault = f"the estimate, {number(span.low)} to {number(span.high)}{unit}, exceeds {budget[key]:g}"
            raise SettingError(f"budget.{key}", fault, f"raise it, or ask for less ({PLAN})", beside=())


def number(value: float) -> str:
    """Two or three digits: `0.21`, `14.5`, `1,230`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
