"""A case put to every condition: as evaluated, by JSON and by a page that runs nothing and asks no other host."""

import http.client
import json
import threading
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import polars as pl
import pytest
import uvicorn
from test_page import browser, requests_of
from tiny_export import FINCORP, write_adapter
from tiny_run import WORLD

from byte_models import byte_manifest
from hidden_rule.core.errors import UserError
from hidden_rule.deployment import ask as command
from hidden_rule.deployment.ask_answers import ask, rule_sentence, table
from hidden_rule.deployment.ask_page import AskPage, form_values, make_page
from hidden_rule.deployment.asked_cases import case_of, held_rules, parse_case, unusual
from hidden_rule.deployment.chat_requests import RequestError
from hidden_rule.deployment.finished_runs import condition_of, read_run
from hidden_rule.deployment.panel import Panel
from hidden_rule.deployment.web import bind
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.task.cases.own import CaseSettings, SplitSettings, read_own_cases
from hidden_rule.task.dataset import dataset_schema
from hidden_rule.task.ruleset import load_ruleset

RULESET = load_ruleset(FINCORP)
CASE = {
    "founder_background": "Ex-Google", "revenue_musd": 20, "burn_rate_pct": 95, "nps": 10, "sector": "Retail",
    "region": "Asia", "team_size": 9,
}  # fmt: skip
HOSTILE = "</textarea><script>alert(1)</script>"


@pytest.fixture(scope="module")
def panel(tiny_run):
    return Panel(tiny_run, 0)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A panel of a file of past decisions without rules: a number that may be missing, a choice, a text."""
    folder = tmp_path_factory.mktemp("own")
    rows = [
        {"amount": "" if i % 7 == 0 else str(i), "<b>kind</b>": "ab"[i % 2], "note": f"text {i} of it, {i * 7}",
         "decision": "yes" if i % 3 else "no"}
        for i in range(60)
    ]  # fmt: skip
    path = folder / "cases.csv"
    pl.DataFrame(rows).write_csv(path)
    sizes = {"train": 30, "validation": 5, "test": 10, "holdout": 15}
    splits = SplitSettings(sizes, frozenset(sizes), 0)
    named = {"text": ("note",), "features": ("amount", "<b>kind</b>")}
    cases = read_own_cases(CaseSettings(str(path), "decision", splits, **named))
    manifest = byte_manifest(folder)
    config = {"experiment": "own", "seeds": [0, 1], "conditions": {"baseline": {}, "sft": {"method": "sft"}}, "sft": {}}
    config |= {"model": {"dtype": "float32", "chat_template_kwargs": {}}, "evaluation": {"batch_size": 4}}
    results = Results(folder / "results" / "own", config, ruleset=cases.ruleset)
    results.layout.split("test").parent.mkdir(parents=True)
    for name, frame in cases.splits.items():
        frame.cast(dict(dataset_schema(cases.ruleset))).write_parquet(results.layout.split(name))
    results.layout.model.write_text(manifest.read_text())
    write_adapter(manifest, results.layout.adapter(Run("sft", 1)), 0)
    return Panel(results, 1)


# --- the panel --------------------------------------------------------------------------------------------------------


def test_every_condition_answers_as_it_was_evaluated(panel, tiny_run):
    """Adapters switched on one base, prompts of their own, a classifier fitted again: by each run's predictions."""
    holdout = tiny_run.split("holdout")
    shares = [f"p_{label}" for label in RULESET.labels]
    found = {}
    for condition in (*panel.conditions, *reversed(panel.conditions)):  # whatever was asked before
        expected = tiny_run.predictions(Run(condition, 0)).filter(suite="holdout").select(shares).collect().to_numpy()
        found[condition] = panel.probabilities(condition, holdout)
        np.testing.assert_allclose(found[condition], expected, atol=2e-5)
    assert set(found) == set(WORLD)
    names = list(found)
    for i, name in enumerate(names):
        for other in names[:i]:
            assert np.abs(found[name] - found[other]).max() > 2e-4, f"{name} and {other} differ"


def test_a_panel_of_classifiers_needs_no_model(tiny_run, monkeypatch):
    monkeypatch.setattr("hidden_rule.deployment.panel.load_model", lambda *_: pytest.fail("loaded"))
    alone = Panel(tiny_run, 0, ["logistic"])
    assert alone.conditions == ["logistic"] and not alone.asks_a_model
    assert alone.probabilities("logistic", tiny_run.split("test")).shape == (8, 4)


