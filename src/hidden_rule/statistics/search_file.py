"""Rules in a file of past decisions: `make find-rules DATA=claims.csv LABEL=decision RULESET=stated.yaml`."""

import sys

import polars as pl

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.statistics.found_rules import report_lines
from hidden_rule.statistics.rule_search import find_rules
from hidden_rule.task.cases.files import open_cases
from hidden_rule.task.cases.inspect import file_options
from hidden_rule.task.cases.own import CaseSettingError, CaseSettings, contents_of, divided
from hidden_rule.task.cases.splits import SHARES, SplitSettings
from hidden_rule.task.cases.text_files import Form


def search_file(path: str, label: str, encoding: str | None = None, **settings) -> list[str]:
    """What is found in all cases of a file, in lines; raises CaseSettingError, or UserError, for what does not fit."""
    with open_cases(path, Form(encoding)) as file:
        sizes = {split: max(1, int(share * file.n_rows)) for split, share in SHARES.items()}
        sizes["train"] += max(0, file.n_rows - sum(sizes.values()))
        given = CaseSettings(path, label, SplitSettings(sizes, frozenset(sizes), seed=0), **settings)
        own = divided(given, file, contents_of(given, file))
    found = find_rules(pl.concat(own.splits.values()), own.ruleset, seed=0)
    rules = ", ".join(rule.name for rule in own.ruleset.rules if not rule.hidden)
    if rules:
        stated = f"stated: {rules}"
    elif own.ruleset.default:
        stated = f"stated: {own.ruleset.default} in all cases"
    else:
        stated = "nothing is stated: departures are from the most frequent label"
    return [stated, *report_lines(found)]


def main(words: list[str]) -> None:
    """Print what is found in the file that the command line names."""
    options = file_options("make find-rules", __doc__, words)
    if not options.data or not options.label:
        missing, example = ("DATA", "claims.csv") if not options.data else ("LABEL", "decision")
        raise UserError("make find-rules", missing, "is missing", f"write {missing}=…, as in {missing}={example}")
    try:
        settings = {"ruleset": options.ruleset or None, "text": tuple(options.text)}
        lines = search_file(options.data, options.label, options.encoding or None, **settings)
    except CaseSettingError as error:
        raise UserError("make find-rules", error.key.upper(), error.fault, error.remedy) from None
    print("\n".join(lines))


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
