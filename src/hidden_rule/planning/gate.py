"""The check before a run trains: what is lacking, or a budget that is exceeded, ends it with one line.

It takes a second; with a `budget`, and no measurement of `make preflight` to go by, also that of some real steps. What
it uses is imported where a run trains, for every job reads the Snakefile that names this module.
"""

import sys
from dataclasses import dataclass

from hidden_rule.core.compat_snakemake import NeededJob

TARGETS = ("all", "everything")  # rules that only ask for files


@dataclass(frozen=True)
class PlannedRun:
    """A run as it starts: its jobs, whether they run on other machines, and GPUs that it may hold at a time."""

    jobs: list[NeededJob]
    elsewhere: bool = False
    gpus: int | None = None


def check_run(config: dict, run: PlannedRun) -> None:
    """Raise UserError where a run that is to train must not begin; say what it will take where that is known.

    Where jobs run on other machines, their memory and times are not looked at.
    """
    trains = [job for job in run.jobs if job.rule == "train"]
    if not trains:
        return
    from hidden_rule.planning.estimate import Place
    from hidden_rule.planning.experiment import Experiment
    from hidden_rule.planning.findings import find, results_folder
    from hidden_rule.planning.machine import this_machine
    from hidden_rule.planning.measured_rates import QUICK, kept_rates
    from hidden_rule.planning.plan import Options, make_plan, place_of, trial_of
    from hidden_rule.planning.preflight import total_words

    experiment, machine = Experiment.of(config, jobs_of(run.jobs)), this_machine(results_folder(config))
    if run.elsewhere:
        if (fault := find(experiment, machine, Place(), of_jobs=False).fault) is not None:
            raise fault
        if "budget" in config:
            print("warning: budget is not checked, for jobs run on other machines; see make preflight", file=sys.stderr)
        return
    options = Options(max(1, (run.gpus or 1) // experiment.processes), trains[0].threads, effort=QUICK, again=False)
    place = place_of(experiment, machine, options)
    is_known = kept_rates(trial_of(experiment, machine, place, options.threads)) is not None
    if "budget" not in config and not is_known:
        if (fault := find(experiment, machine, place).fault) is not None:
            raise fault
        return
    if not is_known:
        print("measuring some steps, for the budget", file=sys.stderr)
    plan = make_plan(experiment, machine, options)
    if plan.findings.fault is not None:
        raise plan.findings.fault
    print(f"estimate: {total_words(plan)}; make preflight has the table", file=sys.stderr)


def jobs_of(needed: list[NeededJob]):
    """A run's jobs as plans take them."""
    from hidden_rule.experiment.runs import Run
    from hidden_rule.planning.jobs import Job

    return [
        Job(
            job.rule,
            Run(of["condition"], int(of.get("seed", 0))) if "condition" in (of := job.wildcards) else None,
            of.get("cases", ""),
        )
        for job in needed
        if job.rule not in TARGETS
    ]
