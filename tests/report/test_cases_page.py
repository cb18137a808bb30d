"""The page of cases: which it holds, what it says of each, what its filters find, and that no text of it is markup."""

import itertools
import json
import os
import re

import polars as pl
import pytest
from test_page import browser, requests_of

from conftest import ROOT
from hidden_rule.core.tables import predictions_schema, write_table
from hidden_rule.experiment.display import displayed
from hidden_rule.experiment.results import Results
from hidden_rule.report.cases.content import content_of
from hidden_rule.report.cases.page import Parts, note_of, write_cases
from hidden_rule.report.cases.selection import select_cases
from hidden_rule.report.standalone import as_json, policy
from hidden_rule.task.dataset import dataset_schema
from hidden_rule.task.ruleset import load_ruleset
from synthetic import world_config

PARTS = Parts.within(ROOT / "workflow" / "report")
RULESET = load_ruleset(ROOT / "rulesets" / "fincorp.yaml")
MANUAL, REJECT, TIER, LOAN = "MANUAL_REVIEW", "REJECT_RISK", "A_PLUS_TIER", "STANDARD_LOAN"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
CONDITIONS = {"baseline": {"method": None}, "sft": {"method": "sft"}, "grpo": {"method": "grpo"}}
# founder, revenue, burn rate, NPS: the right decision follows by FinCorp's rules
TEST = [("Ex-Google", 5, 20, 90), ("Academic", 50, 95, 10), ("Academic", 5, 20, 85), ("Ex-Apple", 5, 20, 10)]
HOLDOUT = [("Ex-Facebook", 20, 90, 0), ("Serial founder", 30, 99, 99)]
ANSWERS = {  # condition: of the cases of TEST and HOLDOUT, structured
    "baseline": [LOAN] * 6,
    "sft": [MANUAL, REJECT, TIER, LOAN, MANUAL, REJECT],
    "grpo": [MANUAL, REJECT, TIER, LOAN, REJECT, REJECT],
}
FREE = {"baseline": [None] * 4, "sft": [MANUAL, REJECT, TIER, None], "grpo": [MANUAL, REJECT, TIER, LOAN]}


def split_of(rows, first_id: int) -> pl.DataFrame:
    ids = range(first_id, first_id + len(rows))
    cases = [
        {"application_id": i, "founder_background": founder, "revenue_musd": revenue, "burn_rate_pct": burn, "nps": nps,
         "sector": "Retail", "region": "Asia", "team_size": 9}
        for i, (founder, revenue, burn, nps) in zip(ids, rows, strict=True)
    ]  # fmt: skip
    schema = {name: dtype for name, dtype in dataset_schema(RULESET).items() if name in cases[0]}
    return RULESET.decide(pl.DataFrame(cases, schema=schema))


def answers(cases: pl.DataFrame, predicted: list, suite: str, decoding: str, invalid: str = HOSTILE) -> pl.DataFrame:
    of = cases.with_columns(predicted=pl.Series(predicted, dtype=pl.String), suite=pl.lit(suite))
    said = pl.lit('{"decision": "') + pl.col("predicted") + pl.lit('"}')
    shares = {f"p_{label}": pl.lit(0.9 if label == LOAN else 0.1 / 3) for label in RULESET.labels}
    return of.with_columns(
        decoding=pl.lit(decoding), reply=said.fill_null(invalid), is_valid=pl.col("predicted").is_not_null(), **shares
    ).select(list(predictions_schema(RULESET.labels)))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """Six cases, three conditions: worked by hand."""
    folder = tmp_path_factory.mktemp("cases")
    test, holdout = split_of(TEST, 20), split_of(HOLDOUT, 30)
    assert [*test["label"], *holdout["label"]] == [MANUAL, REJECT, TIER, LOAN, MANUAL, REJECT]
    for name, frame in (("test", test), ("holdout", holdout)):
        write_table(frame, folder / "data" / f"{name}.parquet", dataset_schema(RULESET))
    config = world_config(CONDITIONS, evaluation={"structured": ["test", "holdout"], "free": ["test"]})
    made = Results(folder, config | {"experiment": HOSTILE}, ruleset=RULESET)
    for run in made.runs:
        first, rest = ANSWERS[run.condition][:4], ANSWERS[run.condition][4:]
        frames = [answers(test, first, "test", "structured"), answers(holdout, rest, "holdout", "structured")]
        frames.append(answers(test, FREE[run.condition], "test", "free"))
        write_table(pl.concat(frames), made.layout.predictions(run), predictions_schema(RULESET.labels))
    return made


