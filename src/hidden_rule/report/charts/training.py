"""Charts of training: its curves, and which decisions training by reward still makes (mode collapse)."""

import altair as alt
import polars as pl

from hidden_rule.core.tables import HISTORY, read_table
from hidden_rule.report.charts.style import (
    CONDITION_COLOURS,
    INVALID,
    INVALID_COLOUR,
    LABEL_COLOURS,
    finish,
    legend_columns,
    nothing_to_show,
    panel_title,
    title,
)

MAX_POINTS = 100  # of a curve: longer ones are averaged over windows of steps
ZERO_LOSS = 1e-6  # GRPO's advantages sum to zero, and so does its loss as long as it samples from what it trains
DASHES = ([1, 0], [7, 3], [2, 2])  # the second time that colours come round, and the third
SEEDS_SHOWN = 3  # of a condition in the picture of its collapse


def read_curves(histories, trained) -> pl.DataFrame:
    """All histories with condition, seed and method; a metric of many steps averaged over windows of `window` steps."""
    frames = [
        read_table(path, HISTORY).with_columns(
            condition=pl.lit(condition), seed=pl.lit(seed, dtype=pl.Int64), method=pl.lit(method)
        )
        for path, (condition, seed, method) in zip(histories, trained, strict=True)
    ]
    curves = pl.concat(frames)
    keys = ["condition", "seed", "method", "metric", "label"]
    window = ((pl.col("step").n_unique().over(keys) + MAX_POINTS - 1) // MAX_POINTS).cast(pl.Int64)
    rank = pl.col("step").rank("dense").over(keys).cast(pl.Int64) - 1
    thinned = curves.group_by(*keys, window=window, bin=rank // window).agg(
        pl.col("step").max(), pl.col("value").mean()
    )
    return thinned.drop("bin").sort(*keys, "step")


def training_chart(histories, trained, colours: dict, labels, config: dict) -> alt.TopLevelMixin:
    """Loss (a panel a method), reward where there is one, and validation accuracy over optimizer steps."""
    headline = "What training went through"
    if not histories:
        return nothing_to_show(headline, "No condition of this experiment was trained.", config["width"])
    curves = read_curves(histories, trained)
    learnt = [name for name in colours if name in set(curves["condition"])]
    legend = alt.Legend(
        title=None, orient="top", columnPadding=30, columns=legend_columns(learnt, config["width"]),
        symbolType="stroke", symbolSize=400, symbolStrokeWidth=2.5,
    )  # fmt: skip
    scale = alt.Scale(domain=learnt, range=[colours[name] for name in learnt])
    colour = alt.Color("condition:N", scale=scale, legend=legend)
    dashes = [DASHES[i // len(CONDITION_COLOURS) % len(DASHES)] for i in range(len(learnt))]
    dash = alt.StrokeDash("condition:N", scale=alt.Scale(domain=learnt, range=dashes), legend=legend)
    panels = []
    steps = alt.Scale(domain=[0, int(curves["step"].max())], nice=False)
    notes = []
    kinds = [("loss", method, f"loss, {method.upper()}") for method in dict.fromkeys(m for *_, m in trained)]
    for metric, method, heading in [("validation_accuracy", None, None), ("reward", None, "mean reward"), *kinds]:
        rows = curves.filter(metric=metric)
        rows = rows.filter(method=method) if method else rows
        if rows.is_empty():
            continue
        is_accuracy = metric == "validation_accuracy"
        size = rows["value"].abs().max() or 0.0
        if metric == "loss" and size < ZERO_LOSS:
            notes.append(f"{heading}: zero but for rounding, not shown")
            continue
        form = "%" if is_accuracy else alt.Undefined if size > 1e-3 else "~e"
        y = alt.Y(
            "value:Q",
            title=None,
            scale=alt.Scale(domain=[0, 1]) if is_accuracy else alt.Scale(zero=False),
            axis=alt.Axis(minExtent=44, tickCount=5, format=form),
        )
        mark = {"strokeWidth": 1.8, "opacity": 0.85, "clip": True}
        line = alt.Chart(rows).mark_line(point=is_accuracy, **mark).encode(
            x=alt.X("step:Q", title="optimizer step", scale=steps, axis=alt.Axis(tickMinStep=1)), y=y, color=colour,
            strokeDash=dash, detail="seed:N",
            tooltip=["condition:N", "seed:O", "step:Q", alt.Tooltip("value:Q", format=".3f")],
        )  # fmt: skip
        chance = alt.Chart(pl.DataFrame({"value": [1 / len(labels)]}))
        layers = [chance.mark_rule(color="#888", strokeDash=[4, 4]).encode(y="value:Q")] if is_accuracy else []
        heading = heading or "validation accuracy (structured decoding), dashed: chance"
        named = panel_title(heading, frame="group")
        panels.append(alt.layer(*layers, line).properties(width=config["width"], height=150, title=named))
    n_seeds = len({seed for _, seed, _ in trained})
    note = f"A line a condition{' and seed' if n_seeds > 1 else ''}; {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    widest = curves["window"].max()
    note += f"; points average up to {widest} steps" if widest > 1 else ""
    return finish(alt.vconcat(*panels, spacing=22).properties(title=title(headline, note, *notes)))


def collapse_panel(curves, condition, seed, labels, width) -> alt.VConcatChart:
    """Share of each predicted label over steps, and entropy and groups without signal under it, of one training."""
    rows = curves.filter(condition=condition, seed=seed)
    shares = rows.filter(metric="predicted_share").select("step", "label", "value")
    invalid = rows.filter(metric="invalid_share").select("step", "value")
    has_invalid = (invalid["value"] > 0).any()
    if has_invalid:
        shares = pl.concat([shares, invalid.select("step", pl.lit(INVALID).alias("label"), "value")])
    domain = [*labels, INVALID] if has_invalid else list(labels)
    colours = [LABEL_COLOURS[i % len(LABEL_COLOURS)] for i in range(len(labels))] + [INVALID_COLOUR]
    scale = alt.Scale(domain=domain, range=colours[: len(domain)])
    steps = alt.Scale(domain=[int(rows["step"].min()), int(rows["step"].max())], nice=False)
    x = alt.X("step:Q", title=None, scale=steps, axis=alt.Axis(labels=False, ticks=False))
    x_last = alt.X("step:Q", title="optimizer step", scale=steps, axis=alt.Axis(tickMinStep=1, tickCount=5))
    area = alt.Chart(shares.with_columns(place=pl.col("label").replace_strict(domain, range(len(domain))))).mark_area()
    parts = [
        area.encode(
            x=x,
            y=alt.Y("value:Q", stack="normalize", title="share of answers", axis=alt.Axis(format="%", tickCount=4)),
            color=alt.Color("label:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", columns=2)),
            order="place:Q",
            tooltip=["step:Q", "label:N", alt.Tooltip("value:Q", format=".1%")],
        ).properties(width=width, height=170, title=panel_title(f"{condition}, seed {seed}", frame="group"))
    ]
    lines = [("entropy", ["entropy", "(nats)"], None), ("zero_signal_share", ["groups", "without signal"], "%")]
    present = [line for line in lines if not rows.filter(metric=line[0]).is_empty()]
    for metric, name, form in present:
        axis = alt.Axis(format=form, tickCount=3) if form else alt.Axis(tickCount=3)
        scale_y = alt.Scale(domain=[0, 1]) if form else alt.Scale(zero=True)
        line = alt.Chart(rows.filter(metric=metric)).mark_line(color="#222", strokeWidth=1.6)
        parts.append(
            line.encode(
                x=x_last if metric == present[-1][0] else x,
                y=alt.Y("value:Q", title=name, axis=axis, scale=scale_y),
                tooltip=["step:Q", alt.Tooltip("value:Q", format=".3f")],
            ).properties(width=width, height=70)
        )  # fmt: skip
    return alt.vconcat(*parts, spacing=10)


def collapse_chart(histories, trained, labels, config: dict) -> alt.TopLevelMixin:
    """For each training by reward, which labels it answers with over its steps, and whether any signal is left."""
    headline = "Which decisions training by reward still makes"
    curves = read_curves(histories, trained) if histories else None
    shown = []
    if curves is not None:
        found = curves.filter(metric="predicted_share").select("condition", "seed").unique()
        for condition in dict.fromkeys(condition for condition, *_ in trained):
            seeds = sorted(found.filter(condition=condition)["seed"])[:SEEDS_SHOWN]
            shown += [(condition, seed) for seed in seeds]
    if not shown:
        return nothing_to_show(headline, "No condition of this experiment was trained by reward.", config["width"])
    columns = min(2, len(shown))
    width = config["width"] if columns == 1 else max(240, config["width"] // 2)
    panels = [collapse_panel(curves, *one, list(labels), width) for one in shown]
    notes = [
        "Share of each decision among the sampled answers of a step; entropy of the decision's distribution;",
        "share of groups whose rewards are all equal, from which GRPO learns nothing",
    ]
    if len({seed for _, seed, _ in trained}) > SEEDS_SHOWN:
        notes.append(f"The first {SEEDS_SHOWN} seeds of each condition")
    chart = alt.concat(*panels, columns=columns, spacing=40).properties(title=title(headline, *notes))
    return finish(chart)
