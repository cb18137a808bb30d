"""Chart of the planned comparisons: differences between conditions (a forest plot)."""

import altair as alt
import polars as pl

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.style import (
    Chart,
    finish,
    is_narrow,
    nothing_to_show,
    seeds_in_words,
    text_width,
    title,
    width_of,
)
from hidden_rule.report.text.comparisons import (
    ALPHA,
    differs,
    has_all_pairs,
    pair_of,
    turned,
    with_leader,
)
from hidden_rule.report.text.phrases import MANY, p_text, signed

HEADLINE = "Differences in accuracy"
FOUND, NOT_FOUND = "#0072B2", "#6B6B6B"  # significant or not
ROW, TALL = 26, 62  # px; of a row whose texts stand above it
GAP, FEWEST = 8, 150  # px between texts and plot; of a plot beside its texts, where the room is given
ROWS = pl.Schema(
    {
        "row": pl.Int64,  # 0, 1, … of a pair
        "winner": pl.String,  # the more accurate one, all seeds together
        "other": pl.String,
        "seed": pl.Int64,  # null: pooled
        "difference": pl.Float64,  # of accuracy, the winner's minus the other's, a share
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
    """Differences, winner minus other, a row of ROWS for each pair and seed, pairs with the largest difference first.

    comparisons: of accuracy in one setting. Where all pairs of many conditions were compared, only those with the
    leading one are shown. Of equal conditions the first in `conditions` counts as the winner.
    """
    found = comparisons.to_dicts()
    pooled = [row for row in found if row["seed"] is None]
    if len(conditions) > MANY and pooled and has_all_pairs(pooled):
        found = with_leader(found)
        pooled = [row for row in found if row["seed"] is None]
    winners = {frozenset(pair_of(row)): winner_of(row, conditions) for row in pooled}
    rows = []
    for row in (turned(row, winners[frozenset(pair_of(row))]) for row in found):
        low, middle, high = (signed(row[key]) for key in ("ci_low", "difference", "ci_high"))
        rows.append(
            {"winner": row["condition_a"], "other": row["condition_b"], "significant": differs(row)}
            | {key: row[key] for key in ("seed", "difference", "ci_low", "ci_high", "n")}
            | {"numbers": f"{middle} ({low} to {high}), {p_text(row['p_adjusted'])}"}
        )
    place = {name: i for i, name in enumerate(conditions)}
    ranked = sorted(
        (row for row in rows if row["seed"] is None),
        key=lambda row: (-row["difference"], place[row["winner"]], place[row["other"]]),
    )
    pairs = [(row["winner"], row["other"]) for row in ranked]
    rows = [row | {"row": pairs.index((row["winner"], row["other"]))} for row in rows]
    return pl.DataFrame(rows, schema=ROWS).sort("row", "seed")


def winner_of(row: dict, conditions: list[str]) -> str:
    """The more accurate condition of a pooled comparison; of equal ones the first."""
    first, second = pair_of(row)
    if row["difference"] == 0:
        return min(first, second, key=conditions.index)
    return first if row["difference"] > 0 else second


def forest_chart(results: Results) -> Chart:
    """Difference of accuracy of each planned comparison, with its 95% interval, filled where it is significant."""
    comparisons = accuracy_comparisons(results)
    rows = forest_rows(comparisons, results.conditions)
    if rows.is_empty():
        return nothing_to_show(HEADLINE, "There is only one condition, and nothing to compare.", results)
    pooled, of_seeds = rows.filter(pl.col("seed").is_null()), rows.filter(pl.col("seed").is_not_null())
    plot = difference_plot(pooled, of_seeds, width_of(results))
    pairs = pooled.with_columns(pair=pl.format("{} \N{MINUS SIGN} {}", "winner", "other"))
    columns = [text_column(pairs, "pair", "right"), plot, text_column(pooled, "numbers", "left")]
    if not fits_beside(results, [*pairs["pair"]], [*pooled["numbers"]]):
        columns = [stacked(pairs, plot, results)]
    n_pairs = comparisons.filter(pl.col("seed").is_null()).height
    adjusted = f" after Holm correction for {n_pairs} planned comparisons" if n_pairs > 1 else ""
    some = [] if pooled.height == n_pairs else [f"Pairs with {leader_of(pooled)} only; comparisons.parquet has all"]
    notes = [
        f"Accuracy, {results.main.words}; n = {max(of_seeds['n']):,} {results.ruleset.case.many}; "
        + seeds_in_words(of_seeds["seed"])
        + (", ticks: single seeds" if of_seeds["seed"].n_unique() > 1 else ""),
        *some,
        "Point and bar: accuracy of the winner minus that of the other, with its 95% CI",
        f"\N{BLACK CIRCLE} significant: p < {ALPHA}{adjusted}, and a CI without 0; \N{WHITE CIRCLE} not significant",
    ]
    return finish(alt.hconcat(*columns, spacing=GAP).properties(title=title(HEADLINE, *notes)))


def difference_plot(pooled: pl.DataFrame, of_seeds: pl.DataFrame, width: int) -> alt.LayerChart:
    """The differences with their intervals, a row a pair, and a tick for each seed where there are several."""
    rows = pl.concat([pooled, of_seeds])
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=pooled["row"].to_list()))
    reach = max(0.02, *rows["ci_high"], *(-rows["ci_low"]))
    low = min(*pooled["ci_low"], *of_seeds["difference"], -0.05 * reach)
    high = max(*pooled["ci_high"], *of_seeds["difference"], 0.3 * reach)
    scale = alt.Scale(domain=[100 * low, 100 * high], nice=True)
    base = alt.Chart(pooled).transform_calculate(
        difference="100 * datum.difference", ci_low="100 * datum.ci_low", ci_high="100 * datum.ci_high"
    )
    along = {"title": "difference in percentage points", "scale": scale, "axis": alt.Axis(tickCount=7)}
    x, low_x, zero_x = (alt.X(f"{field}:Q", **along) for field in ("difference", "ci_low", "zero"))
    colour = alt.condition("datum.significant", alt.value(FOUND), alt.value(NOT_FOUND))
    tooltip = ["winner:N", "other:N", "numbers:N", "n:Q"]
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
    return alt.layer(*layers).properties(width=width, height=ROW * pooled.height)


