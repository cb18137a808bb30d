"""The report says what its numbers support, no more, and treats every text as text."""

import functools
import json
import os
import shutil

import jinja2
import numpy as np
import polars as pl
import pytest

from hidden_rule import conclusions
from hidden_rule.conclusions import (
    collapse,
    collapse_sentence,
    collapse_sentences,
    conclude,
    headline,
    hidden_verdict,
    policy_verdict,
)
from hidden_rule.metrics import summarize_predictions
from hidden_rule.report import build_report, duration, render_report, suites_table
from hidden_rule.tables import HISTORY, METRICS
from synthetic import WORLD, make_history, make_ruleset, write_world
from test_charts import NAMES, render_world
from write_report import write_report

RULESET = make_ruleset(4)
READING = ("holdout", "structured")
TEMPLATE = os.path.join(os.path.dirname(__file__), "..", "workflow", "report", "report.html.j2")
CONFIG = {
    "experiment": "<b>bold</b>",
    "model": {"id": "a-model", "dtype": "auto"},
    "data": {"train": 640},
    "lora": {"r": 16},
    "seeds": [0],
    "sft": {"epochs": 5, "learning_rate": 2e-3},
    "grpo": {"epochs": 3, "learning_rate": 3e-4, "group_size": 8},
    "conditions": {
        "baseline": {},
        "sft": {"method": "sft"},
        "grpo": {"method": "grpo", "with": {"group_size": 64}},
        "sft_then_grpo": {"method": "grpo", "start_from": "sft"},
    },
}
PROVENANCE = {"created": "2026-01-01", "git": {"commit": "</pre><script>alert(3)</script>", "dirty": False}}
PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><iframe src=https://example.org></iframe>",
    "{{ 7 * 7 }} &lt; <a href=javascript:alert(1)>x</a>",
]


def row(low, value, high, n=1000):
    return {"value": value, "ci_low": low, "ci_high": high, "n": n}


def answer_of(tmp_path, world, seeds=(0,), ruleset=RULESET):
    """The conclusions of a made-up world: the headline, and all text."""
    made = write_world(tmp_path, ruleset, world, seeds)
    metrics, comparisons = summarize_predictions(made.predictions, made.jobs, ruleset)
    histories = [pl.read_parquet(path) for path in made.histories]
    answer = conclude(
        metrics, comparisons, histories, made.trained, ruleset.labels, list(world), READING, ("test", "free")
    )
    sentences = [sentence for _, part in answer["parts"] for sentence in part]
    return answer["headline"], " ".join([answer["scope"], *sentences])


def subsets(all_signal, p_right, **right_shares):
    rows = {"all": {"signal_share": all_signal, "p_right": p_right, "right_share": 1.0}}
    return rows | {name: {"right_share": share} for name, share in right_shares.items()}


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            subsets(0.56, 0.25, hidden=0.6, A=0.9),
            "carry a signal, and most groups of each decision hold a right reply.",
        ),
        (
            subsets(0.56, 0.25, hidden=0.264, A=0.9, B=0.113),
            "carry a signal, but only 26.4% of the hidden rule's and 11.3% of B's hold a right reply that reward could "
            "strengthen.",
        ),
        (
            subsets(0.04, 0.99, hidden=1.0, A=1.0),
            "4.0% of its first groups of 8 carry a signal, next to nothing to learn from; 99.0% of replies are right.",
        ),
    ],
)
def test_feasibility_in_words(of, words):
    sentence = conclusions.feasibility_sentence("grpo", "baseline", 8, of)
    assert sentence.startswith("grpo (from baseline): ") and sentence.endswith(words)


def test_suites_by_conditions():
    def row(condition, suite, metric, value):
        return {"condition": condition, "seed": None, "suite": suite, "decoding": "structured", "metric": metric,
                "label": None, "value": value, "ci_low": value / 2, "ci_high": value, "n": 80}  # fmt: skip

    metrics = pl.DataFrame(
        [
            row("a", "decoys", "false_flip_rate", 0.5),
            row("b", "decoys", "false_flip_rate", 0.1),
            row("a", "paraphrases", "accuracy", 0.2),
            row("a", "test", "accuracy", 0.9),
        ],
        schema=METRICS,
    )
    table = suites_table(metrics, ["a", "b"])
    assert table["columns"] == ["", "a", "b"]
    assert table["rows"] == [
        ["the trigger in other words: right (n = 80)", "20.0% (10.0 to 20.0%)", "–"],
        [
            "words that only sound like the trigger: the answer changes (n = 80)",
            "50.0% (25.0 to 50.0%)",
            "10.0% (5.0 to 10.0%)",
        ],
    ]
    assert suites_table(metrics.filter(suite="test"), ["a"]) is None


def test_a_training_that_was_stopped_is_named():
    rows = [(step, 0.0, 0, "zero_signal_share", None, 1.0) for step in range(1, 5)]
    stopped = pl.DataFrame([*rows, (4, 0.0, 0, "stopped_without_signal", None, 4.0)], schema=HISTORY, orient="row")
    other = pl.DataFrame(rows, schema=HISTORY, orient="row")
    assert conclusions.stopped_sentences([["a", 0, "grpo"], ["b", 1, "grpo"]], [other, stopped]) == [
        "b (seed 1) was stopped after step 4: no group had carried a signal for 4 steps."
    ]


