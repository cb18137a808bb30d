"""The jobs of an experiment by the workflow's rules, counted from its config; nothing is read but the config."""

from dataclasses import dataclass
from pathlib import Path

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run

TRAINS, KEEPS = "train", "keep_states"
OF_MODEL = ("inspect_model", TRAINS, KEEPS, "evaluate", "sample_start", "measure_side_effects")  # load the model


@dataclass(frozen=True)
class Job:
    """A job of a rule, and the run that it is for, None: of all runs together; cases: of those of `keep_states`."""

    rule: str
    run: Run | None = None
    cases: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether it holds a GPU where there is one."""
        return self.rule in OF_MODEL or self.rule == "prepare_model"


def results_of(config: dict) -> Results:
    """The experiment of a checked config, whose tables need not exist."""
    return Results(Path("results") / config["experiment"], config)


def planned_jobs(config: dict) -> list[Job]:
    """All jobs of an experiment that has no results yet, in the order of the workflow; `config` is a checked one."""
    results = results_of(config)
    classifiers = [name for name, of in config["conditions"].items() if "reference" in of]
    jobs = [Job("fetch_model")] if config["model"]["source"] == "hub" else []
    jobs += [Job("prepare_model"), Job("inspect_model"), Job("build_dataset")]
    jobs += [Job("build_suites")] if results.has_suites else []
    jobs += [Job("vary_training", Run(name, 0)) for name in results.varied]
    jobs += [Job(KEEPS, cases=cases) for cases in results.states]
    jobs += [Job(TRAINS, run) for run in results.trained]
    jobs += [Job("sample_start", run) for run in results.assessed] if config["decoding"] == "free" else []
    jobs += [Job("evaluate", run) for run in results.runs if run.condition not in classifiers]
    jobs += [Job("fit_reference", run) for run in results.runs if run.condition in classifiers]
    jobs += [Job("measure_side_effects", run) for run in results.measured]
    jobs += [Job("assess_feasibility", run) for run in results.assessed]
    jobs += [Job("judge_collapse"), Job("summarize")]
    jobs += [Job("measure_supervision")] if results.varied else []
    jobs += [Job("summarize_side_effects")] if results.measured else []
    last = ("find_rules", "extract_rules", "write_cases", "record_run", "render_charts", "write_report")
    return [*jobs, *map(Job, last), Job("write_manifest")]


def counts(jobs: list[Job]) -> dict[str, int]:
    """How many jobs each rule has, in the order of the workflow."""
    found: dict[str, int] = {}
    for job in jobs:
        found[job.rule] = found.get(job.rule, 0) + 1
    return found