def fits_beside(results: Results, *texts: list[str]) -> bool:
    """Whether columns of texts stand beside the plot: on a page where it is no narrow one, in a figure if it has room.

    `charts.room` is the width in px that a whole figure may take.
    """
    room = results.config["charts"].get("room")
    if room is None:
        return not is_narrow(results)
    return sum(max(map(text_width, column)) + GAP for column in texts) + FEWEST <= room


def leader_of(pooled: pl.DataFrame) -> str:
    """The condition that stands in all of several pairs."""
    return set.intersection(*({row["winner"], row["other"]} for row in pooled.to_dicts())).pop()


def stacked(pairs: pl.DataFrame, plot: alt.LayerChart, results: Results) -> alt.LayerChart:
    """The plot with pairs and numbers above each row."""
    lines = pairs.with_columns(text=pl.concat_list("pair", "numbers"))
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=pairs["row"].to_list()))
    look = {"align": "left", "dy": -24, "fontSize": 11, "lineHeight": 13}
    at = alt.Chart(lines).encode(x=alt.value(0), y=y, text="text:N")
    above = [at.mark_text(**look, stroke="white", strokeWidth=4), at.mark_text(**look, color="#222")]  # clear of lines
    size = {"width": width_of(results) + 110, "height": TALL * pairs.height}
    return alt.layer(*plot.layer, *above).properties(**size)


def text_column(rows: pl.DataFrame, column: str, align: str) -> alt.Chart:
    """A column of texts beside the plot, a line a row."""
    width = max(map(text_width, rows[column]))
    marks = alt.Chart(rows).mark_text(align=align, fontSize=12, color="#222", clip=False)
    y = alt.Y("row:O", axis=None, scale=alt.Scale(domain=rows["row"].to_list()))
    at = alt.value(width if align == "right" else 0)
    return marks.encode(x=at, y=y, text=f"{column}:N").properties(width=width, height=ROW * rows.height)
