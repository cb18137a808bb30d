"""Turn the tables of side effects and leaks of all conditions into one with intervals."""

import polars as pl

from hidden_rule.core.tables import LEAKS, SIDE_EFFECTS, SIDE_EFFECTS_SUMMARY, read_table, write_table
from hidden_rule.statistics.side_effects_summary import summarize


def summarize_side_effects(effects, leaks, output) -> None:
    """Write the table SIDE_EFFECTS_SUMMARY; `effects` and `leaks` are paths, one of each a condition and seed."""
    effects = pl.concat([read_table(path, SIDE_EFFECTS) for path in effects])
    leaks = pl.concat([read_table(path, LEAKS) for path in leaks])
    write_table(summarize(effects, leaks), output, SIDE_EFFECTS_SUMMARY)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        summarize_side_effects(list(snakemake.input.effects), list(snakemake.input.leaks), snakemake.output[0])
