"""Chart of confusion matrices, one a condition and setting."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Setting
from hidden_rule.report.charts.style import Chart, finish, panel_title, percent_tooltips, title, width_of
from hidden_rule.statistics.confusion import INVALID, confusion_table

ROW = 34  # px
FEW = 12  # labels, up to which a cell has room for its number
SIDE = 480  # px of a matrix of more


def confusion_chart(results: Results) -> Chart:
    """A row-normalised confusion matrix of each condition: in the main setting, and beside it under free decoding."""
    table = confusion_table({run: results.predictions(run) for run in results.runs}, results.labels)
    shown = [setting for setting in (results.main, results.free) if setting]
    panels = []
    for condition in results.conditions:
        for setting in shown:
            rows = table.filter(condition=condition, **setting.columns)
            if rows.height:
                panels.append(matrix(rows, condition, setting, results))
    n_seeds = len(results.seeds)
    headline = title(
        "Confusion matrices",
        f"Predicted decision in % of each row; {n_seeds} seed{'s, counts summed' if n_seeds > 1 else ''}; "
        "correct answers are on the diagonal",
    )
    return finish(alt.concat(*panels, columns=max(2, len(shown)), spacing=30).properties(title=headline))


def matrix(rows: pl.DataFrame, condition: str, setting: Setting, results: Results) -> alt.LayerChart:
    """The matrix of one condition in one setting; rows: of `confusion_table`."""
    labels = results.labels
    is_small = len(labels) <= FEW
    cell = max(34, min(58, width_of(results) // (2 * len(labels)))) if is_small else max(10, SIDE // len(labels))
    font = alt.Undefined if is_small else min(10, cell - 2)
    has_invalid = rows.filter(predicted=INVALID)["n"].sum() > 0
    columns = [*labels, INVALID] if has_invalid else labels
    base = alt.Chart(rows.filter(pl.col("predicted").is_in(columns))).encode(
        x=alt.X("predicted:N", sort=columns, title="predicted", axis=alt.Axis(labelAngle=-40, labelFontSize=font)),
        y=alt.Y("label:N", sort=labels, title="true decision", axis=alt.Axis(labelFontSize=font)),
        tooltip=["label:N", "predicted:N", "n:Q", *percent_tooltips("share")],
    )
    shade = alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"), legend=None)
    ink = alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#222"))
    cells = base.mark_rect(stroke="white").encode(color=shade)
    numbers = base.mark_text(fontSize=11).encode(text=alt.Text("share:Q", format=".0%"), color=ink)
    heading = panel_title(condition, subtitle=f"{setting.words}, n = {rows['n'].sum():,}")
    layers = alt.layer(cells, numbers) if is_small else alt.layer(cells)
    return layers.properties(width=alt.Step(cell), height=alt.Step(ROW if is_small else cell), title=heading)