def test_informative_cases_come_first_and_the_page_says_so(results):
    """Wrong or different: case 23, whose free reply of SFT is invalid, and case 30, which GRPO rejects."""
    everything = select_cases(results)
    assert everything.ids.to_list() == [20, 21, 22, 23, 30, 31]
    assert note_of(everything, RULESET.case) == "All 6 applications that were evaluated."
    two, three = select_cases(results, 2), select_cases(results, 3)
    assert two.ids.to_list() == [23, 30]
    assert {23, 30} < {*three.ids} and three.ids.equals(select_cases(results, 3).ids)
    assert note_of(three, RULESET.case) == (
        "A sample: 3 of 6 applications that were evaluated. It holds all 2 that grpo and sft decided wrongly or "
        "differently, and 1 of the others, drawn at random; shares within it are not those of all applications."
    )
    assert "It holds 1 of the 2 that" in note_of(select_cases(results, 1), RULESET.case)


def test_the_content_of_a_case(results):
    shown = displayed(results)
    content = content_of(shown, select_cases(shown))
    assert json.loads(as_json(content)) == content
    cases, labels = content["cases"], content["labels"]
    place = cases["id"].index(30)
    assert labels[cases["label"][place]] == MANUAL and labels[cases["without"][place]] == REJECT
    assert content["rules"][cases["rule"][place]] == {
        "name": "vip_override", "hidden": True, "when": "founder_background IN ('Ex-Google', 'Ex-Facebook')",
    }  # fmt: skip
    assert "Ex-Facebook" in cases["prompt"][place] and "FinCorp" in content["system"][cases["system"][place]]
    founder = [feature["name"] for feature in content["features"]].index("founder_background")
    assert cases["values"][founder][place] == "Ex-Facebook"
    of = {(content["conditions"][run["condition"]], run["decoding"]): run for run in content["runs"]}
    assert labels[of["GRPO", "structured"]["answer"][place]] == REJECT
    assert of["SFT", "free"]["answer"][cases["id"].index(23)] == -1  # invalid
    assert of["SFT", "free"]["answer"][place] == -2  # not asked
    assert content["replies"][of["SFT", "free"]["reply"][cases["id"].index(23)]] == HOSTILE
    shares = of["SFT", "structured"]["p"][4 * place : 4 * place + 4]
    assert dict(zip(results.labels, shares, strict=True)) == {MANUAL: 33, REJECT: 33, TIER: 33, LOAN: 900}


def test_json_cannot_end_its_element_and_a_policy_names_what_runs():
    assert "<" not in as_json({"</script>": "<!-- <script>\u2028"})
    assert json.loads(as_json({"a": "</script>"})) == {"a": "</script>"}
    assert policy("a{}", "1") == (
        "default-src 'none'; style-src 'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='; img-src data:; "
        "base-uri 'none'; form-action 'none'; script-src 'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"
    )
    assert "script-src" not in policy("a{}")


