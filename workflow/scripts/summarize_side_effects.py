"""Turn the tables of side effects and leaks of all conditions into one with intervals."""

from hidden_rule.core.tables import SIDE_EFFECTS_SUMMARY, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.statistics.side_effects_summary import summarize


def summarize_side_effects(results: Results, output) -> None:
    """Write the table SIDE_EFFECTS_SUMMARY."""
    write_table(summarize(results.effects, results.leaks), output, SIDE_EFFECTS_SUMMARY)


if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        output = snakemake.output[0]
        summarize_side_effects(Results(Path(output).parent, snakemake.params.config, snakemake.input), output)
