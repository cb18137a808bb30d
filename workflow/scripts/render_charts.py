"""Draw every chart and save it as an interactive page, a vector image and a bitmap."""

from pathlib import Path

from hidden_rule.charts import build_charts
from hidden_rule.files import whole
from hidden_rule.tables import METRICS, SUPERVISION, read_table


def render_charts(metrics, predictions, jobs, histories, trained, labels, config, outputs, supervision=None) -> None:
    """Save each chart to those of `outputs` whose stem is its name; the suffix (.html, .svg, .png) decides the format.

    The pages hold all that they need (`inline`): they open without a network.
    """
    told = supervision and read_table(supervision, SUPERVISION)
    charts = build_charts(read_table(metrics, METRICS), predictions, jobs, histories, trained, labels, config, told)
    for path in map(Path, outputs):
        options = {".html": {"inline": True}, ".png": {"scale_factor": 2}}.get(path.suffix, {})
        with whole(path) as temporary:
            charts[path.stem].save(str(temporary), **options)


if "snakemake" in globals():
    from hidden_rule.logs import logged
    from hidden_rule.ruleset import load_ruleset

    with logged(snakemake.log[0]):
        render_charts(
            metrics=snakemake.input.metrics,
            predictions=list(snakemake.input.predictions),
            jobs=snakemake.params.jobs,
            histories=list(snakemake.input.histories),
            trained=snakemake.params.trained,
            labels=load_ruleset(snakemake.input.ruleset).labels,
            config=snakemake.params.charts,
            outputs=list(snakemake.output),
            supervision=next(iter(snakemake.input.supervision), None),
        )
