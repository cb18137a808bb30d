"""The report says what its numbers support, no more, and treats every text as text."""

import functools
import html
import json
import os
import re
import shutil

import jinja2
import polars as pl
import pytest
from test_charts import NAMES

from hidden_rule.core.tables import METRICS, SUPERVISION, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.report import tables as report_tables
from hidden_rule.report.page import build_report, render_report, write_report
from hidden_rule.report.page.build import hash_of
from hidden_rule.report.page.figures import Figure, Picture, as_data
from hidden_rule.report.tables import suites_table
from hidden_rule.report.text.phrases import duration
from hidden_rule.statistics.collapse import REASONS, judge_all
from render_charts import render_charts
from synthetic import WORLD, make_ruleset, world_config, write_results

RULESET = make_ruleset(4)
TEMPLATE = os.path.join(os.path.dirname(__file__), "..", "..", "workflow", "report", "report.html.j2")
CONFIG = {
    "experiment": "<b>bold</b>",
    "model": {"id": "a-model", "dtype": "auto"},
    "lora": {"r": 16},
    "sft": {"epochs": 5, "learning_rate": 2e-3},
    "grpo": {"epochs": 3, "learning_rate": 3e-4, "group_size": 8, "estimator": "expected"},
}
INSPECTION = {
    "facts": {"generation prompt": "<|im_end|>\n<script>alert(4)</script>", "share of linear layers adapted": 0.5714},
    "warnings": ["the chat template drops <b>the system's message</b>"],
}
PROVENANCE = {
    "created": "2026-01-01",
    "git": {"commit": "</pre><script>alert(3)</script>", "dirty": False},
    "model": {"id": "tiny", "inspection": INSPECTION},
}
SHOWN = [name for name in NAMES if name not in ("suites", "expected_cost")]  # what the default world has
PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><iframe src=https://example.org></iframe>",
    "{{ 7 * 7 }} &lt; <a href=javascript:alert(1)>x</a>",
]


def test_suites_by_conditions(tmp_path):
    def row(condition, suite, metric, value, n=80):
        return {"condition": condition, "seed": None, "suite": suite, "decoding": "structured", "metric": metric,
                "label": None, "value": value, "ci_low": value / 2, "ci_high": value, "n": n}  # fmt: skip

    metrics = pl.DataFrame(
        [
            row("a", "decoys", "false_flip_rate", 0.5),
            row("b", "decoys", "false_flip_rate", 0.1),
            row("a", "paraphrases", "accuracy", 0.2),
            row("a", "test", "accuracy", 0.9),
        ],
        schema=METRICS,
    )
    config = world_config({"a": {"method": None}, "b": {"method": None}})

    def table_of(metrics):
        write_table(metrics, tmp_path / "metrics.parquet", METRICS)
        return suites_table(Results(tmp_path, config, ruleset=RULESET))

    table = table_of(metrics)
    assert table["columns"] == ["", "a", "b"]
    assert table["rows"] == [
        ["paraphrased trigger: accuracy (n = 80)", "20.0% (10.0–20.0)", "–"],
        ["decoys: false flip rate (n = 80)", "50.0% (25.0–50.0)", "10.0% (5.0–10.0)"],
    ]
    assert table_of(metrics.filter(suite="test")) is None
    claims = [row("a", "prevalence", "hidden_precision", 0.5, 478), row("b", "prevalence", "hidden_precision", 0.8, 12)]
    assert table_of(pl.DataFrame(claims, schema=METRICS))["rows"] == [  # each condition has its own n
        ["rare trigger: precision", "50.0% (25.0–50.0; n = 478)", "80.0% (40.0–80.0; n = 12)"]
    ]


def test_durations():
    assert [duration(x) for x in (3.21, 61, 3_720)] == ["3.2 s", "1 min 01 s", "1 h 02 min"]


