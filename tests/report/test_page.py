"""The report says what its numbers support, no more, and treats every text as text."""

import functools
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
    svgs = [folder / "charts" / f"{name}.svg" for name in NAMES]
    render_charts(results, [*svgs, folder / "charts" / "accuracy.html"])
    write_report(results, folder / "report.html", svgs, TEMPLATE)
    return str(folder / "report.html")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return built(tmp_path_factory.mktemp("report"))


def test_the_page_holds_everything_escaped(report):
    with open(report, encoding="utf-8") as stream:
        page = stream.read()
    assert "<script" not in page
    assert "<iframe" not in page
    assert "<li>the chat template drops &lt;b&gt;the system&#39;s message&lt;/b&gt;</li>" in page
    assert "<dd>&lt;|im_end|&gt;\\n&lt;script&gt;alert(4)&lt;/script&gt;</dd>" in page and "<dd>57.1%</dd>" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("<img ") == len(NAMES) - 1  # no suite was evaluated
    assert page.count('src="data:image/svg+xml;base64,') == len(NAMES) - 1
    assert 'href="charts/accuracy.html"' in page
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
    context = build_report(results, tmp_path / "report.html")
    shown = [*context.values(), *context["more"]]
    tables = [one for one in shown if isinstance(one, dict) and "columns" in one]
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
    page = " ".join(render_report(build_report(results, tmp_path / "report.html"), TEMPLATE).split())
    assert words in page and others not in page
    assert "On an idle machine: what a new run takes, an estimate" in page  # a wall time is no pure cost


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render_report({"experiment": "x"}, TEMPLATE)


def test_one_untrained_condition_makes_a_report(tmp_path):
    world, sizes = {"baseline": WORLD["baseline"]}, [("test", "structured", 40, 0)]
    context = build_report(
        write_results(tmp_path, RULESET, world, config=CONFIG, sizes=sizes), tmp_path / "report.html"
    )
    page = render_report(context, TEMPLATE)
    assert "nothing to compare" in page
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
    context = build_report(results, tmp_path / "report.html")
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


@pytest.mark.browser
def test_in_a_browser_nothing_is_fetched_logged_or_run(report, tmp_path):
    from selenium.common.exceptions import NoAlertPresentException
    from selenium.webdriver.common.by import By

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
        text = driver.find_element(By.TAG_NAME, "body").text
        for payload in PAYLOADS:
            assert payload in text
        assert driver.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
        for width in (1400, 420):  # nothing sticks out of the page: wide things scroll in their own box
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
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
    context = build_report(results, tmp_path / "report.html")
    assert context["badges"] == badges
    page = render_report(context, TEMPLATE)
    above = page[page.index("<header>") : page.index("<h1>")]
    assert re.findall(r"<strong>([^<]*)</strong> ", above) == badges
    assert ("worst–best seed" in context["summary"]["columns"]) == (len(seeds) > 1)