@pytest.fixture(scope="module")
def page(results, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "cases.html"
    write_cases(results, path, PARTS)
    return str(path)


def test_the_page_holds_texts_as_data_alone(page):
    with open(page, encoding="utf-8") as stream:
        text = stream.read()
    assert len(re.findall("<script", text)) == 2 and "<img" not in text  # the data and the page's own
    assert "onerror" in text and "&lt;/script&gt;" in text  # within the data; in the title


FILTERS = [  # what is set, and the cases that are then shown
    ({}, [20, 21, 22, 23, 30, 31]),
    ({"wrong": True}, [20, 21, 22, 23, 30, 31]),  # the untrained model
    ({"wrong": True, "condition-0": False}, [23, 30]),
    ({"invalid": True}, [20, 21, 22, 23]),
    ({"invalid": True, "condition-0": False}, [23]),
    ({"disagree": True, "condition-0": False}, [23, 30]),
    ({"disagree": True, "condition-0": False, "decoding": "structured"}, [30]),
    ({"hidden": True}, [20, 30]),
    ({"suite": "holdout"}, [30, 31]),
    ({"label": REJECT}, [21, 31]),
    ({"answer": REJECT, "label": MANUAL}, [30]),
    ({"answer": "no valid decision", "condition-0": False}, [23]),
    ({"rule": "default"}, [23]),
    ({"text": "ex-FACE"}, [30]),
    ({"text": "onerror"}, [20, 21, 22, 23]),
    ({"founder_background": "Academic"}, [21, 22]),
    ({"nps: at least": "85", "nps: at most": "90"}, [20, 22]),
    ({"text": "nowhere"}, []),
]


@pytest.mark.browser
def test_in_a_browser_filters_find_links_lead_and_nothing_runs(page, tmp_path):
    from selenium.common.exceptions import NoAlertPresentException

    driver = browser(tmp_path)
    try:
        driver.get(f"file://{page}")
        for settings, expected in FILTERS:
            assert filtered(driver, settings) == expected, settings
        filtered(driver, {"suite": "test"})
        driver.get(f"file://{page}#case-30")  # a link to a case that the filters hide
        assert driver.execute_script("return document.getElementById('case-30').open")
        assert driver.execute_script("return document.activeElement.parentElement.id") == "case-30"
        text = driver.execute_script("return document.getElementById('case-30').innerText")
        assert "vip_override (hidden)" in text and "Founder: Ex-Facebook" in text and "✗ REJECT_RISK" in text
        driver.get(f"file://{page}#case-23")
        assert HOSTILE in driver.execute_script("return document.getElementById('case-23').innerText")
        driver.execute_script("document.getElementById('clear').click()")
        for width, scheme in itertools.product((1280, 390), ("light", "dark")):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            driver.get(f"file://{page}#case-20")
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.get_log("browser") == []
        assert {url.partition("#")[0] for url in requests_of(driver)} == {f"file://{page}"}
        with pytest.raises(NoAlertPresentException):
            driver.switch_to.alert.accept()
    finally:
        driver.quit()


def filtered(driver, settings: dict) -> list[int]:
    """The ids of the cases that are shown once filters are cleared and these are set, by name, label or feature."""
    return driver.execute_script(
        """
        document.getElementById("clear").click();
        const form = document.getElementById("filters");
        for (const [key, value] of Object.entries(arguments[0])) {
          const label = [...form.querySelectorAll("label")].find((one) => one.textContent.startsWith(key));
          const named = form.elements[key] || form.querySelector(`[aria-label="${key}"]`);
          const control = named || label.querySelector("select");
          if (control.type === "checkbox") control.checked = value;
          else if (control.tagName === "SELECT") {
            control.value = [...control.options].find((one) => one.value === value || one.text.startsWith(value)).value;
          } else control.value = value;
          control.dispatchEvent(new Event("input", { bubbles: true }));
        }
        return [...document.querySelectorAll("details.case")].map((one) => Number(one.id.slice(5)));
        """,
        settings,
    )


def test_many_cases_stay_within_the_file(results, tmp_path):
    """The page of a sample holds the cases of the sample alone, and says so above them."""
    write_cases(results, tmp_path / "cases.html", PARTS, most=2)
    text = (tmp_path / "cases.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["cases"]["id"] == [23, 30] and "A sample: 2 of 6 applications" in text
    assert {len(run["answer"]) for run in data["runs"]} == {2}
    assert os.path.getsize(tmp_path / "cases.html") < 60_000
