"""The page's section on rules, in words that a person can read."""

from types import SimpleNamespace

import jinja2
import polars as pl
import pytest
from test_page import TEMPLATE

from hidden_rule.core.tables import LEARNT_RULES, RULES, write_table
from hidden_rule.report import rules_page
from hidden_rule.report.page import build_report
from hidden_rule.report.text.learnt_rules import learnt_sentences, span
from worlds import BETTER, CHANCE, results_of

WORLD = {"baseline": CHANCE, "sft": BETTER}
RUN = {"suite": "holdout", "decoding": "structured", "n_answers": 1000, "most_frequent": 0.3}
RUN |= {"fidelity": 0.91, "fidelity_low": 0.89, "fidelity_high": 0.93}


def rule(condition, seed, place, label, when, **columns) -> dict:
    """A row of LEARNT_RULES: a rule that decides a fifth of the answers, as the policy's does."""
    row = RUN | {"condition": condition, "seed": seed, "place": place, "label": label, "when": when, "n": 200}
    row |= {"precision": 0.95, "true_rule": None, "overlap": 0.9, "mentioned": True if when else None}
    return dict.fromkeys(LEARNT_RULES) | row | columns


def bound(condition, seed, place, threshold, low, high) -> dict:
    about = {"feature": "x", "comparison": ">", "threshold": threshold, "threshold_low": low, "threshold_high": high}
    return rule(condition, seed, place, "LABEL_B", f"x > {threshold}", true_rule="rule_1", true_threshold=80.0, **about)


def default(condition, seed, place, label="LABEL_D", **columns) -> dict:
    return rule(condition, seed, place, label, None, true_rule="default", **columns)


def shown(tmp_path, learnt=(), found=None, seeds=(0,)):
    """The results of a small world with these tables."""
    results = results_of(tmp_path, WORLD, seeds=seeds)
    if learnt:
        names = {"Untrained": "baseline", "SFT": "sft"}
        rows = [row | {"condition": names[row["condition"]]} for row in learnt]
        write_table(pl.DataFrame(rows, schema=LEARNT_RULES), tmp_path / "learnt_rules.parquet", LEARNT_RULES)
    if found:
        rows = [dict.fromkeys(RULES) | row for row in found]
        write_table(pl.DataFrame(rows, schema=RULES), tmp_path / "rules.parquet", RULES)
    return results


def test_older_results_have_no_such_section(tmp_path):
    assert rules_page.section(shown(tmp_path)) is None


@pytest.mark.parametrize(
    ("threshold", "low", "high", "said"),
    [
        (74, 72, 76, ["SFT answers LABEL_B above x 74 (95% CI 72–76), the policy above 80."]),
        (78, 75, 80, []),  # the policy's is in the interval
        (-74, -76, -72.5, ["SFT answers LABEL_B above x −74 (95% CI −76 to −72.5), the policy above 80."]),
    ],
)
def test_a_shifted_threshold_in_words(tmp_path, threshold, low, high, said):
    results = shown(tmp_path, [bound("SFT", 0, 1, threshold, low, high), default("SFT", 0, 2)])
    assert [line for line in learnt_sentences(results) if "counterpart" not in line] == said


def test_seeds_are_told_together(tmp_path):
    learnt = [bound("SFT", seed, 1, 70 + seed, 68 + seed, 72 + seed) for seed in (0, 1, 2)]
    learnt = [*learnt[:2], bound("SFT", 2, 1, 79, 77, 81), *(default("SFT", seed, 2) for seed in (0, 1, 2))]
    results = shown(tmp_path, learnt, seeds=(0, 1, 2))
    assert learnt_sentences(results)[0] == (
        "SFT answers LABEL_B above x 70–71 (95% CI 68–73), the policy above 80 (seeds 0 and 1)."
    )
    (row, otherwise) = rules_page.rules_table(results)["rows"]
    assert row[:4] == ["SFT", "LABEL_B", "x > 70", "3 of 3"] and row[-1] == "x 70–79 (68–81; policy 80)"
    assert otherwise[1:3] == ["LABEL_D", "otherwise"]


def test_what_no_rule_mentions_and_what_is_missing(tmp_path):
    aside = {"feature": "team", "comparison": "IN", "values": ["a"], "mentioned": False, "overlap": None}
    results = shown(tmp_path, [rule("SFT", 0, 1, "LABEL_B", "team = 'a'", **aside), default("SFT", 0, 2)])
    assert learnt_sentences(results) == [
        "SFT decides 20.0% of cases by a feature that no rule mentions: team.",
        "SFT has no counterpart of rule_0, rule_1 and rule_2.",
    ]


