"""The page of two runs: what it says of them, and the one line for what is no finished run."""

import json
import shutil

import pytest
from test_page import browser, requests_of

from conftest import ROOT
from hidden_rule.core.errors import UserError
from hidden_rule.report.compare.page import build_comparison, compare_folders
from hidden_rule.report.compare.sources import PACKAGES, flat, provenance_rows, settings_that_differ
from hidden_rule.report.finished import read_finished
from synthetic import make_ruleset, write_results

RULESET = make_ruleset(4)
PUBLISHED = ROOT / "results" / "published"
HOSTILE = "<script>alert(1)</script>"
SIZES = [("holdout", "structured", 200, 1000)]
GOOD, BAD = {"method": "sft", "accuracy": 0.95}, {"method": "sft", "accuracy": 0.6}
SAME = {"method": None, "accuracy": 0.25}


def pair(tmp_path, **options):
    """A has a worse SFT than B, the same untrained model, and conditions of its own."""
    a = {"baseline": SAME, "sft": BAD, "sft_big": GOOD}
    b = {"baseline": SAME, "sft": GOOD}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_results(tmp_path / "a", RULESET, a, sizes=SIZES, config={"experiment": HOSTILE})
    config = {"sft": {"epochs": 5, "learning_rate": 2e-3}}
    second = write_results(tmp_path / "b", RULESET, b, sizes=SIZES, config=config | options.get("config", {}))
    return first, second


def test_settings_are_compared_key_by_key():
    a = {"sft": {"epochs": 4, "with": {}}, "seeds": [0], "only": 1}
    b = {"sft": {"epochs": 5, "with": {}}, "seeds": [0, 1]}
    assert flat(a) == {"sft.epochs": "4", "sft.with": "none", "seeds": "0", "only": "1"}
    assert settings_that_differ(a, b) == [["only", "1", "–"], ["seeds", "0", "0, 1"], ["sft.epochs", "4", "5"]]
    assert settings_that_differ(a, a) == []


def test_the_page_says_what_differs_and_what_does_not(tmp_path):
    context = build_comparison(*pair(tmp_path))
    assert context["sentences"][0] == ("holdout, structured decoding: paired on the same applications; seed 0 of both.")
    assert context["sentences"][1].startswith("SFT: accuracy is higher in B by 3")
    assert context["sentences"][2] == "Accuracy of Untrained: not significantly different."
    assert context["only"] == ["Only in A: sft_big."]
    assert ["sft.learning_rate", "–", "0.002"] in context["settings"]
    (table,) = context["metrics"]
    assert table["caption"] == "holdout, structured decoding: paired on the same cases"
    assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    assert [row[0] for row in context["costs"]] == ["SFT"] and context["costs"][0][-1] == "1.00"


def test_provenance_stands_side_by_side(tmp_path):
    a, b = pair(tmp_path)
    for results, commit, torch in ((a, "aaa", "2.0"), (b, "bbb", "2.1")):
        record = {"git": {"commit": commit, "dirty": commit == "aaa"}, "packages": {"torch": torch, "numpy": "1"}}
        results.layout.provenance.write_text(json.dumps(record), encoding="utf-8")
    rows = {row[0]: row[1:] for row in provenance_rows(a, b)}
    assert rows["commit"] == ["aaa (with changes)", "bbb"]
    assert rows[PACKAGES] == ["torch 2.0", "torch 2.1"]
    assert "model" not in rows


FAULTS = [  # what is done to a copy of a published run, and what is said of it
    (lambda folder: shutil.rmtree(folder), "{folder}: A: does not exist; name the folder of a finished run"),
    (
        lambda folder: (folder / "provenance.json").write_text('{"config"', encoding="utf-8"),
        "{folder}/provenance.json: is not JSON",
    ),
    (lambda folder: (folder / "provenance.json").write_text("[]", encoding="utf-8"), "json: must be a mapping"),
    (
        lambda folder: (folder / "metrics.parquet").unlink(),
        "{folder}: A: holds a run that is not finished: it has no metrics.parquet; name",
    ),
    (
        lambda folder: [path.unlink() for path in folder.glob("*.*")],
        "{folder}: A: is no results folder: it has no metrics.parquet, comparisons.parquet, costs.parquet and",
    ),
    (
        lambda folder: [path.unlink() for path in folder.glob("*.*")] + [(folder / "logs").mkdir()],
        "{folder}: A: holds a run that is not finished: it has no metrics.parquet",
    ),
    (
        lambda folder: (folder / "metrics.parquet").write_bytes(b"PAR1"),
        "{folder}/metrics.parquet: ",
    ),
]


@pytest.mark.parametrize(("change", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_what_is_no_finished_run_is_refused_in_one_line(tmp_path, change, said):
    folder = tmp_path / "mine"
    shutil.copytree(PUBLISHED / "label-noise", folder)
    change(folder)
    with pytest.raises(UserError) as caught:
        compare_folders(str(folder), str(PUBLISHED / "rl-fair"), str(tmp_path / "out.html"))
    assert said.format(folder=folder) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out.html").exists()


def test_a_run_is_not_compared_with_itself_and_a_folder_has_to_be_named():
    folder = str(PUBLISHED / "rl-fair")
    with pytest.raises(UserError, match="is both A and B; name two runs"):
        compare_folders(folder, folder)
    with pytest.raises(UserError, match="B: names no folder"):
        read_finished("", "B")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two published runs, whose predictions are not published."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(PUBLISHED / "rl-fair", folder / "rl-fair")
    record = json.loads((folder / "rl-fair" / "provenance.json").read_text(encoding="utf-8"))
    record["config"]["experiment"] = record["git"]["commit"] = HOSTILE
    (folder / "rl-fair" / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    return compare_folders(str(folder / "rl-fair"), str(PUBLISHED / "label-noise"), str(folder / "new" / "page.html"))


def test_published_runs_are_unpaired_and_text_is_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert "unpaired, because the folder of A does not hold the predictions" in text
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.browser
def test_in_a_browser_nothing_is_fetched_logged_or_cut(page, tmp_path):
    driver = browser(tmp_path)
    try:
        for width in (1280, 390):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(f"file://{page}")
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.get_log("browser") == []
        assert {*requests_of(driver)} == {f"file://{page}"}
    finally:
        driver.quit()
