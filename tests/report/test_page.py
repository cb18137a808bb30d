"""The report says what its numbers support, no more, and treats every text as text."""

import functools
import json
import os
import shutil

import jinja2
import polars as pl
import pytest
from test_charts import NAMES

from hidden_rule.core.tables import HISTORY, METRICS, SUPERVISION, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Estimate, Run
from hidden_rule.report import tables as report_tables
from hidden_rule.report.page import build_report, render_report, write_report
from hidden_rule.report.tables import suites_table
from hidden_rule.report.text import baselines as references
from hidden_rule.report.text.comparisons import difference_sentence
from hidden_rule.report.text.findings import conclude, headline
from hidden_rule.report.text.phrases import duration
from hidden_rule.report.text.rule_learning import hidden_sentence, hidden_verdict, policy_verdict
from hidden_rule.report.text.training_runs import feasibility_sentence, stopped_sentences
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
PROVENANCE = {"created": "2026-01-01", "git": {"commit": "</pre><script>alert(3)</script>", "dirty": False}}
PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><iframe src=https://example.org></iframe>",
    "{{ 7 * 7 }} &lt; <a href=javascript:alert(1)>x</a>",
]


def row(low, value, high, n=1000):
    return Estimate(value, low, high, n)


def subsets(all_signal, p_right, **right_shares):
    rows = {"all": {"signal_share": all_signal, "p_right": p_right, "p_invalid": 0.0, "right_share": 1.0}}
    return rows | {name: {"right_share": share} for name, share in right_shares.items()}


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            subsets(0.56, 0.25, hidden=0.6, A=0.9),
            "have mixed rewards, and most groups of each decision contain a correct reply.",
        ),
        (
            subsets(0.56, 0.25, hidden=0.264, A=0.9, B=0.113),
            "have mixed rewards; groups with a correct reply to reinforce are rare (26.4% for the hidden rule, 11.3% "
            "for B).",
        ),
        (
            subsets(0.04, 0.99, hidden=1.0, A=1.0),
            "only 4.0% of the first groups of 8 have mixed rewards (almost no learning signal); 99.0% of replies are "
            "correct.",
        ),
    ],
)
def test_feasibility_in_words(of, words):
    sentence = feasibility_sentence("grpo", "baseline", 8, of)
    assert sentence.startswith("grpo (start: baseline): ") and sentence.endswith(words)


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
        return suites_table(Results(tmp_path, config))

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


def test_a_training_that_was_stopped_is_named():
    rows = [(step, 0.0, 0, "zero_signal_share", None, 1.0) for step in range(1, 5)]
    stopped = pl.DataFrame([*rows, (4, 0.0, 0, "stopped_without_signal", None, 4.0)], schema=HISTORY, orient="row")
    timed = pl.DataFrame([*rows, (4, 0.0, 0, "stopped_by_time_limit", None, 2.5)], schema=HISTORY, orient="row")
    other = pl.DataFrame(rows, schema=HISTORY, orient="row")
    histories = {Run("a", 0, "grpo"): other, Run("b", 1, "grpo"): stopped, Run("c", 0, "sft"): timed}
    assert stopped_sentences(histories) == [
        "b (seed 1) was stopped after step 4: no group had mixed rewards for 4 steps.",
        "c (seed 0) was stopped after step 4: time limit of 2.5 minutes reached.",
    ]


REFERENCES = {"plain": {"reference": "boosting"}, "always": {"reference": "constant"}, "oracle": {"prompt": "oracle"}}
ON_FEATURES = [("test", "structured", 160, 0), ("holdout", "structured", 1000, 10_000)]  # no free decoding


def texts_of(answer) -> dict[str, str]:
    """The text under each heading of an answer."""
    return {heading: " ".join(sentences) for _, parts in answer["sections"] for heading, sentences in parts}


def beside_references(tmp_path, world, references):
    """The conclusions of a world with reference conditions, and all text, by heading."""
    sized = {} if "oracle" in references else {"sizes": ON_FEATURES}
    beside = {name: {"method": None, **REFERENCES[name], **of, **sized} for name, of in references.items()}
    answer = conclude(write_results(tmp_path, RULESET, world | beside))
    return answer["headline"], texts_of(answer)


