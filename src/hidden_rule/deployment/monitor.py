"""Has a policy, or what it is asked, changed? `make monitor RESULTS=results/laptop CONDITION=sft DATA=new.csv`.

A condition answers the new cases of DATA. Its accuracy, where they have labels (LABEL names their column), and the mix
of its decisions are compared with those on the holdout, or on earlier cases: AGAINST=before.csv. FAIL=yes ends with
status 1 where something moved.
"""

import argparse
import sys
from pathlib import Path

import polars as pl

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.deployment.ask import load_panel
from hidden_rule.deployment.finished_runs import condition_of, read_run
from hidden_rule.deployment.new_cases import NewCases, read_new_cases, seen_before
from hidden_rule.deployment.watching import Comparison, Sample, compare, sentence, table
from hidden_rule.experiment.new import printable
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run

MAKE = "make monitor"
MOVED = 1  # exit status


def main(words: list[str]) -> int:
    """Print what moved; returns the exit status."""
    parser = argparse.ArgumentParser(prog=MAKE, description=__doc__)
    parser.add_argument("results", help="the folder of a finished run")
    parser.add_argument("condition")
    parser.add_argument("--data", default="", help="a file of new cases: CSV, TSV, JSON, JSON lines or parquet")
    parser.add_argument("--label", help="its column of labels")
    parser.add_argument("--seed", help="of the run; its first if not given")
    parser.add_argument("--against", help="a file of earlier cases, in the place of the holdout")
    parser.add_argument("--encoding", help="of the files, as in utf-8 or cp1252; guessed if not given")
    parser.add_argument("--fail", default="", help="yes: status 1 where something moved")
    given = parser.parse_args(words)
    if given.fail.lower() not in ("", "yes", "no"):
        raise UserError(MAKE, "FAIL", f"{given.fail!r} is neither yes nor no", "write FAIL=yes")
    results, seed = read_run(given.results, given.seed)
    condition = condition_of(results, given.condition)
    if not given.data:
        raise UserError(MAKE, "DATA", "is missing", "write DATA=new.csv")
    named = (given.label or None, given.encoding or None)
    new = read_new_cases(given.data, results, *named)
    earlier = read_new_cases(given.against, results, *named) if given.against else None
    found = watch(results, Run(condition, seed), new, earlier)
    for line in [*notes(results, new, earlier), *table(found), "", sentence(found)]:
        print(printable(line))
    return MOVED if found.moved and given.fail.lower() == "yes" else 0


def watch(results: Results, run: Run, new: NewCases, earlier: NewCases | None) -> Comparison:
    """Let a condition of a seed answer new cases, and compare with its answers to earlier ones, or to the holdout."""
    panel = load_panel(results, run.seed, [run.condition])
    for cases in filter(None, (new, earlier)):
        panel.check(cases.cases, cases.ruleset)
    before = _answered(panel, run, earlier) if earlier else evaluated(results, run)
    return compare(before, _answered(panel, run, new), results.ruleset.labels)


def _answered(panel, run: Run, new: NewCases) -> Sample:
    labels = panel.ruleset.labels
    probabilities = panel.probabilities(run.condition, new.cases, new.path if len(new.cases) > 500 else None)
    predicted = pl.Series("predicted", [labels[i] for i in probabilities.argmax(1)], dtype=pl.String)
    truth = new.labels if new.labels is not None else pl.Series([None] * len(new.cases), dtype=pl.String)
    return Sample(Path(new.path).name, pl.DataFrame([predicted, truth.alias("label")]))


def evaluated(results: Results, run: Run) -> Sample:
    """A run's answers under structured decoding to the holdout, or to another split where that was not evaluated.

    Decisions are the most probable labels, as they are for new cases, whatever the replies of free decoding were.
    """
    shares = [f"p_{label}" for label in results.labels]
    rows = results.predictions(run).filter(**results.main.columns).select("label", *shares).collect()
    places = rows.select(pl.concat_list(shares).list.arg_max().alias("place"))["place"]
    predicted = pl.Series("predicted", [results.labels[place] for place in places], dtype=pl.String)
    return Sample(results.main.suite, pl.DataFrame([predicted, rows["label"]]))


def notes(results: Results, new: NewCases, earlier: NewCases | None) -> list[str]:
    """What a reader of the comparison has to know first."""
    lines = list(new.notes)
    if new.labels is not None and (n := new.labels.null_count()):
        lines.append(f"{n:,} of {len(new.labels):,} cases have no label: they count for the mix alone")
    if n := seen_before(new.cases, results.split("train"), results.ruleset):
        lines.append(f"{n:,} of {len(new.cases):,} cases stand in the training split: accuracy on them says little")
    data = results.config["data"]
    if earlier is None and (data["source"] != "file" or data.get("balance")):
        lines.append(
            f"the {results.main.suite} has as many cases of each label: where new ones come as they fall, the mix "
            "differs for that reason alone; AGAINST=earlier.csv compares with cases of the same origin"
        )
    return [*lines, ""] if lines else []


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main(sys.argv[1:]))
