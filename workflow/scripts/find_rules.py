"""Search the decisions of the training and validation splits for rules that are not stated."""

import polars as pl

from hidden_rule.core.tables import RULES, write_table
from hidden_rule.statistics.found_rules import report_lines
from hidden_rule.statistics.rule_search import find_rules
from hidden_rule.task.dataset import read_split
from hidden_rule.task.ruleset import load_ruleset

if "snakemake" in globals():
    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        ruleset = load_ruleset(snakemake.input.ruleset)
        splits = [read_split(path, ruleset) for path in (snakemake.input.train, snakemake.input.validation)]
        found = find_rules(pl.concat(splits), ruleset, snakemake.params.seed)
        for line in report_lines(found):
            print(line)
        write_table(found, snakemake.output[0], RULES)
