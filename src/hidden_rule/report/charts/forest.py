"""Chart of the planned comparisons: differences between conditions (a forest plot)."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import (
    Chart,
    finish,
    nothing_to_show,
    seeds_in_words,
    text_width,
    title,
    width_of,
)
from hidden_rule.report.text.comparisons import (
    ALPHA,
    compared_with_all,
    differs,
    has_all_pairs,
    other_than,
    turned,
    with_leader,
)
from hidden_rule.report.text.phrases import MANY, p_text, signed

HEADLINE = "Differences in accuracy"
FOUND, NOT_FOUND = "#0072B2", "#6B6B6B"  # significant or not
ROW = 26  # px
ROWS = pl.Schema(
    {
        "row": pl.Int64,  # 0, 1, … of a pair
        "left": pl.String,
        "right": pl.String,  # better than `left` where `difference` is above 0
        "seed": pl.Int64,  # null: pooled
        "difference": pl.Float64,  # of accuracy, a share
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "significant": pl.Boolean,
        "numbers": pl.String,  # the difference in points, its interval and p
        "n": pl.Int64,
    }
)


def accuracy_comparisons(results: Results) -> pl.DataFrame:
    """The planned comparisons of accuracy in the main setting; undefined ones are left out."""
    return results.comparisons.filter(metric="accuracy", **results.main.columns).drop_nulls("difference")


def forest_rows(comparisons: pl.DataFrame, conditions: list[str]) -> pl.DataFrame:
    """Differences, a row of ROWS for each pair and seed, pairs in the order of the conditions.

    comparisons: of accuracy in one setting. Where all pairs of many conditions were compared, only those with the
    leading one are shown, which then is the right one. Where all were compared with one, that is the left one.
    """
    found = comparisons.to_dicts()
    pooled = [row for row in found if row["seed"] is None]
    if len(conditions) > MANY and pooled and has_all_pairs(pooled):
        found = with_leader(found)
    elif against := compared_with_all(pooled):
        found = [turned(row, other_than(against, row)) for row in found]
    place = {name: i for i, name in enumerate(conditions)}
    rows = []
    for row in found:
        low, middle, high = (signed(row[key]) for key in ("ci_low", "difference", "ci_high"))
        rows.append(
            {"left": row["condition_b"], "right": row["condition_a"], "significant": differs(row)}
            | {key: row[key] for key in ("seed", "difference", "ci_low", "ci_high", "n")}
            | {"numbers": f"{middle} ({low} to {high}), {p_text(row['p_adjusted'])}"}
        )
    pairs = sorted({(row["left"], row["right"]) for row in rows}, key=lambda pair: (place[pair[1]], place[pair[0]]))
    rows = [row | {"row": pairs.index((row["left"], row["right"]))} for row in rows]
    return pl.DataFrame(rows, schema=ROWS).sort("row", "seed")


def forest_chart(results: Results) -> Chart:
    """Difference of accuracy of each planned comparison, with its 95% interval, filled where it is significant."""
    comparisons = accuracy_comparisons(results)
    rows = forest_rows(comparisons, results.conditions)
    if rows.is_empty():
        return nothing_to_show(HEADLINE, "There is only one condition, and nothing to compare.", results)
    pooled, of_seeds = rows.filter(pl.col("seed").is_null()), rows.filter(pl.col("seed").is_not_null())
    plot = difference_plot(pooled, of_seeds, width_of(results))
    columns = [text_column(pooled, "left", "right"), plot, text_column(pooled, "right", "left"),
               text_column(pooled, "numbers", "left")]  # fmt: skip
    n_pairs = comparisons.filter(pl.col("seed").is_null()).height
    adjusted = f" after Holm correction for {n_pairs} planned comparisons" if n_pairs > 1 else ""
    some = [] if pooled.height == n_pairs else [f"Pairs with {pooled['right'][0]} only; comparisons.parquet has all"]
    notes = [
        f"Accuracy, {results.main.words}; n = {max(of_seeds['n']):,} {results.ruleset.case.many}; "
        + seeds_in_words(of_seeds["seed"])
        + (", ticks: single seeds" if of_seeds["seed"].n_unique() > 1 else ""),
        *some,
        "Point and bar: accuracy of the right condition minus that of the left one, with its 95% CI",
        f"\N{BLACK CIRCLE} significant: p < {ALPHA}{adjusted}, and a CI without 0; \N{WHITE CIRCLE} not significant",
    ]
    return finish(alt.hconcat(*columns, spacing=8).properties(title=title(HEADLINE, *notes)))


def difference_plot(pooled: pl.DataFrame, of_seeds: pl.DataFrame, width: int) -> alt.LayerChart:
    """The differences with their intervals, a row a pair, and a tick for each seed where there are several."""
    rows = pl.concat([pooled, of_seeds])
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=pooled["row"].to_list()))
    reach = max(0.02, *rows["ci_high"], *(-rows["ci_low"]))
    low = min(*pooled["ci_low"], *of_seeds["difference"], -0.3 * reach)
    high = max(*pooled["ci_high"], *of_seeds["difference"], 0.3 * reach)
    scale = alt.Scale(domain=[100 * low, 100 * high], nice=True)
    base = alt.Chart(pooled).transform_calculate(
        difference="100 * datum.difference", ci_low="100 * datum.ci_low", ci_high="100 * datum.ci_high"
    )
    along = {"title": "difference in percentage points", "scale": scale, "axis": alt.Axis(tickCount=7)}
    x, low_x, zero_x = (alt.X(f"{field}:Q", **along) for field in ("difference", "ci_low", "zero"))
    colour = alt.condition("datum.significant", alt.value(FOUND), alt.value(NOT_FOUND))
    tooltip = ["left:N", "right:N", "numbers:N", "n:Q"]
    layers = [
        alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color="#444").encode(x=zero_x),
        base.mark_rule(strokeWidth=2.5).encode(x=low_x, x2="ci_high:Q", y=y, color=colour),
    ]
    if of_seeds["seed"].n_unique() > 1:
        each = alt.Chart(of_seeds).transform_calculate(difference="100 * datum.difference")
        layers.append(each.mark_tick(size=9, thickness=1.2, color="#222", yOffset=7).encode(x=x, y=y, tooltip=tooltip))
    point = base.mark_point(size=85, strokeWidth=2, opacity=1)
    fill = alt.condition("datum.significant", alt.value(FOUND), alt.value("white"))
    layers.append(point.encode(x=x, y=y, stroke=colour, fill=fill, tooltip=tooltip))
    layers.append(direction("\N{LEFTWARDS ARROW} left is better", 0, "left"))
    layers.append(direction("right is better \N{RIGHTWARDS ARROW}", width, "right"))
    return alt.layer(*layers).properties(width=width, height=ROW * pooled.height)


def direction(text: str, x: int, align: str) -> alt.Chart:
    """What a side of the plot means, above it."""
    words = alt.Chart(pl.DataFrame({"text": [text]})).mark_text(align=align, baseline="bottom", color="#555", dy=-4)
    return words.encode(x=alt.value(x), y=alt.value(0), text="text:N")


def text_column(rows: pl.DataFrame, column: str, align: str) -> alt.Chart:
    """A column of texts beside the plot, a line a row."""
    width = max(map(text_width, rows[column]))
    marks = alt.Chart(rows).mark_text(align=align, fontSize=12, color="#222", clip=False)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=rows["row"].to_list()))
    at = alt.value(width if align == "right" else 0)
    return marks.encode(x=at, y=y, text=f"{column}:N").properties(width=width, height=ROW * rows.height)
