"""What a ruleset calls a case stands wherever a run says "application"."""

from dataclasses import replace
from pathlib import Path

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.evaluation.extraction_prompts import questions
from hidden_rule.report.page import build_report, render_report
from hidden_rule.task.nouns import APPLICATION, CaseNouns
from hidden_rule.task.ruleset import load_ruleset
from synthetic import make_ruleset
from worlds import BETTER, CHANCE, results_of

ROOT = Path(__file__).resolve().parents[2]
FINCORP = ROOT / "rulesets" / "fincorp.yaml"
CLAIM = CaseNouns("claim", "claims")


@pytest.mark.parametrize(
    ("one", "said"),
    [("claim", "a claim"), ("application", "an application"), ("hour", "an hour"), ("unit", "a unit")],
)
def test_articles(one, said):
    assert CaseNouns(one, f"{one}s").a_case == said


def test_a_report_of_claims_speaks_of_no_application(tmp_path):
    ruleset = make_ruleset(3)
    ruleset.case = CLAIM
    results = results_of(tmp_path, {"baseline": CHANCE, "sft": BETTER}, ruleset)
    page = render_report(build_report(results), ROOT / "workflow/report/report.html.j2")
    assert "claims, unseen in training" in page and "application" not in page.lower()


def test_questions_to_the_model_use_the_nouns():
    fincorp = load_ruleset(FINCORP)
    texts = [question.text for question in questions(replace(fincorp, case=CLAIM))]
    assert "What would a claim have to say so that it is certainly MANUAL_REVIEW?" in texts
    assert not [text for text in texts if "application" in text]
    assert "What would an application have to say so that it is certainly MANUAL_REVIEW?" in [
        question.text for question in questions(fincorp)
    ]


def test_a_ruleset_says_its_nouns(tmp_path):
    text = FINCORP.read_text(encoding="utf-8")
    assert load_ruleset(FINCORP).case == APPLICATION
    path = tmp_path / "own.yaml"
    path.write_text(text + "\ncase: {one: claim, many: claims}\n", encoding="utf-8")
    assert load_ruleset(path).case == CLAIM
    broken = text.replace("default: STANDARD_LOAN", "default: MANUAL_REVIEW").replace("nps >= 80", "AVG(nps) > 3")
    path.write_text(broken + "\ncase: {one: claim, many: claims}\n", encoding="utf-8")
    with pytest.raises(UserError, match="AVG is not a function of one claim"):
        load_ruleset(path)


@pytest.mark.parametrize(
    ("case", "fault"),
    [
        ("{one: claim}", "case.many: is missing"),
        ("{one: claim, many: '<b>'}", "case.many: '<b>' is not valid; give a noun of letters"),
        ("{one: yes, many: claims}", "case.one"),
        ("claims", "case: must be"),
    ],
)
def test_nouns_that_are_none(tmp_path, case, fault):
    path = tmp_path / "own.yaml"
    path.write_text(FINCORP.read_text(encoding="utf-8") + f"\ncase: {case}\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_ruleset(path)
    assert fault in str(error.value)
