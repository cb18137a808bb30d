"""Charts as images within a page, so that nothing inside one can reach the page."""

import base64
import re
from pathlib import Path


def embed_chart(svg_path, report_path, alt: str) -> dict:
    """An SVG as a data URI with its width in px, and a relative link to its interactive page where that lies beside."""
    path = Path(svg_path)
    text = path.read_bytes()
    width = re.search(rb'<svg[^>]*?\swidth="([\d.]+)', text)
    page = path.with_suffix(".html").resolve()
    return {
        "name": path.stem,
        "uri": "data:image/svg+xml;base64," + base64.b64encode(text).decode(),
        "width": round(float(width[1])) if width else 600,
        "alt": alt,
        "link": page.relative_to(Path(report_path).resolve().parent).as_posix(),
    }
