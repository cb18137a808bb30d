"""A chart as files: an interactive page, a vector image, a bitmap."""

import functools
import html
import json

import altair as alt
import vl_convert

from hidden_rule.core.errors import UserError

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])  # as vl_convert names it
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<script>{library}</script>
</head>
<body>
<div id="chart"></div>
<script>vegaEmbed("#chart", {spec}, {{mode: "vega-lite", renderer: "svg"}}).catch(console.error);</script>
</body>
</html>
"""


INHERITED = frozenset(  # keys that every JavaScript object has: Vega, which keeps groups by name in plain ones, trips
    ("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf")
)
INVISIBLE = "\N{ZERO WIDTH SPACE}"


def without_inherited(spec):
    """A specification in which no text of the data is one of INHERITED: an invisible character follows it."""
    if isinstance(spec, dict):
        return {key: without_inherited(value) for key, value in spec.items()}
    if isinstance(spec, list):
        return [without_inherited(value) for value in spec]
    return spec + INVISIBLE if isinstance(spec, str) and spec in INHERITED else spec


@functools.cache
def library() -> str:
    """The JavaScript that draws a page's chart."""
    return vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg] # `snippet` is optional


def chart_page(name: str, spec: dict) -> str:
    """A page that holds all it needs, and opens without a network; no text of the data is read as markup."""
    script = json.dumps(spec).replace("<", "\\u003c")  # "</script>" in a name would end the script otherwise
    return PAGE.format(title=html.escape(name), library=library(), spec=script)


def check_finite(spec: dict, name: str) -> None:
    """Raise UserError if a number of a chart is not finite."""
    try:
        json.dumps(spec, allow_nan=False)
    except ValueError as error:
        raise UserError(f"charts/{name}", None, "a number to be drawn is not finite", "see the tables of it") from error


def chart_bytes(name: str, chart: alt.TopLevelMixin, suffixes: list[str]) -> dict[str, bytes]:
    """The content of a chart's files by suffix: .html, .svg, .png (at twice the size)."""
    spec = without_inherited(chart.to_dict())  # slow: Altair checks all of it against Vega-Lite's schema
    check_finite(spec, name)
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    makers = {
        ".html": lambda: chart_page(name, spec).encode(),
        ".svg": svg.encode,
        ".png": lambda: vl_convert.svg_to_png(svg, scale=2),
    }
    return {suffix: makers[suffix]() for suffix in suffixes}