def test_references_stand_apart(tmp_path):
    world = {name: WORLD[name] for name in ("baseline", "sft")}
    headline, parts = beside_references(tmp_path, world, {"plain": {"accuracy": 0.98}, "always": {"accuracy": 0.25}})
    assert headline.startswith("sft has the highest accuracy (references excluded), ")
    assert "The hidden rule was learned by sft. The most accurate reference is plain, 9" in headline
    policy, hidden, reached = parts["Policy"], parts["Hidden rule"], parts["References"]
    assert not {"plain", "always"} & set(f"{policy} {hidden}".split())
    assert "plain (gradient-boosted trees on the features, without a language model): accuracy 9" in reached
    assert "always (most frequent decision of the training split): accuracy 2" in reached and "learned" not in reached
    differences = parts["Significance"]
    assert "plain outperforms sft by" in differences and "sft outperforms baseline by" in differences
    assert "always" not in differences  # neither a training nor the best reference
    assert "Holm correction for 6 comparisons" in differences  # of four conditions
    free = parts["Free decoding (test)"]
    assert "sft" in free and "plain" not in free  # a classifier writes nothing
    worse, _ = beside_references(tmp_path, world, {"plain": {"accuracy": 0.4}, "always": {"accuracy": 0.6}})
    assert worse.startswith("sft has the highest accuracy (references excluded), ")
    assert "The most accurate reference is always, 6" in worse


def test_trainings_that_fail_beside_a_prompt_that_does_not(tmp_path):
    bad = {"accuracy": 0.25, "method": "sft"}
    headline, parts = beside_references(tmp_path, {"a": bad, "b": bad}, {"oracle": {"accuracy": 0.9}})
    assert headline.startswith("No condition (references excluded) is significantly better than chance (25.0%).")
    assert "The most accurate reference is oracle, " in headline
    assert "oracle outperforms " in parts["Significance"]


def test_a_reference_that_is_statistically_tied(tmp_path):
    headline, parts = beside_references(tmp_path, {"sft": WORLD["sft"]}, {"plain": {"accuracy": 0.88, "hidden": 0.95}})
    assert headline.startswith("sft has the highest accuracy (references excluded), 9")
    assert " tied" not in headline  # it has no rival: the reference is none
    assert "are statistically tied" in parts["Significance"]


def test_references_alone(tmp_path):
    world = {"plain": {"method": None, "accuracy": 0.9}, "always": {"method": None, "accuracy": 0.25}}
    world = {name: REFERENCES[name] | of for name, of in world.items()}
    answer = conclude(write_results(tmp_path, RULESET, world, sizes=ON_FEATURES))
    parts = texts_of(answer)
    assert answer["headline"].startswith("plain has the highest accuracy, ")
    assert "excluded" not in answer["headline"] and "accurate reference" not in answer["headline"]
    assert "Policy" not in parts
    assert "plain outperforms always" in parts["Significance"]


def test_a_reference_that_never_answers_as_only_the_hidden_rule_would():
    accuracy, recall, precision = row(0.2, 0.25, 0.3), row(0, 0, 0.02), None
    assert references.reference_sentence("always", "one decision", accuracy, recall, precision) == (
        "always (one decision): accuracy 25.0% (95% CI 20.0–30.0); hidden rule: recall 0.0% (95% CI 0.0–2.0), no "
        "answer that only this rule explains."
    )


def test_what_a_reference_is_and_where_the_hidden_rule_stands():
    conditions = {
        "baseline": {}, "sft": {"method": "sft"}, "oracle": {"prompt": "oracle"}, "plain": {"reference": "logistic"},
        "shots": {"prompt": {"examples": 8}, "start_from": "sft"},
    }  # fmt: skip
    assert references.describe_references({"conditions": conditions}) == {
        "oracle": "untrained model with all rules in the prompt",
        "plain": "logistic regression on the features, without a language model",
        "shots": "sft with 8 example decisions in the prompt",
    }
    note = references.hidden_rule_note({"conditions": conditions})
    assert note.startswith("The hidden rule is unwritten: only the prompt of oracle states it. A model ")
    assert "labels or rewards, or, for shots, from the examples in the prompt." in note
    plain = references.hidden_rule_note({"conditions": {"baseline": {}, "sft": {"method": "sft"}}})
    assert plain == (
        "The hidden rule is unwritten: no prompt states it. A model can learn it only from training labels or rewards."
    )


