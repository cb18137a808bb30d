"""Draw every chart and save it as an interactive page, a vector image and a bitmap."""

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.build import render_charts

if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        folder = Path(snakemake.output[0]).parents[1]
        render_charts(Results(folder, snakemake.params.config, snakemake.input), snakemake.output)