def test_sft_wins_and_swapped_numbers_swap_the_words(tmp_path):
    first, text = answer_of(tmp_path, {name: WORLD[name] for name in ("baseline", "sft", "grpo")})
    assert first.startswith("sft decides best: ")
    assert first.endswith("The hidden rule was learnt by sft.")
    assert "baseline cannot be told apart from chance (25.0%)" in text
    assert "sft learnt the policy" in text
    assert "grpo learnt a part of the policy" in text
    assert "grpo did not learn the hidden rule" in text
    assert "sft beats grpo by" in text
    assert "one seed" in text
    assert "exact McNemar tests of one training seed, adjusted for 3 comparisons (Holm)" in text
    swapped = {"baseline": WORLD["baseline"], "sft": WORLD["grpo"], "grpo": WORLD["sft"] | {"method": "grpo"}}
    first, text = answer_of(tmp_path, swapped)
    assert first.startswith("grpo decides best: ")
    assert "grpo beats sft by" in text
    assert "grpo (seed 0) did not collapse" in text


def test_tie(tmp_path):
    first, text = answer_of(tmp_path, {name: WORLD[name] for name in ("sft", "sft_then_grpo")})
    assert "sft_then_grpo decides rightly most often" in first
    assert "but sft cannot be told apart from it" in first
    assert "sft and sft_then_grpo cannot be told apart" in text or "sft_then_grpo and sft cannot be told apart" in text
    assert "beats" not in text


def test_all_at_chance(tmp_path):
    bad = {"accuracy": 0.25, "method": "sft"}
    first, text = answer_of(tmp_path, {"a": bad, "b": bad | {"method": "grpo"}, "c": bad | {"method": None}})
    assert first.startswith("No condition can be said to do better than chance")
    assert "learnt the policy" not in text
    assert "learnt a part" not in text
    assert "beats" not in text


def test_no_training_by_reward(tmp_path):
    _, text = answer_of(tmp_path, {name: WORLD[name] for name in ("baseline", "sft")})
    assert "No condition was trained by reward" in text


def test_several_seeds(tmp_path):
    first, text = answer_of(tmp_path, {name: WORLD[name] for name in ("baseline", "sft", "grpo")}, seeds=(0, 1, 2))
    assert first.startswith("sft decides best")
    assert "t-tests over applications and 3 training seeds, adjusted for 3 comparisons (Holm)" in text
    assert text.count("collapsed into 2 of 4 decisions") == 3


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.86, 0.88, 0.90, "learnt"),
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
        (row(0.9, 0.95, 0.98), row(0.85, 0.9, 0.95), "learnt"),
        (row(0.0, 0.05, 0.12), row(0.5, 0.9, 0.99), "missed"),
        (row(1.0, 1.0, 1.0), row(0.22, 0.25, 0.28), "no_sign"),  # it always answers with that label
        (row(0.2, 0.25, 0.3), row(0.2, 0.25, 0.3), "no_sign"),  # it guesses
        (row(0.9, 0.95, 0.98), row(0.4, 0.5, 0.6), "too_wide"),
        (row(0.4, 0.5, 0.6), row(0.7, 0.8, 0.9), "partly"),
        (row(0.4, 0.5, 0.6), {"value": None}, "no_sign"),
        ({"value": None}, {"value": None}, "unknown"),
    ],
)
def test_hidden_verdict(recall, precision, verdict):
    assert hidden_verdict(recall, precision, 0.25) == verdict


def test_no_sign_is_said_with_and_without_answers_of_that_kind():
    said = [
        conclusions.hidden_sentence("a", row(0.4, 0.5, 0.6), precision, 0.25)
        for precision in ({"value": None}, row(0.2, 0.25, 0.3))
    ]
    assert said[0].endswith("none of its answers needs this rule to be explained.")
    assert said[1].endswith("25.0% (20.0 to 30.0%) are right, which chance (25.0%) can explain.")


def test_significance_needs_the_test_and_the_interval():
    base = {"condition_a": "a", "condition_b": "b", "difference": 0.05, "ci_low": 0.01, "ci_high": 0.09}
    base |= {"p_value": 0.01, "mde": 0.061}
    assert "a beats b by 5.0 points" in conclusions.difference_sentence(base | {"p_adjusted": 0.01})
    assert "cannot be told apart" in conclusions.difference_sentence(base | {"p_adjusted": 0.06})
    said = conclusions.difference_sentence(base | {"p_adjusted": 0.04, "ci_low": -0.01})
    assert "cannot be told apart" in said
    assert said.endswith("A difference of 6.1 points would have been seen with a chance of some 80%.")
    assert "too few" in conclusions.difference_sentence(base | {"p_adjusted": 0.5, "mde": 1.2})
    assert conclusions.difference_sentence(base | {"p_adjusted": 0.06, "mde": None}).endswith("p = 0.06).")
    reversed_ = {"difference": -0.05, "ci_low": -0.09, "ci_high": -0.01, "p_adjusted": 0.01}
    assert "b beats a by 5.0 points (1.0 to 9.0; p = 0.01)" in conclusions.difference_sentence(base | reversed_)