@functools.cache
def built(folder) -> str:
    """A whole report of the default world, with malicious replies; its path."""
    world = {name: of | {"with": {"group_size": 64}} if name == "grpo" else of for name, of in WORLD.items()}
    results = write_results(folder, RULESET, world, config=CONFIG)
    for run, payload in zip(results.runs, PAYLOADS, strict=True):
        path = results.predictions_path(run)
        invalid = pl.col("predicted").is_null()
        frame = pl.read_parquet(path).with_columns(
            reply=pl.when(invalid | (pl.int_range(pl.len()) > 1170)).then(pl.lit(payload)).otherwise("reply"),
        )
        frame = frame.with_columns(predicted=pl.when(pl.col("reply") == payload).then(None).otherwise("predicted"))
        frame.with_columns(is_valid=pl.col("predicted").is_not_null()).write_parquet(path)
    even, prompts = dict.fromkeys(RULESET.labels, 0.25), dict.fromkeys(WORLD, 16)
    judge_all(results.histories, even, prompts).write_parquet(folder / "collapse.parquet")
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    render_charts(results, [folder / "charts" / "accuracy.html"])
    write_report(results, folder / "report.html", NAMES, TEMPLATE)
    return str(folder / "report.html")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return built(tmp_path_factory.mktemp("report"))


def test_the_page_holds_everything_escaped(report):
    with open(report, encoding="utf-8") as stream:
        page = stream.read()
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    data, *run = scripts
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    allowed = re.search(r"script-src ([^;]*);", policy)[1].split()
    assert allowed == [hash_of(script) for script in run] and len(run) == 2
    assert page.count("<script") == len(scripts) == 3 and set(json.loads(data)["charts"]) == set(SHOWN)
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<iframe" not in page
    assert "<li>the chat template drops &lt;b&gt;the system&#39;s message&lt;/b&gt;</li>" in page
    assert "<dd>&lt;|im_end|&gt;\\n&lt;script&gt;alert(4)&lt;/script&gt;</dd>" in page and "<dd>57.1%</dd>" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("<img ") == page.count('srcset="data:image/svg+xml,') == len(SHOWN)
    assert {link[:1] for link in re.findall(r'href="([^"]*)"', page)} == {"#", "d"}  # to this page; the empty icon
    for text in (
        "group_size",
        "64",
        "the base model",
        "rule_0",
        "10 min 00 s",
        "3.00 GiB",
        "2026-01-01",
        "Collapse in RL training",
        "collapsed to 2 of 4",
        "One base model, a-model",
        "SFT → GRPO",
    ):
        assert text in page, text


def test_tests_and_warnings_of_tables_have_words():
    assert report_tables.REASONS.keys() == REASONS.keys()
    assert all(
        word.islower() or "McNemar" in word for word in (*report_tables.REASONS.values(), *report_tables.TESTS.values())
    )


def test_rows_of_tables_have_a_cell_a_column(tmp_path):
    results = write_results(tmp_path, RULESET, WORLD, config=CONFIG)
    context = build_report(results)
    shown = [*context.values(), *context["more"]]
    tables = [one for one in shown if isinstance(one, dict) and "caption" in one]
    assert len(tables) > 8
    for one in tables:
        assert {len(row) for row in one["rows"]} <= {len(one["columns"])}, one["caption"]


@pytest.mark.parametrize(
    ("seeds", "words", "others"),
    [
        ((0,), "for differences, Agresti–Min for paired shares", "t over applications and seeds"),
        ((0, 1), "for differences, t over applications and seeds", "Agresti"),
    ],
)
def test_the_footnote_names_the_intervals_of_this_run(tmp_path, seeds, words, others):
    results = write_results(tmp_path, RULESET, {"sft": WORLD["sft"], "grpo": WORLD["grpo"]}, seeds, config=CONFIG)
    page = " ".join(render_report(build_report(results), TEMPLATE).split())
    assert words in page and others not in page
    assert "On an idle machine: what a new run takes with as many CPU threads" in page  # a wall time is no pure cost


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render_report({"experiment": "x"}, TEMPLATE)