def test_a_constant_and_a_coin_in_words(tmp_path):
    coin = default("SFT", 0, 1, n=1000, precision=0.26)
    results = shown(tmp_path, [default("Untrained", 0, 1, n=1000, precision=0.985), coin])
    assert learnt_sentences(results) == [
        "Untrained answers LABEL_D in 98.5% of cases.",
        "No rule was found in SFT's answers.",
    ]


def test_rules_for_one_answer_in_a_hundred_are_left_out(tmp_path):
    rows = [bound("SFT", 0, 1, 74, 72, 76) | {"n": 9}, default("SFT", 0, 2)]
    assert len(rules_page.rules_table(shown(tmp_path, rows))["rows"]) == 1


FOUND = {
    "kind": "rule", "name": "found_1", "verdict": "proposed", "when": "team = '<b>a</b>'", "label": "LABEL_A",
    "says": "team is <b>a</b>", "single_label": True, "n_found_on": 30, "n": 20, "n_label": 18, "n_departures": 19,
    "departures_to": ["LABEL_A 18", "LABEL_B 1"], "precision": 0.9, "ci_low": 0.7, "ci_high": 0.97, "lift": 3.6,
    "lift_low": 2.5, "lift_high": 3.9, "p_value": 1e-6, "n_tried": 900, "n_shuffles": 49, "n_as_good": 0,
}  # fmt: skip
ALL = {"kind": "all", "n_found_on": 160, "n": 80, "n_departures": 21}


def test_found_rules_are_shown_as_text_with_the_yaml_to_paste(tmp_path):
    results = shown(tmp_path, [default("SFT", 0, 1)], [FOUND, ALL, {"kind": "rest", "n": 60, "n_departures": 2}])
    part = rules_page.section(results)["found"]
    assert part["sentences"] == [
        "21 of 80 cases (26.2%) deviate from the stated rules; 160 others were searched for a cause.",
        "Found: team is <b>a</b> → LABEL_A.",
        "2 of the 60 other cases deviate from the stated rules; no rule was found in them.",
    ]
    assert part["table"]["rows"][0][1:] == [
        "LABEL_A", "proposed", "20", "90.0% (70.0–97.0)", "3.6 (2.5–3.9)", "0 of 49 searches", "–",
    ]  # fmt: skip
    assert "hidden: true" in part["yaml"] and "\"team = '<b>a</b>'\"" in part["yaml"]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATE.rpartition("/")[0]), autoescape=True)
    page = environment.get_template("report.html.j2").render(build_report(results))
    assert "<b>a</b>" not in page and "team is &lt;b&gt;a&lt;/b&gt;" in page


def test_without_stated_rules_decisions_deviate_from_the_most_frequent_one(tmp_path):
    results = shown(tmp_path, found=[FOUND, ALL, {"kind": "rest", "n": 60, "n_departures": 2}])
    results.ruleset = SimpleNamespace(**{**vars(results.ruleset), "rules": (), "default": None})
    first, _, last = rules_page.section(results)["found"]["sentences"]
    assert "deviate from the most frequent decision;" in first and "deviate from the most frequent decision;" in last


def test_a_rule_that_is_known_needs_no_pasting(tmp_path):
    known = FOUND | {"hidden_rule": "rule_0", "overlap": 1.0}
    part = rules_page.section(shown(tmp_path, found=[known, ALL, {"kind": "rest", "n": 60, "n_departures": 0}]))[
        "found"
    ]
    assert part["yaml"] == "" and "which is the hidden rule rule_0" in part["sentences"][1]
    assert part["sentences"][2] == "No other case deviates."


def test_what_may_be_chance_is_said_to_be(tmp_path):
    doubtful = FOUND | {"verdict": "unsupported", "name": None, "n_as_good": 20}
    part = rules_page.section(shown(tmp_path, found=[doubtful, ALL, {"kind": "rest", "n": 80, "n_departures": 21}]))[
        "found"
    ]
    assert part["sentences"][1:] == ["No rule is supported: such departures are as likely to be errors."]
    assert part["yaml"] == "" and part["table"]["rows"][0][2] == "unsupported"


def test_spans():
    assert [span(1, 1), span(1, 2.5), span(-3, 2)] == ["1", "1–2.5", "−3 to 2"]
