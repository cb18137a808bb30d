"""What a screen reader and a keyboard need of the pages: structure, names, and contrast in both themes."""

import re
from html.parser import HTMLParser

import pytest

from conftest import ROOT
from hidden_rule.report.compare.page import write_comparison
from hidden_rule.report.page import write_report
from synthetic import WORLD, make_ruleset, write_results

FOLDER = ROOT / "workflow" / "report"
SIZES = [("test", "structured", 40, 0), ("holdout", "structured", 40, 1000), ("test", "free", 40, 0)]
TEXT = {  # colours of text and what is behind them, by style
    "report.css": [
        *((ink, paper) for ink in ("ink", "soft", "accent") for paper in ("paper", "tint")),
        *((ink, "paper") for ink in ("good", "warn", "bad")),
        ("ink", "bar"),
    ],
    "standalone.css": [
        *((ink, paper) for ink in ("ink", "soft", "accent") for paper in ("paper", "tint")),
        *((ink, paper) for ink in ("good", "bad") for paper in ("paper", f"{ink}-tint")),
    ],
}


def themes(style: str) -> dict[str, dict[str, str]]:
    """The colours of the light and of the dark theme by their names."""
    light, dark = re.search(
        r":root \{(.*?)\}.*?prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", style, re.S
    ).groups()
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", text)) for text in (light, dark)]
    return {"light": found[0], "dark": found[0] | found[1]}


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio (WCAG 2.2), 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#fff") == pytest.approx(4.54, abs=0.01)  # WCAG's known grey that just passes


@pytest.mark.parametrize("style", TEXT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_of_level_aa(style, theme):
    colours = themes((FOLDER / style).read_text(encoding="utf-8"))[theme]
    for ink, paper in TEXT[style]:
        assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)


class Outline(HTMLParser):
    """Headings, ids, landmarks, images, and texts of links, buttons and headers of columns."""

    def __init__(self, page: str):
        super().__init__()
        self.language, self.headings, self.ids, self.labels, self.images = None, [], [], [], []
        self.references: list[str] = []
        self.named: list[list] = []  # tag and its text
        self.open: list[list] = []
        self.scrolls: list[dict] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.ids += [of["id"]] if "id" in of else []
        self.references += [of[key] for key in ("aria-labelledby",) if key in of]
        self.references += [of["href"][1:]] if of.get("href", "").startswith("#") else []
        if tag == "html":
            self.language = of.get("lang")
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if of.get("role") == "region":
            self.labels.append(of.get("aria-label"))
        if "scroll" in of.get("class", "").split():
            self.scrolls.append(of)
        if tag == "img":
            self.images.append(of.get("alt"))
        if tag in ("a", "button", "th", "caption", "summary", "title"):
            self.open.append([tag, of.get("aria-label") or ""])

    def handle_data(self, data):
        for one in self.open:
            one[1] += data

    def handle_endtag(self, tag):
        if self.open and self.open[-1][0] == tag:
            self.named.append(self.open.pop())


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Outline]:
    folder = tmp_path_factory.mktemp("pages")
    runs = []
    for name, world in (("a", WORLD), ("b", {"baseline": WORLD["baseline"], "sft": WORLD["sft"]})):
        (folder / name).mkdir()
        runs.append(write_results(folder / name, make_ruleset(4), world, sizes=SIZES, n_steps=20))
    write_report(runs[0], folder / "report.html", ["confusion"], FOLDER / "report.html.j2")
    write_comparison(*runs, folder / "compare.html")
    return {name: Outline((folder / f"{name}.html").read_text(encoding="utf-8")) for name in ("report", "compare")}


@pytest.mark.parametrize("name", ["report", "compare"])
def test_pages_have_an_outline_and_names(pages, name):
    page = pages[name]
    assert page.language == "en" and page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert len(page.ids) == len({*page.ids}) and {*page.references} <= {*page.ids}
    assert len(page.labels) > 3 and all(page.labels) and len(page.labels) == len({*page.labels})
    assert all(page.images) and (name == "compare" or page.images)
    assert page.scrolls and all(of.get("tabindex") == "0" and of.get("aria-label") for of in page.scrolls)
    assert all(text.strip() for _, text in page.named), [tag for tag, text in page.named if not text.strip()]