def test_headline_claims_no_hidden_rule_that_was_not_tested():
    accuracies = {"a": row(0.9, 0.95, 0.97)}
    assert "hidden" not in headline(["a"], accuracies, [], {"a": "unknown"}, 0.25)
    assert "No condition can be said" in headline(["a"], accuracies, [], {"a": "partly"}, 0.25)


def test_collapse_names_labels_and_step():
    labels = RULESET.labels
    kept = [labels[1], labels[3]]
    verdict = collapse(make_history(RULESET, "grpo", 0.4, only=kept), labels)
    assert sorted(verdict["kept"]) == kept
    assert verdict["lost"] == [labels[0], labels[2]]
    assert 80 <= verdict["step"] <= 101  # planted: the others shrink to nothing at step 100
    assert verdict["zero_signal"] > 0.9
    sentence = collapse_sentence("grpo", 0, verdict, 4)
    assert f"collapsed into 2 of 4 decisions, {verdict['kept'][0]} and {verdict['kept'][1]}: from step" in sentence
    assert collapse(make_history(RULESET, "grpo", 0.9), labels)["lost"] == []
    assert collapse(make_history(RULESET, "grpo", 0.4, only=kept, n_steps=10), labels)["too_short"]
    assert collapse(make_history(RULESET, "sft", 0.9), labels) is None


def test_sound_seeds_share_a_sentence():
    sound, short = {"lost": [], "too_short": False}, {"lost": [], "too_short": True}
    sentences = collapse_sentences([("b", 0, sound), ("a", 0, None), ("b", 1, short), ("b", 2, sound)], 4)
    assert len(sentences) == 2
    assert "b (seed 1) was trained for fewer than" in sentences[0]
    assert sentences[1].startswith("b (seeds 0 and 2) did not collapse")


def test_no_collapse_is_seen_in_noise():
    """Labels of a sound policy go missing from single small batches by chance; that is no collapse."""
    generator = np.random.default_rng(0)
    verdicts = []
    for _ in range(40):
        shares = generator.multinomial(16, [0.25] * 4, size=120) / 16
        rows = [
            (s, "predicted_share", x, v) for s, r in enumerate(shares) for x, v in zip(RULESET.labels, r, strict=True)
        ]
        history = pl.DataFrame(rows, schema=["step", "metric", "label", "value"], orient="row")
        verdicts.append(bool(collapse(history, RULESET.labels)["lost"]))
    assert sum(verdicts) == 0


def test_durations():
    assert [duration(x) for x in (3.21, 61, 3_720)] == ["3.2 s", "1 min 01 s", "1 h 02 min"]


@functools.cache
def built(folder) -> str:
    """A whole report of the default world, with malicious replies; its path."""
    made = write_world(folder, RULESET)
    for path, payload in zip(made.predictions, PAYLOADS, strict=True):
        invalid = pl.col("predicted").is_null()
        frame = pl.read_parquet(path).with_columns(
            reply=pl.when(invalid | (pl.int_range(pl.len()) > 1170)).then(pl.lit(payload)).otherwise("reply"),
        )
        frame = frame.with_columns(predicted=pl.when(pl.col("reply") == payload).then(None).otherwise("predicted"))
        frame.with_columns(is_valid=pl.col("predicted").is_not_null()).write_parquet(path)
    svgs = [folder / "charts" / f"{name}.svg" for name in NAMES]
    pages = [folder / "charts" / "accuracy.html"]
    render_world(folder, made, RULESET, {"width": 300}, svgs + pages)
    tables = {name: folder / f"{name}.parquet" for name in ("metrics", "comparisons", "costs")}
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    write_report(
        **tables, histories=made.histories, trained=made.trained, predictions=made.predictions, jobs=made.jobs,
        svgs=svgs, provenance=folder / "provenance.json", ruleset=RULESET, config=CONFIG, template=TEMPLATE,
        output=folder / "report.html",
    )  # fmt: skip
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
    for text in ("group_size", "64", "the base model", "rule_0", "10 min 00 s", "3.00 GiB", "2026-01-01"):
        assert text in page, text


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render_report({"experiment": "x"}, TEMPLATE)


def test_one_untrained_condition_makes_a_report(tmp_path):
    made = write_world(tmp_path, RULESET, {"baseline": WORLD["baseline"]}, sizes=[("test", "structured", 40, 0)])
    metrics, comparisons = summarize_predictions(made.predictions, made.jobs, RULESET)
    context = build_report(
        metrics, comparisons, made.costs, [], [], made.predictions, made.jobs, [], {}, RULESET,
        CONFIG | {"conditions": {"baseline": {}}}, tmp_path / "report.html",
    )  # fmt: skip
    page = render_report(context, TEMPLATE)
    assert "nothing to compare" in page
    assert "Settings of each training" not in page


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
