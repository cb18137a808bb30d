"""Pages that stand alone: one file, no request to any host, no script or style but their own.

Their content security policy names the hash of each script and style in the page, so that nothing else can run. Data
stand in a script element of type application/json, which is never executed, and reach the page as text alone.
"""

import base64
import hashlib
import json
from pathlib import Path

import jinja2


def as_json(value) -> str:
    """JSON that cannot end the element in which it stands, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def policy(style: str, script: str = "") -> str:
    """The content security policy of a page with this style and script, and nothing else."""
    rules = [
        "default-src 'none'",
        f"style-src '{_hash(style)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*rules, f"script-src '{_hash(script)}'"] if script else rules)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render_page(template_path, context: dict, style_path, script_path=None) -> str:
    """Fill a template that embeds `style` and, where there is one, `script`; every other value is escaped.

    `data` of the context, where there is one, is embedded as JSON. A name that is missing is an error.
    """
    path = Path(template_path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style = Path(style_path).read_text(encoding="utf-8")
    script = Path(script_path).read_text(encoding="utf-8") if script_path else ""
    parts = {"style": jinja2.utils.markupsafe.Markup(style), "script": jinja2.utils.markupsafe.Markup(script)}
    if "data" in context:
        parts["data"] = jinja2.utils.markupsafe.Markup(as_json(context["data"]))
    return environment.get_template(path.name).render(context | parts | {"policy": policy(style, script)})
