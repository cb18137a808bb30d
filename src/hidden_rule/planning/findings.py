"""What a machine has of what an experiment needs, a line each, and what it lacks."""

from dataclasses import dataclass, field
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.planning import checks, memory
from hidden_rule.planning.estimate import Place
from hidden_rule.planning.experiment import Experiment
from hidden_rule.planning.jobs import KEEPS
from hidden_rule.planning.machine import Machine, system_words, write_speed
from hidden_rule.planning.model_facts import model_record
from hidden_rule.planning.storage import disk_need
from hidden_rule.planning.workload import SPLITS, TRAINED, kept_rows

ROWS_OF_SUITES = 30  # at most, for each family that is asked for


@dataclass
class Findings:
    """Lines by their subject, and the first fault for which a run is refused."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    fault: UserError | None = None

    def say(self, subject: str, text: str) -> None:
        self.lines.append((subject, text))

    def add(self, subject: str, check, *arguments) -> None:
        """Note what a check says, or its fault."""
        try:
            self.say(subject, check(*arguments))
        except UserError as error:
            self.say(subject, f"refused: {error}")
            self.fault = self.fault or error


def results_folder(config: dict) -> Path:
    """Where an experiment's results lie."""
    return Path("results") / config["experiment"]


def find(experiment: Experiment, machine: Machine, place: Place, of_jobs: bool = True) -> Findings:
    """Everything that is checked; not what jobs need of a machine (`of_jobs`), where they run on other ones."""
    config, facts, found = experiment.config, experiment.facts, Findings()
    found.say("machine", machine_line(machine))
    found.say("model", checks.model_line(config["model"], facts))
    if of_jobs:
        find_devices(found, experiment, machine)
    results = results_folder(config)
    model, states = experiment.model(machine), 0.0
    for job in experiment.jobs:
        if job.rule == KEEPS:
            trained = sum(config["data"][split] for split in TRAINED), memory.VALID_REPLIES
            rows, replies = trained if job.cases == "training" else (rows_of_an_evaluation(config), 1)
            states += memory.kept_states(model, experiment.sizes, rows, replies)
    need = disk_need(config, facts, model.lora, experiment.jobs, answered(experiment), place.at_once, states)
    found.add("disk", checks.check_disk, need, results, facts.cache or model_record(config["model"]), machine)
    found.add("token", checks.check_token, config["model"], facts)
    if facts.cache and machine.real:
        found.say("cache", checks.cache_line(facts, results))
    return found


def find_devices(found: Findings, experiment: Experiment, machine: Machine) -> None:
    """GPUs, and memory of the training that needs most and of an evaluation."""
    config, model = experiment.config, experiment.model(machine)
    found.add("GPUs", gpu_line, config, machine)
    sizes, free = experiment.sizes, experiment.explores_freely
    needs = {
        kind.condition: memory.of_training(model, kind, sizes, free, machine, kept_rows(config, kind.condition))
        for kind in experiment.kinds
    }
    if needs:
        largest = max(needs, key=lambda name: needs[name].total)
        found.add("memory", checks.check_memory, needs[largest], f"training {largest}", machine)
    if found.fault is None:
        need = memory.of_evaluation(model, config["evaluation"], experiment.sizes, machine)
        found.add("memory", checks.check_memory, need, "an evaluation", machine)


def rows_of_an_evaluation(config: dict) -> int:
    """Rows that one asks, at most."""
    return ROWS_OF_SUITES * config["suites"]["size"] + sum(config["data"][split] for split in SPLITS)


def answered(experiment: Experiment) -> int:
    """Rows of all tables of predictions that are to be written, at most."""
    return rows_of_an_evaluation(experiment.config) * sum(job.rule == "evaluate" for job in experiment.jobs)


def machine_line(machine: Machine) -> str:
    """What the machine is, and whether it computes in bfloat16."""
    of_memory = "" if machine.memory is None else f", {checks.size(machine.memory)} of memory"
    number = "bfloat16" if machine.computes_bfloat16 else "no bfloat16 (float32 where dtype is auto)"
    if not machine.real:
        return f"{machine.words}{of_memory}, {number}; described, not this one"
    driver = f", driver {machine.gpus[0].driver}" if machine.gpus else ", no NVIDIA GPU"
    return f"{machine.words}{of_memory}, {number}{driver}; {system_words()}"


def gpu_line(config: dict, machine: Machine) -> str:
    """How many processes a training has, of the GPUs that there are."""
    checks.check_processes(config, machine)
    return f"{config['launch']['processes']} of {len(machine.gpus)} for a training" if machine.gpus else "none"


def speed_line(folder: Path) -> str:
    """How fast the disk of the results is."""
    return f"{write_speed(folder) / 1e6:.0f} MB/s into {folder.parent}"
