"""Write the page of cases: every evaluated case with its prompt, the right decision and each condition's reply."""

from hidden_rule.experiment.results import Results
from hidden_rule.report.cases.page import Parts, write_cases

if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        page = snakemake.output.page
        results = Results(Path(page).parent, snakemake.params.config, snakemake.input)
        write_cases(results, page, Parts(snakemake.input.template, snakemake.input.style, snakemake.input.script))