def test_a_page_with_references(tmp_path):
    """One comes first in the alphabet, and has no answers under free decoding."""
    always = {"method": None, "accuracy": 0.25, "reference": "constant", "sizes": ON_FEATURES}
    results = write_results(tmp_path, RULESET, {"sft": WORLD["sft"], "always": always}, config=CONFIG)
    context = build_report(results, tmp_path / "report.html")
    assert [row[0] for row in context["summary"]["rows"]] == ["SFT", "always"]
    assert context["settings"]["columns"] == ["setting", "SFT"]
    page = render_report(context, TEMPLATE)
    assert "most frequent decision of the training split" in page
    assert "The most accurate reference is always" in page


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.86, 0.88, 0.90, "learned"),
        (0.78, 0.82, 0.86, "partly"),  # the value is above the threshold, the interval is not
        (0.30, 0.34, 0.38, "partly"),
        (0.24, 0.28, 0.32, "chance"),
        (0.10, 0.15, 0.20, "below"),
    ],
)
def test_policy_verdict_looks_at_the_interval(low, value, high, verdict):
    assert policy_verdict(row(low, value, high), 0.25) == verdict


@pytest.mark.parametrize(
    ("recall", "precision", "verdict"),
    [
        (row(0.9, 0.95, 0.98), row(0.85, 0.9, 0.95), "learned"),
        (row(0.0, 0.05, 0.12), row(0.5, 0.9, 0.99), "missed"),
        (row(1.0, 1.0, 1.0), row(0.22, 0.25, 0.28), "no_evidence"),  # it always answers with that label
        (row(0.2, 0.25, 0.3), row(0.2, 0.25, 0.3), "no_evidence"),  # it guesses
        (row(0.9, 0.95, 0.98), row(0.4, 0.5, 0.6), "over_applied"),
        (row(0.4, 0.5, 0.6), row(0.7, 0.8, 0.9), "partly"),
        (row(0.4, 0.5, 0.6), None, "no_evidence"),
        (None, None, "unknown"),
    ],
)
def test_hidden_verdict(recall, precision, verdict):
    assert hidden_verdict(recall, precision, 0.25) == verdict


def test_no_sign_is_said_with_and_without_answers_of_that_kind():
    said = [hidden_sentence("a", row(0.4, 0.5, 0.6), precision, 0.25) for precision in (None, row(0.2, 0.25, 0.3))]
    assert said[0].endswith("but no answer that only this rule explains.")
    assert said[1].endswith("precision 25.0% (95% CI 20.0–30.0) is not significantly above the base rate (25.0%).")


def test_significance_needs_the_test_and_the_interval():
    base = {"condition_a": "a", "condition_b": "b", "difference": 0.05, "ci_low": 0.01, "ci_high": 0.09}
    base |= {"p_value": 0.01, "mde": 0.061}
    assert "a outperforms b by 5.0 points" in difference_sentence(base | {"p_adjusted": 0.01})
    assert "are not significantly different after Holm" in difference_sentence(base | {"p_adjusted": 0.06})
    said = difference_sentence(base | {"p_adjusted": 0.04, "ci_low": -0.01})
    assert "are statistically tied" in said
    assert said.endswith("Minimum detectable difference: 6.1 points (80% power).")
    assert "too small" in difference_sentence(base | {"p_adjusted": 0.5, "mde": 1.2})
    assert difference_sentence(base | {"p_adjusted": 0.06, "mde": None}).endswith(
        "(95% CI 1.0–9.0; p = 0.06, p = 0.01 without correction)."
    )
    alone = difference_sentence(base | {"p_value": 0.06, "p_adjusted": 0.3, "mde": None})
    assert alone.endswith("tied: 5.0 points (95% CI 1.0–9.0; p = 0.30).")
    reversed_ = {"difference": -0.05, "ci_low": -0.09, "ci_high": -0.01, "p_adjusted": 0.01}
    assert "b outperforms a by 5.0 points (95% CI 1.0–9.0; p = 0.01)" in difference_sentence(base | reversed_)


def test_headline_claims_no_hidden_rule_that_was_not_tested():
    accuracies = {"a": row(0.9, 0.95, 0.97)}
    assert "hidden" not in headline(["a"], accuracies, [], {"a": "unknown"}, 0.25)
    said = headline(["a"], accuracies, [], {"a": "partly"}, 0.25)
    assert said.endswith("(95% CI 90.0–97.0). No condition demonstrably learned the hidden rule.")


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
    assert "Other work on the same machine adds to it" in page  # a wall time is no pure cost


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