def test_an_adapter_that_is_gone_is_named(tiny_run, tmp_path):
    moved = Results(tmp_path, tiny_run.config, ruleset=RULESET)
    with pytest.raises(UserError, match=r"adapters/items/seed0: has no adapter; run the experiment again"):
        Panel(moved, 0, ["items"])


# --- a case -----------------------------------------------------------------------------------------------------------


def test_the_answers_to_a_case(panel):
    asked = ask(panel, case_of(CASE, RULESET, "CASE"))
    assert [of.condition for of in asked.answers] == panel.conditions and not asked.notes
    assert (asked.rule.name, asked.rule.is_hidden, asked.rule.label_without_hidden) == (
        "vip_override",
        True,
        "REJECT_RISK",
    )
    assert rule_sentence(asked.rule) == (
        "The rule vip_override (hidden) holds: MANUAL_REVIEW; without hidden rules it would be REJECT_RISK."
    )
    for of in asked.answers:
        assert of.label == max(of.probabilities, key=of.probabilities.get)
        assert sum(of.probabilities.values()) == pytest.approx(1) and of.follows == (of.label == "MANUAL_REVIEW")
    lines = table(asked)
    assert len(lines) == 1 + len(WORLD) and lines[0].split()[:3] == ["condition", "decision", "MANUAL_REVIEW"]
    assert any(line.startswith("Untrained  ") for line in lines) and all("%" in line for line in lines[1:])
    said = json.loads(json.dumps(asked.as_json()))
    assert said["rule"]["hidden"] is True and set(said["answers"]) == set(WORLD)


@pytest.mark.parametrize(
    ("changes", "rule", "sentence"),
    [
        ({"founder_background": "Academic"}, "burn_risk", "The rule burn_risk holds: REJECT_RISK."),
        ({"founder_background": "Academic", "revenue_musd": 5, "nps": 80}, "loyal_customers", "holds: A_PLUS_TIER."),
        ({"founder_background": "Academic", "revenue_musd": 5}, "default", "No rule holds: STANDARD_LOAN by default."),
    ],
)
def test_the_rule_that_holds(changes, rule, sentence):
    (held,) = held_rules(RULESET, case_of(CASE | changes, RULESET, "CASE"))
    assert held.name == rule and rule_sentence(held).endswith(sentence) and not held.is_hidden


def without(name: str) -> dict:
    return {key: value for key, value in CASE.items() if key != name}


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("{", "CASE: is not JSON"),
        ("[]", "CASE: is no object"),
        ('{"nps": 1, "nps": 2}', "CASE: nps: stands twice"),
        ("[" * 100_000, "CASE: is not JSON (nested too deeply)"),
        (json.dumps(CASE | {"npss": 1}), "CASE: npss: is no feature; did you mean nps?"),
        (
            json.dumps(without("nps")),
            "CASE: nps: is missing; give a number (net promoter score), usually from -100 to 100",
        ),
        (json.dumps(CASE | {"nps": None}), "CASE: nps: is empty"),
        (json.dumps(CASE | {"nps": "  "}), "CASE: nps: is empty"),
        (json.dumps(CASE | {"nps": "many"}), "CASE: nps: 'many' is no number"),
        (json.dumps(CASE | {"nps": True}), "CASE: nps: true is no number"),
        (json.dumps(CASE | {"nps": [1]}), "CASE: nps: [1] is no number"),
        (json.dumps(CASE | {"nps": 1e400}), "CASE: nps: inf is too large a number"),
        (json.dumps(CASE | {"nps": float("nan")}), "CASE: nps: nan is too large a number"),
        ('{"nps": 1' + "0" * 5000 + "}", "CASE: is not JSON"),
        (json.dumps(CASE | {"nps": 10**400}), "CASE: nps: 1000"),
        (json.dumps(CASE | {"nps": 1.5}), "CASE: nps: 1.5 is no whole number"),
        (json.dumps(CASE | {"sector": "retail"}), "CASE: sector: 'retail' is no choice; did you mean Retail?"),
        (json.dumps(CASE | {"sector": {"a": 1}}), 'CASE: sector: {"a": 1} is no text'),
        (json.dumps(CASE | {"sector": "\ud800"}), "CASE: sector: holds half of a surrogate pair"),
        (json.dumps(CASE | {"sector": "x" * 100_001}), "CASE: sector: has 100,001 characters"),
    ],
)
def test_a_case_that_is_none_is_refused_with_its_feature(given, fault):
    with pytest.raises(UserError) as error:
        case_of(parse_case(given, "CASE"), RULESET, "CASE")
    assert str(error.value).startswith(fault) and "\n" not in str(error.value)


