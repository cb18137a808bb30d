"""Static images of charts, made small without a change of what they show.

Vega repeats the whole look of every mark, and names each for a screen reader, which an image element hides (its text
alternative stands beside it). Here what all marks of a group share stands once, at the group, and what shows nothing is
left out. Numbers of paths and places have two decimals: no pixel differs.
"""

import re
from urllib.parse import quote
from xml.etree import ElementTree

from markupsafe import Markup

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
INHERITED = (  # presentation attributes that a group hands down (SVG 1.1, property index)
    "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "stroke-linecap",
    "stroke-linejoin", "font-family", "font-size", "font-weight", "font-style", "text-anchor",
)  # fmt: skip
UNSEEN = ("class", "role", "aria-hidden", "aria-label", "aria-roledescription", "pointer-events")
DEFAULTS = {"opacity": "1"}  # not inherited, so that leaving it out changes nothing
NOWHERE = "translate(0,0)"
WIDER = 0.16  # widest usual sans-serif (DejaVu Sans) against the narrowest (Arial)
DECIMALS = re.compile(r"(\.\d\d)\d+")
TAG = re.compile(r"<[^>]*>")  # in what ElementTree writes, which has no bare > in an attribute
RGB = re.compile(r"rgb\((\d+), (\d+), (\d+)\)")


def small(svg: str, wider: float = WIDER) -> str:
    """The same image in fewer bytes; wider: what is added to the room on its left, as a share of it."""
    for prefix, name in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, name)
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        shorten(element)
    root.attrib.pop("version", None)
    lighten(root)
    widen(root, wider)
    return ElementTree.tostring(root, encoding="unicode")


def data_uri(svg: str) -> Markup:
    """An image of `small` as a URI for `src`, `srcset` or `href`: a sixth shorter than as base64.

    Attributes stand in single quotes, which need no escape; texts are as they were. What HTML or a URI would take for
    its own is percent-encoded.
    """
    quoted = TAG.sub(lambda tag: tag[0].replace("'", "&apos;").replace('"', "'"), svg)
    return Markup("data:image/svg+xml," + quote(quoted, safe="!$'()*+,-./:;=?@_~"))


def widen(root: ElementTree.Element, share: float) -> None:
    """Leave more room on the left, for labels in a font that is wider than the one that the image was laid out for."""
    first = next((child for child in root if is_group(child)), None)
    found = re.match(r"translate\(([\d.]+),", "" if first is None else first.get("transform", ""))
    sides = root.get("viewBox", "").split()
    if found and len(sides) == 4:
        more = round(share * float(found[1]))
        left, top, width, height = map(float, sides)
        root.set("viewBox", f"{left - more:g} {top:g} {width + more:g} {height:g}")
        root.set("width", f"{width + more:g}")


def shorten(element: ElementTree.Element) -> None:
    """Leave out of one element what shows nothing, and digits that nobody sees."""
    of = element.attrib
    for key in UNSEEN:
        of.pop(key, None)
    for key, value in DEFAULTS.items():
        if of.get(key) == value:
            del of[key]
    for key in ("d", "transform"):
        if key in of:
            of[key] = DECIMALS.sub(r"\1", of[key])
    if of.get("transform") == NOWHERE:
        del of["transform"]
    for key in ("fill", "stroke"):
        if key in of:
            of[key] = RGB.sub(lambda found: "#{:02x}{:02x}{:02x}".format(*map(int, found.groups())), of[key])


def lighten(parent: ElementTree.Element, inherited: dict[str, str] | None = None) -> None:
    """Drop children that draw nothing, put what the rest share at the parent, and unwrap groups that say nothing.

    inherited: attributes that the parent has from above it.
    """
    inherited = (inherited or {}) | {key: value for key, value in parent.attrib.items() if key in INHERITED}
    for child in list(parent):
        if is_group(child):
            lighten(child, inherited)
        if draws_nothing(child, inherited):
            parent.remove(child)
    unwrapped: list[ElementTree.Element] = []
    for child in parent:
        unwrapped += list(child) if is_group(child) and not child.attrib else [child]
    parent[:] = unwrapped
    if len(parent) > 1:
        share(parent)


def share(parent: ElementTree.Element) -> None:
    """Attributes that all children have alike stand at their parent alone."""
    for key in INHERITED:
        values = {child.get(key) for child in parent}
        if len(values) == 1 and (value := values.pop()) is not None:
            parent.set(key, value)
            for child in parent:
                del child.attrib[key]


def is_group(element: ElementTree.Element) -> bool:
    return element.tag == f"{{{SVG}}}g"


def draws_nothing(element: ElementTree.Element, inherited: dict[str, str]) -> bool:
    """Whether an element is an empty group, is hidden, or is a path without a place, a filling or a line."""
    if is_group(element):
        return len(element) == 0
    if element.get("display") == "none":
        return True
    if element.tag != f"{{{SVG}}}path":
        return False
    looks = inherited | element.attrib
    invisible = looks.get("fill", "none") == "none" and looks.get("stroke", "none") == "none"
    return not element.get("d") or (invisible and "fill" in looks)
