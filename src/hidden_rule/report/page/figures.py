"""Charts of the page: a static image that stands without JavaScript, and the specification of the interactive one.

Titles and notes of a chart become text of the page. Static images are data URIs, so that nothing inside one can reach
the page; specifications are data (JSON), drawn by the library that the page holds once.
"""

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
from hidden_rule.report.charts.style import NARROW
from hidden_rule.report.charts.training import training_chart
from hidden_rule.report.page.alternatives import alternative
from hidden_rule.report.page.images import data_uri, small

PADDING = 4  # px around a chart
PHONE, PHONE_ROOM = 180, 350  # px: width of a plot on a phone, and of its page's column
SQUARE = ("calibration", "confusion", "suites")  # charts of plots of a size of their own
ROOM = 960  # px: width of the column of the page
FILLED = 0.85  # of the room, at least


@dataclass(frozen=True)
class Picture:
    """One form of a chart."""

    uri: Markup  # of the static image
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


def sized(results: Results, width: int) -> Results:
    """The same results, for charts with plots of another width in px; they share tables that were read."""
    other = copy.copy(results)
    other.config = results.config | {"charts": results.config["charts"] | {"width": width}}
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
    wide = fitted(results, name, results.config["charts"]["width"], ROOM, first=picture_of(name, chart))
    narrow = fitted(results, name, PHONE, PHONE_ROOM, most=NARROW)
    return Figure(name, heading, list(notes), alternative(results, name), wide, narrow)


def fitted(
    results: Results, name: str, width: int, room: int, most: int | None = None, first: Picture | None = None
) -> Picture:
    """A chart with plots of `width` px, or of up to `most` where the whole is then much narrower than `room`.

    The whole grows with the width of a plot, as many times as fast as there are plots beside each other. `first`: that
    with plots of `width`, if it is drawn already.
    """

    def with_plots(width: int) -> Picture:
        return picture_of(name, page_chart(sized(results, width), name))

    first = first or with_plots(width)
    if name in SQUARE or first.width >= FILLED * room:
        return first
    wider = min(most or room, width + room - first.width)
    second = with_plots(wider)
    if second.width > room / FILLED:
        growth = (second.width - first.width) / (wider - width)
        second = with_plots(width + round((room - first.width) / growth))
    return second if second.width <= room / FILLED else first


def picture_of(name: str, chart: Any) -> Picture:
    """A chart drawn without its title."""
    chart.title = alt.Undefined
    spec = without_inherited(chart.to_dict())
    spec["config"] = spec.get("config", {}) | {"padding": PADDING, "background": "transparent", "aria": False}
    check_finite(spec, name)
    svg = small(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE))
    width, height = size_of(svg)
    return Picture(data_uri(svg), width, height, spec)


def page_chart(results: Results, name: str):
    """A chart for the page without what another shows already: the first screen, and learning curves."""
    if name == "training":
        return training_chart(results, with_validation=False)
    if name != "accuracy":
        return CHARTS[name](results)
    others = results.evaluated[1:]
    return accuracy_chart(results, others) if others else None


def size_of(svg: str) -> tuple[int, int]:
    """Width and height of an image in px."""
    found = [re.search(rf'<svg[^>]*?\s{side}="([\d.]+)', svg) for side in ("width", "height")]
    width, height = (round(float(one[1])) if one else 600 for one in found)
    return width, height


def brief(value):
    """A number of six digits: more are not seen, and a page of many seeds stays small."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def as_columns(rows: list[dict]) -> dict | list[dict]:
    """A table as `n` and its columns by name, `[values]`, or `[values, places]` where values recur.

    Rows that do not all have the same keys stay rows.
    """
    keys = list(rows[0]) if rows else []
    if any(list(row) != keys for row in rows):
        return [{key: brief(value) for key, value in row.items()} for row in rows]
    return {"n": len(rows), "columns": {key: as_column([brief(row[key]) for row in rows]) for key in keys}}


def as_column(values: list) -> list[list]:
    """The values of a column; each once, and where it stands, if that is shorter."""
    places: dict[str, int] = {}
    at = [places.setdefault(json.dumps(value), len(places)) for value in values]
    forms = [[values], [[json.loads(value) for value in places], at]]
    return min(forms, key=lambda form: len(json.dumps(form)))


def as_data(figures: list[Figure]) -> Markup:
    """The specifications by name, as JSON that is safe within a script element: no text of it can end the element.

    Tables are held once, by columns: the `datasets` of a specification are names of those of `datasets`.
    """
    datasets: dict[str, dict | list] = {}
    charts: dict[str, dict[str, dict]] = {}
    for figure in figures:
        for form, picture in (("wide", figure.wide), ("narrow", figure.narrow)):
            own = picture.spec.get("datasets", {})
            datasets |= {key: as_columns(rows) for key, rows in own.items() if key not in datasets}
            charts.setdefault(figure.name, {})[form] = picture.spec | {"datasets": list(own)}
    text = json.dumps({"charts": charts, "datasets": datasets}, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # every character that could be markup is escaped