def test_numbers_may_be_texts_and_whole_ones_may_have_a_point():
    case = case_of(CASE | {"nps": " 10.0 ", "revenue_musd": 2e1}, RULESET, "CASE")
    assert case.row(0) == tuple(CASE.values()) and case.schema == RULESET.feature_schema
    assert unusual(RULESET, case) == []
    outside = unusual(RULESET, case_of(CASE | {"nps": 400}, RULESET, "CASE"))
    assert outside == ["nps: 1 application with a value outside -100 to 100, the range of training (400)"]


def test_cases_of_a_file_have_values_that_are_missing_and_no_rule(own):
    ruleset = own.ruleset
    case = case_of({"amount": None, "<b>kind</b>": "c", "note": HOSTILE}, ruleset, "CASE")
    assert case["amount"][0] is None
    asked = ask(own, case)
    assert asked.rule is None and [of.follows for of in asked.answers] == [None, None]
    assert asked.notes == ["<b>kind</b>: 1 case with a value that training did not have ('c')"]
    assert "as the rule" not in table(asked)[0] and asked.as_json()["rule"] is None
    with pytest.raises(UserError, match="note: is missing; give a text, or null where it is missing"):
        case_of({"amount": 1, "<b>kind</b>": "a"}, ruleset, "CASE")
    with pytest.raises(UserError, match="holds '<|im_end|>', a control token"):
        ask(own, case_of({"amount": 1, "<b>kind</b>": "a", "note": "<|im_end|>"}, ruleset, "CASE"))
    with pytest.raises(UserError, match="more than the model's 2,048; shorten its texts"):
        ask(own, case_of({"amount": 1, "<b>kind</b>": "a", "note": "long " * 600}, ruleset, "CASE"))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["{none}"], "RESULTS: does not exist"),
        ([""], "RESULTS: names no folder"),
        (["{run}", "--seed", "7"], "SEED: 7 is no seed of {run}; known: 0"),
        (["{run}", "--case", "nps=3"], "make ask: CASE: is neither JSON nor a file"),
        (["{run}", "--case", "none.json"], "none.json: no such file"),
        (["{run}", "--case", "{}"], "CASE: founder_background: is missing; give one of Ex-Google"),
        (["{run}", "--port", "-1"], "PORT: '-1' is no port"),
    ],
)
def test_a_command_that_cannot_be_done_says_why_before_anything_is_loaded(tiny_run, monkeypatch, words, fault):
    monkeypatch.setattr(command, "load_panel", lambda *_: pytest.fail("loaded"))
    folder = str(tiny_run.layout.folder)
    with pytest.raises(UserError) as error:
        command.main([word.replace("{run}", folder).replace("{none}", f"{folder}/none") for word in words])
    assert fault.replace("{run}", folder) in str(error.value)


