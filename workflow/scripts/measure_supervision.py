"""Measure the supervision of each training: labels, replies, and an upper bound in bits."""

from hidden_rule.core.tables import SUPERVISION, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.statistics.supervision import measure, training_records


def measure_supervision(results: Results, output) -> None:
    """Write the table SUPERVISION of all trained runs."""
    table = measure(training_records(results), results.split("train"), len(results.labels))
    write_table(table, output, SUPERVISION)


if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        output = snakemake.output.supervision
        measure_supervision(Results(Path(output).parent, snakemake.params.config, snakemake.input), output)
