"""A plan: what an experiment needs of a machine, what it lacks there, and what it will take."""

from dataclasses import dataclass, replace

from hidden_rule.planning import checks
from hidden_rule.planning.derived_rates import Planned, derived_rates
from hidden_rule.planning.estimate import Estimate, Place, estimate, preparation_seconds, small_seconds
from hidden_rule.planning.experiment import Experiment
from hidden_rule.planning.findings import Findings, find
from hidden_rule.planning.jobs import Job, results_of
from hidden_rule.planning.machine import Machine
from hidden_rule.planning.measured_rates import THOROUGH, Effort, Trial, keep, kept_rates, measured_rates
from hidden_rule.planning.model_facts import model_record
from hidden_rule.planning.rates import Rates

OF_MODEL_FILES = ("fetch_model", "prepare_model", "inspect_model")
MOST_THREADS = 8  # of a job, as its rule says


@dataclass(frozen=True)
class Options:
    """How a plan is made.

    at_once: jobs of the model at a time, 0 for as many as there are GPUs; threads: of each, 0 for all cores shared out;
    measure: whether steps are measured, as thoroughly as `effort` says; again: also where they were measured before.
    """

    at_once: int = 0
    threads: int = 0
    measure: bool = True
    effort: Effort = THOROUGH
    again: bool = True


@dataclass(frozen=True)
class Plan:
    """What was found, and what the jobs take; None where nothing is to run or something is lacking."""

    findings: Findings
    estimate: Estimate | None = None
    rates: Rates | None = None


def place_of(experiment: Experiment, machine: Machine, options: Options) -> Place:
    """Where jobs run: by default as many at a time as there are GPUs for, and one on a CPU."""
    if not machine.gpus:
        return Place(0, max(1, options.at_once))
    return Place(experiment.processes, options.at_once or max(1, len(machine.gpus) // experiment.processes))


def make_plan(experiment: Experiment, machine: Machine, options: Options) -> Plan:
    """The plan of an experiment on a machine.

    Steps are measured only on this machine, only if nothing is lacking, and only where the model's files are here.
    """
    place = place_of(experiment, machine, options)
    findings = find(experiment, machine, place)
    if findings.fault is not None or not experiment.jobs:
        return Plan(findings)
    config, rates = experiment.config, rates_for(experiment, machine, place, options)
    prepared, n_runs = model_record(config["model"]).is_file(), len(results_of(config).runs)

    def seconds_of(job: Job):
        if job.rule in OF_MODEL_FILES:
            return preparation_seconds(job.rule, rates, experiment.shape.bytes, prepared)
        return small_seconds(job.rule, n_runs)

    taken = estimate(experiment.jobs, experiment.works, rates, seconds_of, place)
    taken = replace(taken, price_per_hour=config.get("price_per_hour"))
    findings.add("budget", budget_line, config, taken)
    return Plan(findings, taken, rates)


def budget_line(config: dict, taken: Estimate) -> str:
    """The budget in words; raises SettingError where it is exceeded."""
    checks.check_budget(config, taken)
    budget = config.get("budget")
    return ", ".join(f"{key} {value:g}" for key, value in budget.items()) + ": not exceeded" if budget else "none"


def trial_of(experiment: Experiment, machine: Machine, place: Place, threads: int) -> Trial:
    """What would be measured; `threads`: of each job, 0 for all cores shared out."""
    threads = threads or max(1, min(MOST_THREADS, machine.cores // place.at_once))
    return Trial(
        experiment.config, experiment.kinds, experiment.prompts, machine, place.at_once, threads, place.gpus_each
    )


def rates_for(experiment: Experiment, machine: Machine, place: Place, options: Options) -> Rates:
    """Measured rates where they can be, else derived ones."""
    if not (machine.real and options.measure and experiment.is_here and experiment.works):
        planned = Planned(
            experiment.model(machine), experiment.sizes, machine, experiment.explores_freely, experiment.processes
        )
        return derived_rates(planned, experiment.kinds, experiment.prompts, experiment.config["evaluation"])
    trial = trial_of(experiment, machine, place, options.threads)
    rates = None if options.again else kept_rates(trial)
    if rates is None:
        rates = measured_rates(trial, options.effort)
        if not rates.notes:  # the next time may be a better one
            keep(trial, rates)
    return rates
