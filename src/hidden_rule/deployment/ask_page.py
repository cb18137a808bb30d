"""The page of `make ask`: a form of the ruleset's features, and every condition's answer to the case, side by side.

No script runs on it: a form is posted, a page comes back. Every text of a case, a label or a name is escaped.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import polars as pl
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from hidden_rule.core.errors import UserError
from hidden_rule.core.paths import WORKFLOW
from hidden_rule.deployment.ask_answers import Asked, ask, rule_sentence
from hidden_rule.deployment.asked_cases import value_of
from hidden_rule.deployment.chat_requests import RequestError
from hidden_rule.deployment.panel import Panel
from hidden_rule.deployment.web import Access, read_body
from hidden_rule.report.standalone import policy, render_page
from hidden_rule.report.text.phrases import percent
from hidden_rule.task.ruleset import Feature

TEMPLATE, STYLE = (WORKFLOW / "report" / name for name in ("ask.html.j2", "ask.css"))
MAX_BODY = 2**20  # bytes
MAX_FIELDS = 2000
BODY_S = 30.0
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # cases are other people's data
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Field:
    """A feature in the form: its input, what was entered, and what is wrong with that."""

    id: str
    name: str
    kind: str  # number | choice | text
    hint: str
    step: str  # of a number's input
    choices: tuple[str, ...]
    value: str
    fault: str = ""


def hint_of(feature: Feature) -> str:
    """What a feature's values are, beside its input."""
    if feature.kind != "number":
        return feature.unit
    return ", ".join([f"{feature.low:g} to {feature.high:g}", *([feature.unit] if feature.unit else [])])


def fields_of(panel: Panel, values: dict[str, str], faults: dict[str, str]) -> list[Field]:
    """The form's fields with texts entered by the places of features."""
    ruleset = panel.ruleset
    fields = []
    for i, feature in enumerate(ruleset.features):
        value = values.get(str(i), "")
        choices = feature.choices if feature.kind == "choice" else ()
        if choices and ruleset.is_observed:
            choices = ("", *choices)
        if choices and value not in choices:
            choices = (*choices, value)  # what was posted stays visible beside its fault
        step = "1" if feature.dtype == pl.Int64 else "any"
        parts = (f"f{i}", feature.name, feature.kind, hint_of(feature), step, choices, value)
        fields.append(Field(*parts, faults.get(str(i), "")))
    return fields


def entered_case(panel: Panel, values: dict[str, str]) -> tuple[pl.DataFrame | None, dict[str, str]]:
    """The case of one row that was entered, or None, and what is wrong by the places of features."""
    row, faults, ruleset = {}, {}, panel.ruleset
    for i, feature in enumerate(ruleset.features):
        try:
            row[feature.name] = value_of(feature, values.get(str(i), ""), ruleset.is_observed, "")
        except UserError as error:
            faults[str(i)] = f"{error.fault}; {error.remedy}" if error.remedy else error.fault
    return (None if faults else pl.DataFrame([row], schema=ruleset.feature_schema)), faults


def shown_answers(asked: Asked) -> list[dict]:
    """The answers as the template takes them."""
    return [
        {
            "name": of.name,
            "label": of.label,
            "follows": of.follows,
            "shares": [(label, share, percent(share)) for label, share in of.probabilities.items()],
        }
        for of in asked.answers
    ]


class AskPage:
    """The page of a panel."""

    def __init__(self, panel: Panel, access: Access | None = None):
        self.panel, self.access = panel, access or Access()
        self._thread = ThreadPoolExecutor(1, "answers")  # one case at a time: a tokenizer belongs to one thread
        self._first = self._first_values()

    def _first_values(self) -> dict[str, str]:
        """The first case of the test split, to start from."""
        row = self.panel.results.split("test").row(0, named=True)
        features = enumerate(self.panel.ruleset.features)
        return {str(i): "" if row[of.name] is None else of.as_text(row[of.name]) for i, of in features}

    def render(self, values: dict[str, str], faults: dict[str, str], asked: Asked | None, fault: str = "") -> str:
        """The page's HTML."""
        results, ruleset = self.panel.results, self.panel.ruleset
        several = len(results.seeds) > 1
        context = {
            "title": "Ask every condition",
            "experiment": results.config["experiment"],
            "seed": f"seed {self.panel.seed}" if several else "",
            "a_case": ruleset.case.a_case,
            "fields": fields_of(self.panel, values, faults),
            "labels": list(ruleset.labels),
            "answers": shown_answers(asked) if asked else [],
            "rule": rule_sentence(asked.rule) if asked and asked.rule else "",
            "judged": bool(asked and asked.answers and asked.answers[0].follows is not None),
            "notes": asked.notes if asked else [],
            "n_faults": len(faults),
            "fault": fault,
        }
        return render_page(TEMPLATE, context, STYLE)

    def _page(self, html: str, status: int = 200) -> Response:
        rules = policy(Path(STYLE).read_text(encoding="utf-8"))
        rules = rules.replace("form-action 'none'", "form-action 'self'; frame-ancestors 'none'")
        return HTMLResponse(html, status, {**HEADERS, "Content-Security-Policy": rules})

    async def get(self, request: Request) -> Response:
        """The form, filled with a first case."""
        self.access.check(request)
        return self._page(self.render(self._first, {}, None))

    async def post(self, request: Request) -> Response:
        """The form with its case, and the answers to it."""
        self.access.check(request)
        self._check_origin(request)
        values = form_values(await read_body(request, MAX_BODY, BODY_S))
        case, faults = entered_case(self.panel, values)
        if case is None:
            return self._page(self.render(values, faults, None), 422)
        loop = asyncio.get_running_loop()
        try:
            asked = await loop.run_in_executor(self._thread, ask, self.panel, case)
        except UserError as error:
            said = f"{error.fault}; {error.remedy}" if error.remedy else error.fault
            return self._page(self.render(values, {}, None, said), 422)
        return self._page(self.render(values, {}, asked))

    def _check_origin(self, request: Request) -> None:
        """Raise RequestError for a form that another site posts."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        own = f"http://{request.headers.get('host', '')}"
        if (origin not in (None, "null", own)) or (site not in (None, "same-origin", "none")):
            raise RequestError("a form of another site is not answered", status=403)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise RequestError("only the page's own form is answered", status=415)

    def close(self) -> None:
        self._thread.shutdown()


def form_values(body: bytes) -> dict[str, str]:
    """The fields of a posted form by the places of features; raises RequestError for what is no form."""
    try:
        found = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise RequestError("the form cannot be read") from None
    return {name.removeprefix("f"): values[-1] for name, values in found.items()}


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return PlainTextResponse(f"{error.message}\n", error.status, HEADERS)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, HEADERS)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


def make_page(page: AskPage) -> Starlette:
    """The application of a page."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        page.close()

    return Starlette(
        routes=[Route("/", page.get), Route("/", page.post, methods=["POST"])],
        exception_handlers={RequestError: _refuse, HTTPException: _no_route, ClientDisconnect: _gone},
        lifespan=lifespan,
    )
