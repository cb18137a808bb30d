"""What an experiment needs and takes, before anything trains: `make preflight [CONFIG=experiments/seeds.yaml]`.

MACHINE='{"gpus": 1, "gpu": "H100", "gpu_gb": 80}' plans for a machine that is not here, JOBS=2 for two jobs of the
model at a time, MEASURE=no derives times from operations instead of measuring steps. Ends with status 1 and one line
where a run would be refused. docs/planning.md
"""

import argparse
import json
import os
import sys

from hidden_rule.core.errors import SETTING_FILES, UserError, one_line_errors
from hidden_rule.experiment.config import read_experiment
from hidden_rule.experiment.new import printable
from hidden_rule.planning.checks import number
from hidden_rule.planning.estimate import Estimate
from hidden_rule.planning.experiment import Experiment
from hidden_rule.planning.findings import results_folder, speed_line
from hidden_rule.planning.machine import described_machine, this_machine
from hidden_rule.planning.plan import Options, Plan, make_plan
from hidden_rule.planning.rates import Span

MAKE = "make preflight"
MOST_AT_ONCE = 1000


def duration(seconds: float) -> str:
    """`8 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def spanned(span: Span, show=number) -> str:
    """`0.24 (0.20–0.28)`."""
    return f"{show(span.value)} ({show(span.low)}–{show(span.high)})"


def table(estimate: Estimate) -> list[str]:
    """The rules of an estimate as lines of a table."""
    rows = [("rule", "jobs", "of one", "of all", "GPU-hours")]
    for of in estimate.rules:
        gpu = spanned(of.gpu_hours) if of.gpu_hours.value else "–"
        rows.append(
            (of.rule, str(of.jobs), spanned(of.seconds_each, duration), spanned(of.hours.times(3600), duration), gpu)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def total_words(plan: Plan) -> str:
    """What all jobs of a plan take, with its range."""
    estimate = plan.estimate
    if estimate is None:
        return "nothing"
    parts = [f"{spanned(estimate.hours.times(3600), duration)} on the clock"]
    if estimate.gpu_hours.value:
        parts.append(f"{spanned(estimate.gpu_hours)} GPU-hours")
    if estimate.money is not None:
        parts.append(f"{spanned(estimate.money)} at {estimate.price_per_hour:g} an hour")
    return ", ".join(parts)


def report(plan: Plan) -> list[str]:
    """A plan as lines for a terminal."""
    found = plan.findings.lines
    width = max(len(subject) for subject, _ in found)
    lines = [f"{subject.ljust(width)}  {text}" for subject, text in found]
    if plan.estimate is not None and plan.rates is not None:
        total = [f"whole experiment: {total_words(plan)}", f"times: {plan.rates.origin}", *plan.rates.notes]
        lines += ["", *table(plan.estimate), "", *total]
    return [printable(line) for line in lines]


def parsed(words: list[str]) -> argparse.Namespace:
    """The options of a command line; raises UserError for values that are none."""
    parser = argparse.ArgumentParser(
        prog=MAKE, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", action="append", default=[], help="an overlay of config.yaml; several by blanks")
    parser.add_argument("--machine", help="a machine that is not here, as JSON, or a file")
    parser.add_argument("--jobs", help="jobs of the model at a time")
    parser.add_argument("--measure", choices=["yes", "no"], default="yes", help="whether steps are measured")
    options = parser.parse_args(words)
    options.files = [file for of in options.config for file in of.split()]
    options.at_once = 0
    if options.jobs is not None:
        if not options.jobs.isdecimal() or not 1 <= int(options.jobs) <= MOST_AT_ONCE:
            raise UserError(MAKE, "JOBS", f"is {options.jobs!r}", f"give a whole number of 1 to {MOST_AT_ONCE}")
        options.at_once = int(options.jobs)
    return options


def main(words: list[str]) -> int:
    """Print the plan that the command line asks for; returns the exit status."""
    options = parsed(words)
    experiment = read_experiment(["config.yaml", *options.files])
    config = experiment.config
    results = results_folder(config)
    machine = described_machine(options.machine) if options.machine else this_machine(results)
    os.environ[SETTING_FILES] = json.dumps(experiment.files)  # errors name the file that sets a key
    chosen = Options(options.at_once, measure=options.measure == "yes")
    plan = make_plan(Experiment.of(config), machine, chosen)
    if machine.real:
        plan.findings.add("write speed", speed_line, results)
    title = " ".join(["config.yaml", *options.files])
    print("\n".join([f"Preflight of {config['experiment']} ({printable(title)})", "", *report(plan)]))
    if plan.findings.fault is not None:
        print(f"error: {plan.findings.fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main(sys.argv[1:]))
