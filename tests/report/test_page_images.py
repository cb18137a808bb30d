"""Images and data of the page are small, and show and hold what they did."""

import re
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import canonicalize as canonical

import pytest
import vl_convert

from hidden_rule.experiment.display import DisplayedResults, displayed
from hidden_rule.report.charts.build import CHARTS
from hidden_rule.report.charts.files import VEGA_LITE
from hidden_rule.report.page.figures import FILLED, PHONE_ROOM, ROOM, as_columns, figure_of
from hidden_rule.report.page.images import DECIMALS, data_uri, small
from hidden_rule.report.page.many import fits_page
from synthetic import named_ruleset, write_results

WORLD = {
    "baseline": {"method": None, "accuracy": 0.3},
    "grpo": {"method": "grpo", "accuracy": 0.5, "collapsed": True},
}
LABELS = ["<b>&yes</b>", 'say "no"', "a'b", "決✅"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> DisplayedResults:
    ruleset = named_ruleset(LABELS, ["r<1>", "r2", "r3"])
    sizes = [("test", "structured", 40, 0), ("holdout", "structured", 40, 1000), ("test", "free", 40, 0)]
    return displayed(write_results(tmp_path_factory.mktemp("images"), ruleset, WORLD, n_steps=12, sizes=sizes))


@pytest.fixture(scope="module")
def svgs(results) -> dict[str, str]:
    """Charts of all marks, of clipped panels and of labels of any spelling, as Vega writes them."""
    specs = {name: CHARTS[name](results).to_dict() for name in ("confusion", "calibration", "collapse", "forest")}
    return {name: vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE) for name, spec in specs.items()}


def test_no_pixel_differs(svgs):
    for name, svg in svgs.items():
        plain = re.sub(r'\s(?:d|transform)="[^"]*"', lambda found: DECIMALS.sub(r"\1", found[0]), svg)
        shorter = small(svg, wider=0)
        assert vl_convert.svg_to_png(shorter) == vl_convert.svg_to_png(plain), name
        assert len(shorter) < 0.7 * len(svg), name


def test_an_image_is_the_same_as_a_uri(svgs):
    for svg in map(small, svgs.values()):
        uri = data_uri(svg)
        read = unquote(uri.removeprefix("data:image/svg+xml,"))
        assert canonical(read) == canonical(svg) and not set(uri) & set('"<>& \n#')
    odd = """<svg a="it's &gt; &quot;x&quot;">say "no" &amp; 'yes' 100%</svg>"""
    assert canonical(unquote(data_uri(odd).removeprefix("data:image/svg+xml,"))) == canonical(odd)


def test_a_chart_fills_its_column_and_no_more(results):
    figure = figure_of(results, "cost")
    assert figure and FILLED * ROOM <= figure.wide.width <= ROOM / FILLED
    assert 0.8 * PHONE_ROOM <= figure.narrow.width <= PHONE_ROOM / FILLED


@pytest.mark.parametrize(
    ("columns", "cell", "fits"),
    [
        (["a", "b"], "two words", True),
        (["a", "b"], "x" * 54, True),
        (["a", "b"], "x" * 55, False),
        (["a", "b"], "x" * 40 + " " + "y" * 40, True),  # breaks between words
        (["a"] * 20, "12.5% (1.0–2.0)", False),
        (["x" * 120], "", False),
    ],
)
def test_tables_whose_words_fit_a_printed_page_break_none(columns, cell, fits):
    assert fits_page({"columns": columns, "rows": [[cell] * len(columns)]}) == fits


def test_labels_have_room_for_a_wider_font():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="90" viewBox="0 0 300 90">{}</svg>'
    root = ElementTree.fromstring(small(svg.format('<g transform="translate(100,5)"><text>x</text></g>'), wider=0.2))
    assert (root.get("width"), root.get("viewBox")) == ("320", "-20 0 320 90")
    assert ElementTree.fromstring(small(svg.format("<text>x</text>"))).get("width") == "300"


def test_names_stand_in_images_as_they_are(svgs):
    texts = {"".join(one.itertext()) for one in ElementTree.fromstring(small(svgs["confusion"])).iter()}
    assert {*LABELS} <= texts


@pytest.mark.parametrize(
    ("svg", "kept"),
    [
        ('<g fill="red"><path d="M0,0h9v9Z"/><path d="M9,0h9v9Z"/></g>', ["path", "path"]),
        ('<g fill="none"><path d="M0,0h9v9Z"/><path d="M9,0h9v9Z" stroke="red"/></g>', ["path"]),
        ('<g><path d=""/><path d="M0,0h9v9Z" display="none"/><g/><text>x</text></g>', ["text"]),
        ("<path d='M0,0h9v9Z'/>", ["path"]),  # black, unless it is said
    ],
)
def test_only_what_draws_nothing_goes(svg, kept):
    root = ElementTree.fromstring(small(f'<svg xmlns="http://www.w3.org/2000/svg">{svg}</svg>'))
    assert [one.tag.partition("}")[2] for one in root.iter() if one.tag[-2:] not in ("}g", "vg")] == kept


def rows_of(table) -> list[dict]:
    """What report.js makes of a table."""
    if isinstance(table, list):
        return table
    columns = table["columns"].items()
    return [{name: of[0][of[1][i] if len(of) > 1 else i] for name, of in columns} for i in range(table["n"])]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"a": 1, "b": None}],
        [{"a": "same words", "b": i / 8, "c": i % 2 == 0, "d": None} for i in range(50)],
        [{"a": value} for value in (1, True, 1.5, "1", None, "true") * 9],
        [{"a": 1}, {"b": 2}],
    ],
)
def test_tables_by_columns_hold_the_same_rows(rows):
    table = as_columns(rows)
    assert rows_of(table) == rows and [[*map(type, row.values())] for row in rows_of(table)] == [
        [*map(type, row.values())] for row in rows
    ]
