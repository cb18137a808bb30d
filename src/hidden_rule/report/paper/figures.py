"""Untitled figures of a given width in millimetres, as SVG and PDF, in a font of one's choice.

A chart is laid out at the width that it will have in print (96 px an inch), so that its text stays at 9 points, and
scaled by what is then still missing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import vl_convert

from hidden_rule.core.errors import UserError
from hidden_rule.experiment.results import Results
from hidden_rule.report.charts.build import CHARTS, build_charts
from hidden_rule.report.charts.files import VEGA_LITE, check_finite, without_inherited
from hidden_rule.report.text.suites import NAMES

WIDTHS_MM = (85, 180)  # one column, and both
FONT = "sans-serif"
PX_A_MM, POINTS_A_MM = 96 / 25.4, 72 / 25.4
NARROWEST = 60  # px of a plot
SMALLEST = 6.0  # points of text; a figure whose text would be smaller is left out
TEXT = 9.0  # points of a chart's text, unscaled
CLOSE = 0.03  # off the width that is wanted: the rest is scaled
FROM_TABLES = ("accuracy", "forest", "expected_cost", "hidden_rule", "suites", "cost", "labels")
SIZE = re.compile(r'<svg([^>]*?)\swidth="([\d.]+)"([^>]*?)\sheight="([\d.]+)"([^>]*)>')


@dataclass(frozen=True)
class Drawing:
    """A chart as SVG, its width and height in px."""

    svg: str
    width: float
    height: float

    @classmethod
    def of(cls, svg: str) -> "Drawing":
        size = SIZE.search(svg)
        if size is None:
            raise ValueError("an SVG without width and height")
        return cls(svg, float(size[2]), float(size[4]))

    def sized(self, width: str, height: str) -> str:
        """The SVG with another width and height; what it shows is scaled."""
        shown = "" if "viewBox" in self.svg[:2000].partition(">")[0] else f' viewBox="0 0 {self.width} {self.height}"'
        return SIZE.sub(rf'<svg\1 width="{width}"\3 height="{height}"\5{shown}>', self.svg, count=1)

    def is_readable(self, width_mm: float) -> bool:
        """Whether its text is large enough at this width."""
        return TEXT * width_mm * PX_A_MM / self.width >= SMALLEST

    def as_svg(self, width_mm: float) -> str:
        height = width_mm * self.height / self.width
        return self.sized(f"{width_mm}mm", f"{height:.2f}mm")

    def as_pdf(self, width_mm: float) -> bytes:
        points = width_mm * POINTS_A_MM
        return vl_convert.svg_to_pdf(self.sized(f"{points:.2f}", f"{points * self.height / self.width:.2f}"))


def check_font(font: str) -> None:
    """Raise UserError for a font that is not installed: a PDF would lack every text."""
    plain = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", font))
    probe = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="9" font-family="{font}">x</text></svg>'
    )
    if not plain or b"/Font" not in vl_convert.svg_to_pdf(probe):
        remedy = "name the family of an installed font, as in FONT='Liberation Sans', serif or sans-serif"
        raise UserError("FONT", None, f"no font {font!r} is installed", remedy)


def charts_of(results: Results) -> list[str]:
    """The charts that can be drawn from what the folder holds: of a published run those that follow from its tables."""
    whole = all(results.layout.predictions(run).exists() for run in results.runs)
    whole = whole and all(results.layout.history(run).exists() for run in results.trained)
    names = [name for name in CHARTS if whole or name in FROM_TABLES]
    left_out = {
        "expected_cost": not results.config.get("decision_costs"),
        "hidden_rule": not results.ruleset.hidden_rules,
        "suites": not {*results.metrics["suite"]} & {*NAMES},
        "labels": results.supervision is None,
        "collapse": not any(of["method"] and "reward" in of["settings"] for of in results.settings.values()),
    }
    return [name for name in names if not left_out.get(name)]


def figures(results: Results, font: str = FONT, widths=WIDTHS_MM) -> dict[str, bytes]:
    """Content by file name, `figures/{chart}-{width}mm.{svg,pdf}`.

    Left out is a chart at a width at which its text would have less than SMALLEST points.
    """
    check_font(font)
    found = {}
    for name in charts_of(results):
        for width_mm in widths:
            drawing = drawn_to(results, name, width_mm * PX_A_MM, font)
            if not drawing.is_readable(width_mm):
                continue
            path = Path("figures") / f"{name}-{width_mm}mm"
            found[f"{path}.svg"] = drawing.as_svg(width_mm).encode()
            found[f"{path}.pdf"] = drawing.as_pdf(width_mm)
    return found


def drawn_to(results: Results, name: str, target: float, font: str) -> Drawing:
    """A chart whose whole width is about `target` px, as far as its plots may shrink.

    The whole width grows with that of a plot, a number of times as fast as there are plots beside each other.
    """
    width = max(NARROWEST, round(target) - 120)
    tried: dict[int, Drawing] = {}
    while width not in tried and len(tried) < 5:
        tried[width] = drawn(results, name, width, font, target)
        if abs(tried[width].width - target) <= CLOSE * target:
            break
        slope = 1.0
        if len(tried) > 1:
            before, last = list(tried)[-2:]
            slope = max(0.2, (tried[last].width - tried[before].width) / (last - before))
        width = max(NARROWEST, round(width + (target - tried[width].width) / slope))
    return min(tried.values(), key=lambda drawing: abs(drawing.width - target))


def drawn(results: Results, name: str, width: int, font: str, room: float) -> Drawing:
    """A chart without its title, with plots of about `width` px; room: px that the whole should take."""
    config = results.config | {"charts": results.config.get("charts", {}) | {"width": width, "room": room}}
    sized = Results(results.layout.folder, config, ruleset=results.ruleset)
    chart = build_charts(sized, [name])[name]
    spec = without_inherited(chart.to_dict(validate=False))  # slow, and done where the report's chart is drawn
    check_finite(spec, name)
    spec.pop("title", None)
    spec["config"] = spec.get("config", {}) | {"font": font, "padding": 2}
    return Drawing.of(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE))