def test_one_untrained_condition_makes_a_report(tmp_path):
    world, sizes = {"baseline": WORLD["baseline"]}, [("test", "structured", 40, 0)]
    context = build_report(write_results(tmp_path, RULESET, world, config=CONFIG, sizes=sizes))
    page = render_report(context, TEMPLATE)
    assert "nothing to compare" in page
    assert '<h1 id="verdict-title">Nothing was trained: no method to recommend</h1>' in page
    assert "Training settings" not in page


def test_learning_curves_stand_in_the_report(tmp_path):
    world = {"<i>sft_25": {"method": "sft", "accuracy": 0.3}, "<i>sft_400": {"method": "sft", "accuracy": 0.95}}
    results = write_results(tmp_path, RULESET, world, config=CONFIG, sizes=[("test", "structured", 400, 0)])
    labelled = [
        (name, 0, "sft", "<i>sft", n, 0.0, 0.0, 200, n, 0, 9.0, 99, 2.0 * n, None, 2.0 * n)
        for name, n in zip(world, (25, 400), strict=True)
    ]
    supervision = pl.DataFrame(labelled, schema=SUPERVISION, orient="row")
    write_table(supervision, tmp_path / "supervision.parquet", SUPERVISION)
    context = build_report(results)
    page = render_report(context, TEMPLATE)
    assert "&lt;i&gt;sft learned the policy with 400 labels (tried: 25 and 400); fewest: 400" in page
    assert "Supervision of each training" in page and "<td>800</td>" in page


def browser(tmp_path):
    """Headless Chromium that records what pages ask for and log; skips without one, fails if CI is set."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        reason = "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
        f"--user-data-dir={tmp_path}",
    ):  # fmt: skip
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(chromedriver))


def requests_of(driver) -> list[str]:
    """Addresses asked for since the last call, but for what lies within a page and the browser's own start page."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "blob:", "chrome"))]


def test_data_of_charts_end_no_script_and_are_held_once():
    rows = [{"name": "</script><script>alert(1)</script>&\u2028", "value": 0.123456789, "n": 3}]
    spec = {"mark": "point", "datasets": {"data-1": rows}}
    figure = Figure("a", "A", [], "", Picture("", 1, 1, spec), Picture("", 1, 1, spec))
    text = as_data([figure])
    assert not set("<>&\u2028") & set(text)
    found = json.loads(text)
    assert found["datasets"] == {
        "data-1": {"n": 1, "columns": {"name": [[rows[0]["name"]]], "value": [[0.123457]], "n": [[3]]}}
    }
    assert found["charts"]["a"] == {"wide": {"mark": "point", "datasets": ["data-1"]}} | {
        "narrow": {"mark": "point", "datasets": ["data-1"]}
    }


def emulate(driver, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
ENDS = """const last = (selector) => Math.max(...[...document.querySelectorAll(selector)].map(
    one => one.getBoundingClientRect().bottom));
return [last('h1'), last('.tile'), last('.picture'), document.documentElement.scrollWidth]"""


@pytest.mark.browser
def test_in_a_browser_nothing_is_fetched_logged_or_run(report, tmp_path):
    from selenium.common.exceptions import NoAlertPresentException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    driver = browser(tmp_path)
    try:
        for page in (report, os.path.join(os.path.dirname(report), "charts", "accuracy.html")):
            driver.get(f"file://{page}")
            assert driver.get_log("browser") == []
            assert requests_of(driver) == [f"file://{page}"]  # itself, and nothing else
            with pytest.raises(NoAlertPresentException):
                driver.switch_to.alert.accept()
        assert driver.find_elements(By.CSS_SELECTOR, "svg.marks, canvas.marks")  # the interactive chart did draw
        driver.get(f"file://{report}")
        for width, height in ((1280, 800), (390, 844)):  # verdict, tiles and picture stand in the first screen
            emulate(driver, width, height)
            *ends, scroll_width = driver.execute_script(ENDS)
            assert max(ends) <= height and scroll_width <= width, (width, ends, scroll_width)
        driver.execute_script(OPEN_ALL)
        emulate(driver, 1280, 40_000)  # all is in view: all charts are drawn
        drawn = "return document.querySelectorAll('figure.drawn svg.marks').length"
        WebDriverWait(driver, 600).until(lambda one: one.execute_script(drawn) == len(SHOWN))
        text = driver.find_element(By.TAG_NAME, "body").text
        for payload in PAYLOADS:
            assert payload in text
        for width in (1400, 390):  # nothing sticks out of the page: wide things scroll in their own box
            emulate(driver, width, 900)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert prints_whole(driver)
        assert driver.get_log("browser") == [] and requests_of(driver) == [f"file://{report}"]
        with pytest.raises(NoAlertPresentException):
            driver.switch_to.alert.accept()
        tables_sort(driver)
        links_open_and_terms_explain(driver)
    finally:
        driver.quit()


def prints_whole(driver) -> bool:
    """On A4 (688 px between margins) everything is open, and no table or picture is wider than the page."""
    emulate(driver, 688, 1000)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = false)")
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert driver.execute_script("return document.querySelectorAll('details:not([open])').length") == 0
    widest = (
        "return Math.max(...[...document.querySelectorAll('table, img, svg, dl, pre')].map(one => one.scrollWidth))"
    )
    assert driver.execute_script(widest) <= 688
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    return True


