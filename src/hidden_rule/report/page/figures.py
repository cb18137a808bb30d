"""Charts of the page: a static image that stands without JavaScript, and the specification of the interactive one.

Titles and notes of a chart become text of the page. Static images are data URIs, so that nothing inside one can reach
the page; specifications are data (JSON), drawn by the library that the page holds once.
"""

import base64
import copy
import json
import re
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.accuracy import accuracy_chart
from hidden_rule.report.charts.build import CHARTS
from hidden_rule.report.charts.files import VEGA_LITE, check_finite, without_inherited
from hidden_rule.report.charts.training import training_chart
from hidden_rule.report.page.alternatives import alternative

PADDING = 4  # px around a chart
PHONE = 180  # px: width of a plot on a phone


@dataclass(frozen=True)
class Picture:
    """One form of a chart."""

    uri: str  # of the static image
    width: int  # px
    height: int
    spec: dict


@dataclass(frozen=True)
class Figure:
    """A chart as the template takes it."""

    name: str
    title: str
    notes: list[str]
    alt: str
    wide: Picture
    narrow: Picture  # for a phone


def figures_of(results: Results, names) -> list[Figure]:
    """The charts of these names that have something to show; conditions by the names in `results`."""
    found = (figure_of(results, name) for name in names if name in CHARTS)
    return [figure for figure in found if figure]


def narrowed(results: Results) -> Results:
    """The same results, for charts that a phone shows; they share tables that were read."""
    other = copy.copy(results)
    other.config = results.config | {"charts": results.config["charts"] | {"width": PHONE}}
    return other


def figure_of(results: Results, name: str) -> Figure | None:
    """One chart; None for one that only says why it is empty."""
    chart: Any = page_chart(results, name)
    if chart is None:
        return None
    title = chart.title
    heading, notes = (title.text, title.subtitle) if title is not alt.Undefined else (name, [])
    if notes is alt.Undefined or not notes:  # of `nothing_to_show`
        return None
    narrow: Any = page_chart(narrowed(results), name)
    wide = picture_of(name, chart)
    return Figure(name, heading, list(notes), alternative(results, name), wide, picture_of(name, narrow))


def picture_of(name: str, chart: Any) -> Picture:
    """A chart drawn without its title."""
    chart.title = alt.Undefined
    spec = without_inherited(chart.to_dict())
    spec["config"] = spec.get("config", {}) | {"padding": PADDING, "background": "transparent", "aria": False}
    check_finite(spec, name)
    svg = rounded(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE))
    width, height = size_of(svg)
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return Picture(uri, width, height, spec)


def page_chart(results: Results, name: str):
    """A chart for the page without what another shows already: the first screen, and learning curves."""
    if name == "training":
        return training_chart(results, with_validation=False)
    if name != "accuracy":
        return CHARTS[name](results)
    others = results.evaluated[1:]
    return accuracy_chart(results, others) if others else None


def rounded(svg: str) -> str:
    """An image whose paths and places have two decimals: no pixel differs, and a page of many charts stays small."""

    def shorter(found: re.Match) -> str:
        return re.sub(r"(\.\d\d)\d+", r"\1", found[0])

    return re.sub(r'\s(?:d|transform)="[^"]*"', shorter, svg)


def size_of(svg: str) -> tuple[int, int]:
    """Width and height of an image in px."""
    found = [re.search(rf'<svg[^>]*?\s{side}="([\d.]+)', svg) for side in ("width", "height")]
    width, height = (round(float(one[1])) if one else 600 for one in found)
    return width, height


def brief(row: dict) -> dict:
    """A row of data whose numbers have six digits: more are not seen, and a page of many seeds stays small."""
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}


def as_data(figures: list[Figure]) -> Markup:
    """The specifications by name, as JSON that is safe within a script element: no text of it can end the element.

    Tables are held once: the `datasets` of a specification are names of those of `datasets`.
    """
    datasets: dict[str, list] = {}
    charts: dict[str, dict[str, dict]] = {}
    for figure in figures:
        for form, picture in (("wide", figure.wide), ("narrow", figure.narrow)):
            own = picture.spec.get("datasets", {})
            datasets |= {key: [brief(row) for row in rows] for key, rows in own.items()}
            charts.setdefault(figure.name, {})[form] = picture.spec | {"datasets": list(own)}
    text = json.dumps({"charts": charts, "datasets": datasets}, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # every character that could be markup is escaped
