"""Chart of confusion matrices, one a condition and setting."""

from dataclasses import dataclass

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import (
    Chart,
    columns_of,
    finish,
    is_narrow,
    panel_title,
    percent_tooltips,
    title,
    width_of,
    wrapped,
)
from hidden_rule.statistics.confusion import INVALID, confusion_table

ROW = 34  # px
FEW = 12  # labels, up to which a cell has room for its number
SIDE = 480  # px of a matrix of more
COLUMNS = {4: 3, 10_000: 2}  # by the most labels: matrices in a row
LINE = 30  # characters of a heading in one line


def confusion_chart(results: Results) -> Chart:
    """A row-normalised confusion matrix of each condition: in the main setting, and beside it under free decoding."""
    table = confusion_table({run: results.predictions(run) for run in results.runs}, results.labels)
    columns = columns_of(results, next(n for most, n in COLUMNS.items() if len(results.labels) <= most))
    panels: list[alt.LayerChart | alt.Chart] = []
    for setting in (setting for setting in (results.main, results.free) if setting):
        of_setting = table.filter(**setting.columns)
        shown = [name for name in results.conditions if name in set(of_setting["condition"])]
        shown_columns = predicted_of(of_setting, results.labels)
        for i, condition in enumerate(shown):
            rows = of_setting.filter(pl.col("predicted").is_in(shown_columns), condition=condition)
            heading = f"{setting.words}, n = {of_setting.filter(condition=condition)['n'].sum():,}"
            panels.append(matrix(rows, Panel(condition, heading, shown_columns, i % columns == 0), results))
        if setting != results.free and results.free:  # the next setting starts a row
            panels += [blank() for _ in range(-len(shown) % columns)]
    n_seeds = len(results.seeds)
    headline = title(
        "Confusion matrices",
        f"Predicted decision in % of each row; {n_seeds} seed{'s, counts summed' if n_seeds > 1 else ''}; "
        "correct answers are on the diagonal",
    )
    return finish(alt.concat(*panels, columns=columns, spacing=24, align="each").properties(title=headline))


def predicted_of(rows: pl.DataFrame, labels: list[str]) -> list[str]:
    """The columns of all matrices of a setting: invalid replies where any condition gives one."""
    return [*labels, INVALID] if rows.filter(predicted=INVALID)["n"].sum() > 0 else labels


@dataclass(frozen=True)
class Panel:
    """What stands at a matrix."""

    condition: str
    subtitle: str
    columns: list[str]
    is_first: bool  # of its row: decisions are named beside it


def blank() -> alt.Chart:
    """Nothing, in the place of a matrix."""
    nothing = alt.Chart(pl.DataFrame({"text": [""]})).mark_text().encode(text="text:N")
    return nothing.properties(width=10, height=10)


def matrix(rows: pl.DataFrame, panel: Panel, results: Results) -> alt.LayerChart:
    """The matrix of one condition in one setting; rows: of `confusion_table`."""
    labels, columns = results.labels, panel.columns
    is_small = len(labels) <= FEW
    side = width_of(results) if is_narrow(results) else SIDE
    cell = max(34, min(58, width_of(results) // (2 * len(labels)))) if is_small else max(5, side // len(labels))
    font = alt.Undefined if is_small else min(10, cell - 2)
    rows = rows if is_small else rows.filter(pl.col("n") > 0)  # thousands of empty cells would be half of a page
    beside = alt.Axis(labelFontSize=font) if panel.is_first else None
    base = alt.Chart(rows).encode(
        x=alt.X(
            "predicted:N",
            scale=alt.Scale(domain=columns),
            title="predicted",
            axis=alt.Axis(labelAngle=-40, labelFontSize=font),
        ),
        y=alt.Y("label:N", scale=alt.Scale(domain=labels), title="true decision", axis=beside),
        tooltip=["label:N", "predicted:N", "n:Q", *percent_tooltips("share")],
    )
    shade = alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"), legend=None)
    ink = alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#222"))
    cells = base.mark_rect(stroke="white").encode(color=shade)
    numbers = base.mark_text(fontSize=11).encode(text=alt.Text("share:Q", format=".0%"), color=ink)
    heading = panel_title(wrapped(panel.condition, LINE), subtitle=wrapped(panel.subtitle, LINE))
    layers = alt.layer(cells, numbers) if is_small else alt.layer(cells)
    return layers.properties(width=alt.Step(cell), height=alt.Step(ROW if is_small else cell), title=heading)
