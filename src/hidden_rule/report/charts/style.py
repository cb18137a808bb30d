"""How every chart looks: colours, titles, fonts, axes and legends."""

import re
from collections.abc import Mapping
from typing import TypeAlias

import altair as alt
import polars as pl

Chart: TypeAlias = alt.TopLevelMixin
UNTRAINED = "#6B6B6B"
CONDITION_COLOURS = (  # Okabe & Ito (2008): distinct to colour-blind readers and in grey
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F",
    "#9EDE3B", "#7A3FD1", "#661100", "#B59CFF",  # and four more, each as far from all others as a search found (CIELAB)
)  # fmt: skip
LIGHTEST = 0.65  # share of white in the lightest shade of a group
LABEL_COLOURS = (  # Paul Tol's "muted": also distinct, in other hues than the conditions'
    "#332288", "#88CCEE", "#DDCC77", "#117733", "#CC6677", "#AA4499", "#44AA99", "#999933", "#882255",
)  # fmt: skip
INVALID_COLOUR = "#BBBBBB"
WARNING = "#B00020"
REFERENCES_HOLLOW = "Hollow: references, which train no language model"
DASHED = [4, 4]


NARROW = 240  # px: plots that are no wider stand below each other, as on a phone
NARROW_LINE = 42  # characters of a heading in one line above such a plot


def width_of(results) -> int:
    """Width of a plot in px."""
    return results.config["charts"]["width"]


def is_narrow(results) -> bool:
    return width_of(results) <= NARROW


def columns_of(results, n: int) -> int:
    """How many of `n` panels stand side by side."""
    return 1 if is_narrow(results) else n


def heading_of(text, results):
    """The heading of a plot, in lines where plots are narrow."""
    return wrapped(text, NARROW_LINE) if is_narrow(results) and isinstance(text, str) else text


def condition_colours(results) -> dict[str, str]:
    """Colour of each condition, the same in every chart; those without training share a grey.

    Of more conditions than colours, those with the same method and start are shades of one colour.
    """
    trained = [name for name in results.conditions if name in results.starts]
    colours = dict(zip(trained, CONDITION_COLOURS, strict=False))
    if len(trained) > len(CONDITION_COLOURS):
        groups: dict[tuple, list[str]] = {}
        for name in trained:
            groups.setdefault((results.settings[name]["method"], results.starts[name]), []).append(name)
        colours = {
            name: shade(CONDITION_COLOURS[i % len(CONDITION_COLOURS)], LIGHTEST * k / len(names))
            for i, names in enumerate(groups.values())
            for k, name in enumerate(names)
        }
    return {name: colours.get(name, UNTRAINED) for name in results.conditions}


def shade(colour: str, white: float) -> str:
    """A colour with a share of white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * white):02X}" for part in parts)


def filling(results) -> dict:
    """How points are drawn on their colour: filled, those of references hollow. An argument of `encode`."""
    hollow = alt.FieldOneOfPredicate(field="condition", oneOf=results.references)
    colour = alt.Color("condition:N", scale=scale_of(condition_colours(results)), legend=None)
    return {"stroke": colour, "fill": alt.condition(hollow, alt.value("white"), colour)}


def reference_notes(results) -> list[str]:
    """What hollow points are, as a line of a subtitle, where there are any."""
    return [REFERENCES_HOLLOW] if results.references else []


def scale_of(looks: Mapping) -> alt.Scale:
    """A scale from names to their colours, shapes or dashes."""
    return alt.Scale(domain=list(looks), range=list(looks.values()))


def title(text: str, *subtitles: str) -> alt.TitleParams:
    """The title of a chart: what is shown, and under it n, seeds and interval."""
    return alt.TitleParams(text, subtitle=list(subtitles), anchor="start", offset=12, subtitleColor="#555")


def panel_title(text, **options) -> alt.TitleParams:
    """The title of one panel of a chart."""
    return alt.TitleParams(text, anchor="start", fontSize=13, fontWeight="bold", subtitleFontSize=12, **options)


def finish(chart: Chart) -> Chart:
    """Fonts, margins and label limits of every chart; no label is clipped."""
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


def nothing_to_show(headline: str, reason: str, results) -> Chart:
    """A chart that says why it is empty."""
    text = alt.Chart(pl.DataFrame({"text": [reason]})).mark_text(fontSize=14, color="#555")
    return finish(text.encode(text="text:N").properties(width=width_of(results), height=80, title=title(headline)))


def chance_rule(chance: float) -> alt.Chart:
    """A dashed line at `chance`, in the field `value`."""
    return alt.Chart(pl.DataFrame({"value": [float(chance)]})).mark_rule(color="#888", strokeDash=DASHED)


def percent_tooltips(*fields: str) -> list[alt.Tooltip]:
    """Shares in a tooltip, in percent."""
    return [alt.Tooltip(f"{field}:Q", format=".1%") for field in fields]


def seeds_in_words(seeds, several: str = "pooled") -> str:
    """`seed 0 only`, or `3 seeds pooled`."""
    seeds = sorted(set(seeds))
    return f"seed {seeds[0]} only" if len(seeds) == 1 else f"{len(seeds)} seeds {several}"


def legend_columns(names, width: int) -> int:
    """The number of columns in which a legend of these names is at most `width` px wide."""
    return max(1, width // (max(map(text_width, names)) + 50))  # a symbol, and the space between columns


def wrapped(name: str, size: int) -> list[str]:
    """A name in lines of at most `size` characters, broken after underscores and spaces where that is possible."""
    lines = [""]
    for part in re.findall(r"[^_ ]*[_ ]+|[^_ ]+", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > size:
            lines.append("")
        pieces = [part[i : i + size] for i in range(0, len(part), size)]
        lines[-1] += pieces[0]
        lines += pieces[1:]
    return [whole for line in lines if (whole := line.rstrip())]


def text_width(text: str, font_size: int = 12) -> int:
    """Maximum width of a text in px, roughly."""
    return round(0.6 * font_size * len(text)) + 4
