"""What an experiment takes, by rule: jobs × seconds, device hours and money, each with a range."""

from dataclasses import dataclass

from hidden_rule.planning.jobs import OF_MODEL, Job
from hidden_rule.planning.rates import Rates, Span
from hidden_rule.planning.workload import Work

FETCH_BYTES_S = (100e6, 10e6)  # from the Hub: fast, slow
START_S = Span(4, 2, 8)  # of Snakemake itself
JOB_S = Span(1.5, 0.5, 3)  # of each job's own process, before and after its work
# Of jobs without the model, on two cores: seconds, and more for each run of a condition under a seed
SMALL: dict[str, tuple[float, float]] = {
    **{"build_dataset": (1, 0), "build_suites": (2, 0), "vary_training": (1, 0), "fit_reference": (1, 0)},
    **{"assess_feasibility": (0.5, 0), "judge_collapse": (0.5, 0), "summarize": (1, 0.1), "find_rules": (1, 0)},
    **{"extract_rules": (1, 0.3), "measure_supervision": (1, 0), "summarize_side_effects": (2, 0)},
    **{"write_cases": (1, 0.05), "record_run": (1, 0), "render_charts": (8, 0.3), "write_report": (6, 0.3)},
    **{"write_manifest": (0.5, 0.02)},
}
SMALL_SHARE = 0.5  # to either side


@dataclass(frozen=True)
class RuleEstimate:
    """A rule's jobs: how many, seconds of one on average, hours of all, and GPU-hours that they hold."""

    rule: str
    jobs: int
    hours: Span
    gpu_hours: Span

    @property
    def seconds_each(self) -> Span:
        return self.hours.times(3600 / self.jobs)


@dataclass(frozen=True)
class Estimate:
    """An experiment's rules, and `hours` of the whole on the clock."""

    rules: tuple[RuleEstimate, ...]
    hours: Span
    price_per_hour: float | None = None

    @property
    def gpu_hours(self) -> Span:
        return sum((of.gpu_hours for of in self.rules), Span())

    @property
    def money(self) -> Span | None:
        """Price of the machine for the whole time; None without a price."""
        return None if self.price_per_hour is None else self.hours.times(self.price_per_hour)


@dataclass(frozen=True)
class Place:
    """Where jobs run: GPUs that one holds (0 on a CPU), and how many that load the model run at a time."""

    gpus_each: int = 0
    at_once: int = 1


def work_seconds(work: Work, rates: Rates) -> Span:
    """Of one job that loads the model, from its start to its files."""
    total = rates.load
    if work.kind:
        trained = rates.step[work.kind.name].times(work.steps)
        trained += rates.validated[work.kind.name].times(work.validated)
        if work.max_minutes:
            trained = trained.at_most(60 * work.max_minutes)
        total += trained + rates.write
    total += rates.kept.times(work.kept) + rates.structured[work.prompt].times(work.structured - work.known)
    if work.known:  # the layers above alone
        total += rates.structured[work.prompt].less(rates.kept).times(work.known)
    return total + rates.free[work.prompt].times(work.free)


def small_seconds(rule: str, n_runs: int) -> Span:
    """Of a job without the model, in an experiment of so many runs."""
    base, each = SMALL[rule]
    return JOB_S + Span.within(base + each * n_runs, SMALL_SHARE)


def preparation_seconds(rule: str, rates: Rates, model_bytes: float, prepared: bool) -> Span:
    """Of fetching, preparing or inspecting the model; `prepared`: its files are here, and were looked at before."""
    if rule == "fetch_model":
        fast, slow = (model_bytes / speed for speed in FETCH_BYTES_S)
        return Span((fast * slow) ** 0.5, fast, slow)
    if rule == "inspect_model":  # taken from the preparation
        return Span(1, 0.5, 3)
    hashing = 0.0 if prepared else model_bytes / 0.5e9
    return rates.load + Span.within(3 + 2 * hashing + (0 if prepared else 2), SMALL_SHARE)


def estimate(jobs: list[Job], works: dict[Job, Work], rates: Rates, seconds_of, place: Place) -> Estimate:
    """The estimate of `jobs`; `seconds_of`: of a job that has no work of the model's.

    Jobs of the model run `at_once` at a time, at best all the time and at worst one with another's start to wait for;
    the others run beside them where they can, and count as if they did not.
    """
    found: dict[str, list[Span]] = {}
    for job in jobs:
        seconds = JOB_S + work_seconds(works[job], rates) if job in works else seconds_of(job)
        found.setdefault(job.rule, []).append(seconds)
    rules, model_s, other_s = [], Span(), START_S
    for rule, spans in found.items():
        total = sum(spans, Span())
        gpus = place.gpus_each if rule in OF_MODEL or rule == "prepare_model" else 0
        rules.append(RuleEstimate(rule, len(spans), total.times(1 / 3600), total.times(gpus / 3600)))
        if rule in OF_MODEL:
            n = min(place.at_once, len(spans))
            longest = max((span.value for span in spans), default=0.0)
            shared = total.times(1 / n)
            model_s += Span(max(shared.value, longest), shared.low, shared.high)
        else:
            other_s += total
    return Estimate(tuple(rules), (model_s + other_s).times(1 / 3600))
