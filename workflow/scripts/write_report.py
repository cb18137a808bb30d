"""Write the report: one HTML page with the answer, its evidence, cost and provenance."""

from hidden_rule.experiment.results import Results
from hidden_rule.report.page import write_report

if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        page = snakemake.output.page
        results = Results(Path(page).parent, snakemake.params.config, snakemake.input)
        write_report(results, page, snakemake.params.charts, snakemake.input.template)