def tables_sort(driver) -> None:
    """A heading of the scorecard sorts by its column, numbers by size, and turns the order when pressed again."""
    column = "return [...document.querySelectorAll('table.card tbody tr')].map(row => row.cells[0].textContent)"
    press = """const heads = [...document.querySelectorAll('table.card thead th')];
        heads.find(one => one.textContent.startsWith('Accuracy')).querySelector('button').click()"""
    driver.execute_script(press)
    assert driver.execute_script(column) == ["Untrained", "GRPO", "SFT", "SFT → GRPO"]
    driver.execute_script(press)
    assert driver.execute_script(column) == ["SFT → GRPO", "SFT", "GRPO", "Untrained"]


def links_open_and_terms_explain(driver) -> None:
    """A link opens its section; a term says what it means when it has the focus."""
    driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = false)")
    driver.execute_script("location.hash = 'cost'")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 20).until(lambda one: one.execute_script("return document.getElementById('cost').open"))
    driver.execute_script("document.querySelector('#scorecard').open = true")
    driver.execute_script("document.querySelector('table.card abbr').focus()")
    shown = driver.execute_script("const tip = document.getElementById('tip'); return tip.textContent")
    assert shown.startswith("Learned: the 95% CI of accuracy")


@pytest.mark.browser
def test_without_javascript_images_and_tables_stand(report, tmp_path):
    from selenium.webdriver.common.by import By

    driver = browser(tmp_path)
    try:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        driver.get(f"file://{report}")
        images = driver.find_elements(By.CSS_SELECTOR, "figure img")
        assert len(images) == len(SHOWN) and not driver.find_elements(By.CSS_SELECTOR, ".live")
        assert all(int(image.get_property("naturalWidth")) > 0 for image in images)
    finally:
        driver.quit()


@pytest.mark.parametrize(
    ("purpose", "seeds", "badges"),
    [
        ("smoke", (0,), ["smoke test: numbers mean nothing", "one seed: not for decisions"]),
        ("comparison", (4,), ["one seed: not for decisions"]),
        ("comparison", (0, 1), []),
    ],
)
def test_what_a_run_is_not_for_stands_above_its_answer(tmp_path, purpose, seeds, badges):
    conditions = {"baseline": WORLD["baseline"]}
    sizes = [("holdout", "structured", 40, 0)]
    results = write_results(tmp_path, RULESET, conditions, seeds, CONFIG | {"purpose": purpose}, sizes=sizes)
    context = build_report(results)
    assert context["first"]["badges"] == badges
    page = render_report(context, TEMPLATE)
    first = page[page.index("<h1") : page.index('<details class="section"')]
    assert re.findall(r'<strong class="badge bad">([^<]*)</strong>', first) == badges
    assert ('<strong class="badge good">2 seeds</strong>' in first) == (badges == [])
    assert ("worst–best seed" in context["summary"]["columns"]) == (len(seeds) > 1)
