"""Chart of each condition's results on each suite (a heat map)."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import (
    Chart,
    finish,
    is_narrow,
    nothing_to_show,
    percent_tooltips,
    seeds_in_words,
    text_width,
    title,
    wrapped,
)
from hidden_rule.report.text.suites import NAMES, suite_rows
from hidden_rule.task.suites import KINDS, why_not

HEADLINE = "Generalization suites"
LOWER_IS_BETTER = ("false_flip_rate",)
CELL, ROW, LINE = 96, 42, 13  # px; characters of a column's name in one line
PHONE_CELL, PHONE_LINE = 66, 18  # px; characters of a row's name in one line, on a phone
LINE_HEIGHT = 15  # px
GREY = "#E4E4E4"
CELLS = pl.Schema(
    {
        "row": pl.Int64,  # of `suite_rows`
        "what": pl.String,
        "higher": pl.Boolean,  # whether higher is better
        "condition": pl.String,
        "value": pl.Float64,
        "good": pl.Float64,  # 0 to 1: the value, or 1 − value where lower is better
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "n": pl.Int64,
        "reason": pl.String,  # why there is no value; null if there is one
    }
)


def suite_cells(
    metrics: pl.DataFrame, conditions: list[str], lacks: dict[str, str | None], rules: list[str]
) -> pl.DataFrame:
    """A row of CELLS for each of `suite_rows` and condition, pooled over seeds, structured decoding if there is any.

    lacks: by suite, what the ruleset lacks for it, in words, or None; rules: the hidden rules, where there are several.
    Empty where no suite was evaluated.
    """
    suites = metrics.filter(pl.col("suite").is_in(NAMES), pl.col("seed").is_null())
    if suites.is_empty():
        return pl.DataFrame(schema=CELLS)
    rows = suites.filter(decoding=suites["decoding"].max())
    found = {(row["suite"], row["metric"], row["rule"], row["condition"]): row for row in rows.to_dicts()}
    evaluated = set(rows["suite"])
    cells = []
    for i, of in enumerate(suite_rows(rules)):
        suite, high_is_good = of.suite, of.metric not in LOWER_IS_BETTER
        for name in conditions:
            row = found.get((suite, of.metric, of.rule, name))
            value = row["value"] if row else None
            reason: str | None = "not evaluated"
            if row is not None:
                reason = "undefined (n = 0)" if value is None else None
            elif suite not in evaluated:
                fault = lacks.get(suite)
                reason = f"not evaluated: ruleset {fault}" if fault else "not evaluated: not among suites.kinds"
            good = None if value is None else value if high_is_good else 1 - value
            cells.append(
                {"row": i, "what": of.words, "higher": high_is_good, "condition": name, "value": value, "good": good}
                | {key: row and row[key] for key in ("ci_low", "ci_high", "n")}
                | {"reason": reason}
            )
    return pl.DataFrame(cells, schema=CELLS)


def suites_chart(results: Results) -> Chart:
    """Suites × conditions: value and 95% interval as text, the better the darker; grey where there is no value."""
    evaluated = set(results.metrics["suite"])
    asked = results.config.get("suites", {}).get("kinds", ())
    lacks = {
        kind: why_not(results.ruleset, kind) or ("allows no such family" if kind in asked else None)
        for kind in KINDS
        if kind not in evaluated
    }
    cells = suite_cells(results.metrics, results.conditions, lacks, results.separate_rules)
    if cells.is_empty():
        reason = "No suite was evaluated: evaluation.structured does not name suites."
        return nothing_to_show(HEADLINE, reason, results)
    notes = [
        f"Estimate and 95% CI, clustered by family; {seeds_in_words(results.metrics['seed'].drop_nulls())}; "
        "n: answers or pairs of answers",
        "The bluer, the better; grey: no value",
    ]
    return finish(heat_map(cells, is_narrow(results)).properties(title=title(HEADLINE, *notes)))


def heat_map(cells: pl.DataFrame, narrow: bool = False) -> alt.LayerChart:
    """The heat map of `suite_cells`, with names above and left of it; narrow: for a phone."""
    cell, line = (PHONE_CELL, PHONE_LINE // 2) if narrow else (CELL, LINE)
    labels = row_labels(cells, narrow)
    n_lines = max(label.count("\n") for label in labels.values()) + 1
    parts = {name: wrapped(name, line) for name in cells["condition"].unique(maintain_order=True)}
    deepest = max(map(len, parts.values()))
    heads = {name: "\n".join([" "] * (deepest - len(part)) + part) for name, part in parts.items()}
    value, low, high = (
        pl.col(key).mul(100).round().cast(pl.Int64).cast(pl.String) for key in ("value", "ci_low", "ci_high")
    )
    shown = cells.with_columns(
        column=pl.col("condition").replace_strict(heads),
        label=pl.col("row").replace_strict(labels),
        first=(value + "%").fill_null(""),
        second=(low + " to " + high + "%").fill_null(""),
        missing=pl.when(pl.col("reason").is_in(["undefined (n = 0)", "not evaluated"]))
        .then(pl.col("reason").str.replace(" ", "\n"))
        .fill_null(""),
    )
    columns = shown["column"].unique(maintain_order=True).to_list()
    lines = {"labelExpr": "split(datum.value, '\\n')", "title": None, "ticks": False, "domain": False}
    axis_x = alt.Axis(orient="top", labelAngle=0, labelLineHeight=14, labelPadding=6 + 14 * (deepest - 1), **lines)
    x = alt.X("column:N", sort=None, scale=alt.Scale(domain=columns), axis=axis_x)
    room = max(text_width(line) for label in labels.values() for line in label.split("\n"))
    axis_y = alt.Axis(
        labelLineHeight=LINE_HEIGHT, labelPadding=8, labelBaseline="middle", minExtent=room,
        labelOffset=-LINE_HEIGHT * (n_lines - 1) // 2, **lines,
    )  # fmt: skip
    y = alt.Y("label:N", sort=None, scale=alt.Scale(domain=list(labels.values())), axis=axis_y)
    layers = cell_layers(alt.Chart(shown).encode(x=x, y=y))
    height = max(ROW, LINE_HEIGHT * n_lines + 10)
    return alt.layer(*layers).properties(width=cell * len(columns), height=height * len(labels))


def row_labels(cells: pl.DataFrame, narrow: bool) -> dict[int, str]:
    """Names of rows, all of as many lines."""
    labels = {row: row_label(rows).split("\n") for (row,), rows in cells.group_by("row", maintain_order=True)}
    if narrow:
        labels = {row: [part for line in of for part in wrapped(line, PHONE_LINE)] for row, of in labels.items()}
    deepest = max(map(len, labels.values()))
    above = {row: (deepest - len(of)) // 2 for row, of in labels.items()}
    return {
        row: "\n".join([" "] * above[row] + of + [" "] * (deepest - len(of) - above[row])) for row, of in labels.items()
    }


def cell_layers(base: alt.Chart) -> list[alt.Chart]:
    """Shades and texts of the cells."""
    tooltip = ["what:N", "condition:N", *percent_tooltips("value", "ci_low", "ci_high"), "n:Q", "reason:N"]
    shade = alt.Color("good:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"), legend=None)
    ink = alt.condition("datum.good > 0.6", alt.value("white"), alt.value("#222"))
    return [
        base.transform_filter("!isValid(datum.good)").mark_rect(stroke="white", color=GREY).encode(tooltip=tooltip),
        base.transform_filter("isValid(datum.good)").mark_rect(stroke="white").encode(color=shade, tooltip=tooltip),
        base.mark_text(dy=-7, fontSize=13, fontWeight="bold").encode(text="first:N", color=ink),
        base.mark_text(dy=10, fontSize=11).encode(text="second:N", color=ink),
        base.mark_text(fontSize=11, color="#444", lineBreak="\n", lineHeight=13, dy=-6).encode(text="missing:N"),
    ]


def row_label(cells: pl.DataFrame) -> str:
    """Two lines: what a row is, and which values are good and how many answers there are, or why there are none."""
    reasons = cells["reason"].unique().to_list()
    what, higher = cells["what"][0], cells["higher"][0]
    if len(reasons) == 1 and (reasons[0] or "").startswith("not evaluated:"):
        return f"{what}\n{reasons[0]}"
    low, high = min(cells["n"].drop_nulls(), default=0), max(cells["n"].drop_nulls(), default=0)
    if not high:
        return f"{what}\n{'no answer' if what.endswith('precision') else 'no case'}"
    n = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{what}\n{'higher' if higher else 'lower'} is better, n = {n}"