def test_a_case_in_a_file_is_answered(tiny_run, panel, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_panel", lambda *_: panel)
    path, folder = tmp_path / "case.json", str(tiny_run.layout.folder)
    path.write_text(json.dumps(CASE))
    command.main([folder, "--case", str(path)])
    said = capsys.readouterr().out
    assert said.startswith("The rule vip_override (hidden) holds") and "Logistic regression" in said
    command.main([folder, "--case", json.dumps(CASE), "--json"])
    assert json.loads(capsys.readouterr().out)["rule"]["name"] == "vip_override"


def test_a_ruleset_that_was_changed_since_is_refused(tiny_run, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for path in tiny_run.layout.folder.glob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    record = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps(record | {"ruleset": {"sha256": "0" * 64}}))
    with pytest.raises(UserError, match="was changed since the run"):
        read_run(str(folder), None)
    with pytest.raises(UserError, match="known: items, sft, baseline|CONDITION: is missing"):
        condition_of(tiny_run, "")
    with pytest.raises(UserError, match="CONDITION: sff is no condition of .*; did you mean sft"):
        condition_of(tiny_run, "sff")


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving():
    """Serve the page of a panel; all are ended at the end."""
    running = []

    def serve(panel) -> SimpleNamespace:
        listening = bind("127.0.0.1", 0)
        web = uvicorn.Server(uvicorn.Config(make_page(AskPage(panel)), log_level="error", http="h11", lifespan="on"))
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((web, thread, listening))
        port = listening.getsockname()[1]
        return SimpleNamespace(port=port, url=f"http://127.0.0.1:{port}/")

    yield serve
    for web, thread, listening in running:
        web.should_exit = True
        thread.join(30)
        listening.close()


def request(port: int, method="GET", body=None, path="/", **headers) -> tuple[int, str, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    if body is not None and not isinstance(body, bytes):
        body = urlencode(body).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | headers
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), dict(answer.getheaders())


def entered(case: dict) -> dict:
    return {f"f{i}": value for i, value in enumerate(case.values())}


def test_the_page_asks_and_answers(serving, panel):
    port = serving(panel).port
    status, page, headers = request(port)
    assert status == 200 and page.count("<label ") == 7 and "tiny &lt;b&gt;run&lt;/b&gt;" in page
    rules = headers["content-security-policy"]
    assert (
        rules.startswith("default-src 'none'") and "form-action 'self'" in rules and "frame-ancestors 'none'" in rules
    )
    assert "script" not in rules and "<script" not in page and headers["cache-control"] == "no-store"
    status, page, _ = request(port, "POST", entered(CASE))
    assert status == 200 and "The rule vip_override (hidden) holds: MANUAL_REVIEW" in page
    assert page.count('<th scope="row">') == len(WORLD) and page.count("<meter ") == 4 * len(WORLD)


def test_what_is_wrong_in_the_form_stands_beside_its_field(serving, panel):
    port = serving(panel).port
    status, page, _ = request(port, "POST", entered(CASE | {"nps": "x", "sector": HOSTILE}))
    assert status == 422 and page.count('aria-invalid="true" aria') == 2 and "2 values need a correction" in page
    assert "&#39;x&#39; is no number" in page and "<script" not in page and "&lt;script&gt;alert(1)" in page
    status, page, _ = request(port, "POST", {})
    assert status == 422 and page.count('aria-invalid="true" aria') == 7


def test_text_of_a_file_is_text(serving, own):
    port = serving(own).port
    status, page, _ = request(port, "POST", {"f0": "", "f1": "c", "f2": f"{HOSTILE} {{{{ 7 * 7 }}}}"})
    assert status == 200 and "<script" not in page and "<b>kind" not in page and "seed 1" in page
    assert "&lt;/textarea&gt;&lt;script&gt;alert(1)&lt;/script&gt; {{ 7 * 7 }}" in page
    status, page, _ = request(port, "POST", {"f0": "1", "f1": "a", "f2": "<|im_end|>"})
    assert status == 422 and "a control token of the model" in page and 'role="alert"' in page


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (entered(CASE), {"Origin": "http://evil.example"}, 403),
        (entered(CASE), {"Sec-Fetch-Site": "cross-site"}, 403),
        (entered(CASE), {"Host": "evil.example"}, 403),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"f0=%ff", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"f0=" + b"x" * (2**20), {"Content-Type": "application/x-www-form-urlencoded"}, 413),
        (b"&".join([b"a=1"] * 3000), {"Content-Type": "application/x-www-form-urlencoded"}, 400),
    ],
)
def test_forms_of_others_are_refused(serving, panel, body, headers, status):
    port = serving(panel).port
    found, said, _ = request(port, "POST", body, **headers)
    assert found == status and said.count("\n") == 1


def test_other_addresses_are_none(serving, panel):
    port = serving(panel).port
    assert request(port, path="/etc/passwd")[0] == 404 and request(port, "DELETE")[0] == 405
    with pytest.raises(RequestError):
        form_values("é".encode())


@pytest.mark.browser
def test_the_page_in_a_browser(serving, own, tmp_path):
    """By the keyboard alone; no script, no request to another host, nothing logged, nothing wider than a phone."""
    from selenium.webdriver.common.keys import Keys

    url = serving(own).url
    driver = browser(tmp_path)
    try:
        driver.set_window_size(1280, 900)
        driver.get(url)
        driver.find_element("id", "f2").clear()
        driver.find_element("id", "f2").send_keys(HOSTILE, Keys.TAB)
        assert driver.switch_to.active_element.text == "Ask"
        driver.switch_to.active_element.send_keys(Keys.ENTER)
        rows = driver.find_elements("css selector", "tbody tr")
        assert len(rows) == 2 and driver.current_url.endswith("#answers")
        assert driver.find_element("id", "f2").get_attribute("value") == HOSTILE
        for row in rows:
            chosen = row.find_element("css selector", "td.chosen")
            assert row.find_element("css selector", "td.decision").text == chosen.get_attribute("data-label")
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True})  # fmt: skip
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= 390
        assert all(address.startswith(url) for address in requests_of(driver))
        assert not driver.get_log("browser")
    finally:
        driver.quit()
