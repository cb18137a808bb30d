"""Reference conditions stand apart from trained ones."""

from test_page import CONFIG, TEMPLATE
from test_rule_learning import row

from hidden_rule.report.page import build_report, render_report
from hidden_rule.report.text import baselines as references
from hidden_rule.report.text.findings import conclude
from hidden_rule.report.text.rule_learning import OnHiddenRule
from synthetic import WORLD, make_ruleset, write_results

RULESET = make_ruleset(4)


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
    of = OnHiddenRule(None, {"always": recall}, {"always": precision}, {"always": 0.25})
    assert references.reference_sentence("always", "one decision", accuracy, [of]) == (
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
