"""How every chart looks: colours, titles, fonts, and how suites and decodings are named and ordered."""

import re

import altair as alt
import polars as pl

from hidden_rule.task.dataset import SPLITS

UNTRAINED = "#6B6B6B"
CONDITION_COLOURS = (  # Okabe & Ito (2008), told apart under colour blindness and in grey
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F",
)  # fmt: skip
LABEL_COLOURS = (  # Paul Tol's "muted": the same property, other hues than the conditions'
    "#332288", "#88CCEE", "#DDCC77", "#117733", "#CC6677", "#AA4499", "#44AA99", "#999933", "#882255",
)  # fmt: skip
INVALID, INVALID_COLOUR = "(invalid)", "#BBBBBB"
READING_WORDS = {"structured": "structured decoding", "free": "free decoding"}


def palette(jobs, trained) -> dict[str, str]:
    """Colour of each condition, in the order of `jobs`; conditions that were not trained share a grey."""
    names = list(dict.fromkeys(condition for condition, _ in jobs))
    learnt = [name for name in names if name in {condition for condition, *_ in trained}]
    colours = {name: CONDITION_COLOURS[i % len(CONDITION_COLOURS)] for i, name in enumerate(learnt)}
    return {name: colours.get(name, UNTRAINED) for name in names}


def readings(metrics: pl.DataFrame) -> list[tuple[str, str]]:
    """Each (split, decoding) that was evaluated, the main reading first; suites made from the ruleset are none."""
    found = metrics.filter(pl.col("suite").is_in(SPLITS)).select("suite", "decoding").unique().rows()
    return sorted(found, key=lambda r: (r[1] != "structured", r[0] != "holdout", r))


def in_words(reading: tuple[str, str]) -> str:
    """A (suite, decoding) for people."""
    suite, decoding = reading
    return f"{suite}, {READING_WORDS.get(decoding, decoding)}"


def title(text: str, *subtitles: str) -> alt.TitleParams:
    """The title of a chart: what is seen, and under it n, seeds and interval."""
    return alt.TitleParams(text, subtitle=list(subtitles), anchor="start", offset=12, subtitleColor="#555")


def panel_title(text: str, **options) -> alt.TitleParams:
    """The title of one panel of a chart."""
    return alt.TitleParams(text, anchor="start", fontSize=13, fontWeight="bold", subtitleFontSize=12, **options)


def finish(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """Fonts, margins and label limits of every chart; a label is never clipped."""
    return (
        chart.configure(font="sans-serif", padding=16, background="white")
        .configure_axis(
            labelLimit=0,
            maxExtent=2000,
            titleFontWeight="normal",
            gridColor="#E8E8E8",
            labelFontSize=12,
            titleFontSize=12,
        )
        .configure_legend(labelLimit=0, titleLimit=0, labelFontSize=12, symbolLimit=0)
        .configure_title(fontSize=15, subtitleFontSize=12, limit=0)
        .configure_header(labelLimit=0, titleLimit=0)
        .configure_view(stroke=None)
    )


def nothing_to_show(headline: str, reason: str, width: int) -> alt.TopLevelMixin:
    """A chart that says why it is empty."""
    text = alt.Chart(pl.DataFrame({"text": [reason]})).mark_text(fontSize=14, color="#555")
    return finish(text.encode(text="text:N").properties(width=width, height=80, title=title(headline)))


def seeds_in_words(seeds, several: str = "pooled") -> str:
    """`seed 0 alone`, or `3 seeds pooled`."""
    seeds = sorted(set(seeds))
    return f"seed {seeds[0]} alone" if len(seeds) == 1 else f"{len(seeds)} seeds {several}"


def legend_columns(names, width: int) -> int:
    """In how many columns a legend of these names is no wider than `width` px."""
    return max(1, width // (max(map(text_width, names)) + 50))  # a symbol, and the space between columns


def wrapped(name: str, size: int) -> list[str]:
    """A name in lines of at most `size` characters, broken after underscores where that is possible."""
    lines = [""]
    for part in re.findall(r"[^_]*_+|[^_]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > size:
            lines.append("")
        pieces = [part[i : i + size] for i in range(0, len(part), size)]
        lines[-1] += pieces[0]
        lines += pieces[1:]
    return lines


def text_width(text: str, font_size: int = 12) -> int:
    """How many px a text is wide at most, roughly."""
    return round(0.6 * font_size * len(text)) + 4
