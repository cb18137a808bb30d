"""Reference conditions stand apart from trained ones."""

import pytest
from test_comparisons import SURELY, pair
from test_page import CONFIG, TEMPLATE
from test_rule_learning import of_accuracy, row

from hidden_rule.report.page import build_report, render_report
from hidden_rule.report.text import baselines as references
from hidden_rule.report.text.findings import conclude
from hidden_rule.report.text.rule_learning import OnHiddenRule
from synthetic import WORLD, make_ruleset, write_results
from worlds import whole_headline

RULESET = make_ruleset(4)


REFERENCES = {"plain": {"reference": "boosting"}, "always": {"reference": "constant"}, "oracle": {"prompt": "oracle"}}


ON_FEATURES = [("test", "structured", 160, 0), ("holdout", "structured", 1000, 10_000)]  # no free decoding


def texts_of(answer) -> dict[str, str]:
    """The text under each heading of an answer."""
    return {heading: " ".join(sentences) for _, parts in answer["sections"] for heading, sentences in parts}


def beside_references(tmp_path, world, references, against="sft"):
    """The conclusions of a world with reference conditions, and all text, by heading."""
    sized = {} if "oracle" in references else {"sizes": ON_FEATURES}
    beside = {name: {"method": None, **REFERENCES[name], **of, **sized} for name, of in references.items()}
    config = {"comparisons": {"against": against}}
    answer = conclude(write_results(tmp_path, RULESET, world | beside, config=config))
    return whole_headline(answer), texts_of(answer)


NEEDED = (
    "No language model is needed for this accuracy; one would be for free-text fields, facts in prose or "
    "replies in words. "
)


def test_references_stand_apart(tmp_path):
    world = {name: WORLD[name] for name in ("baseline", "sft")}
    headline, parts = beside_references(tmp_path, world, {"plain": {"accuracy": 0.98}, "always": {"accuracy": 0.25}})
    assert headline.startswith(
        "plain (boosted trees on the features, no language model) is significantly more accurate than sft: 9"
    )
    assert f". {NEEDED}sft has the highest accuracy (references excluded), 9" in headline
    assert headline.endswith("The hidden rule was learned by sft.")  # the best reference stands first already
    policy, hidden, reached = parts["Policy"], parts["Hidden rule"], parts["References"]
    assert not {"plain", "always"} & set(f"{policy} {hidden}".split())
    assert "plain (boosted trees on the features, no language model): accuracy 9" in reached
    assert "always (most frequent decision of the training split): accuracy 2" in reached and "learned" not in reached
    differences = parts["Significance"]
    assert "plain outperforms sft by" in differences and "sft outperforms baseline by" in differences
    assert "sft outperforms always by" in differences
    assert "Planned comparisons: sft with always, baseline and plain. " in differences
    assert "Holm correction for 3 comparisons" in differences
    free = parts["Free decoding (test)"]
    assert "sft" in free and "plain" not in free  # a classifier writes nothing


def test_references_that_are_worse_come_last(tmp_path):
    world = {name: WORLD[name] for name in ("baseline", "sft")}
    headline, _ = beside_references(tmp_path, world, {"plain": {"accuracy": 0.4}, "always": {"accuracy": 0.6}})
    assert headline.startswith("sft has the highest accuracy (references excluded), ")
    assert "The hidden rule was learned by sft. The most accurate reference is always, 6" in headline
    assert "language model" not in headline


def test_a_headline_without_references_names_none(tmp_path):
    headline, _ = beside_references(tmp_path, {name: WORLD[name] for name in ("baseline", "sft")}, {})
    assert headline.startswith("sft has the highest accuracy, ")
    assert "reference" not in headline and "language model" not in headline


def test_trainings_that_fail_beside_a_prompt_that_does_not(tmp_path):
    bad = {"accuracy": 0.25, "method": "sft"}
    headline, parts = beside_references(tmp_path, {"a": bad, "b": bad}, {"oracle": {"accuracy": 0.9}}, "oracle")
    assert headline.startswith("No condition (references excluded) is significantly better than chance (25.0%).")
    assert "The most accurate reference is oracle, " in headline
    assert "oracle outperforms " in parts["Significance"]


def test_a_classifier_beside_trainings_that_fail(tmp_path):
    """One that is above chance comes first; one that is not says nothing of language models."""
    bad = {"accuracy": 0.25, "method": "sft"}
    failed = "No condition (references excluded) is significantly better than chance (25.0%)."
    headline, _ = beside_references(tmp_path, {"sft": bad}, {"plain": {"accuracy": 0.9}})
    assert headline.startswith("plain (boosted trees ") and f" {NEEDED}{failed}" in headline
    headline, _ = beside_references(tmp_path, {"sft": bad}, {"plain": {"accuracy": 0.25}})
    assert headline.startswith(f"{failed} The most accurate reference is plain, 2")


def test_a_reference_that_is_statistically_tied(tmp_path):
    headline, parts = beside_references(tmp_path, {"sft": WORLD["sft"]}, {"plain": {"accuracy": 0.88, "hidden": 0.95}})
    assert headline.startswith(
        "plain (boosted trees on the features, no language model) is statistically tied with sft: 9"
    )
    assert f". {NEEDED}sft has the highest accuracy (references excluded), 9" in headline
    assert "are statistically tied" in parts["Significance"]


BEST = {"best": of_accuracy(0.9, 0.88, 0.92), "next": of_accuracy(0.89, 0.87, 0.91)}


@pytest.mark.parametrize(
    ("value", "pairs", "matches"),
    [
        (0.95, [pair("r", "best", 0.05, **SURELY)], [("best", "better")]),
        (0.91, [pair("best", "r", -0.01)], [("best", "tied")]),
        (0.88, [pair("best", "r", 0.02)], [("best", "tied")]),
        (0.85, [pair("best", "r", 0.05, **SURELY)], []),
        (0.88, [], []),  # whether it is worse is not known
        (0.9, [], [("best", "higher")]),
        # not compared with the best one, but with one that is statistically tied with it
        (0.88, [pair("next", "best", -0.01), pair("r", "next", -0.01)], [("next", "tied")]),
        (0.88, [pair("next", "best", -0.01), pair("r", "next", -0.03, **SURELY)], []),
        (0.88, [pair("next", "best", -0.03, **SURELY), pair("r", "next", -0.01)], []),
        (0.95, [pair("next", "best", -0.03, **SURELY), pair("r", "next", 0.06, **SURELY)], [("best", "higher")]),
    ],
)
def test_when_a_reference_is_as_good_as_the_best_condition(value, pairs, matches):
    accuracies = BEST | {"r": of_accuracy(value, value - 0.02, value + 0.02)}
    found = references.matching_references(["r"], "best", accuracies, pairs)
    assert [(of.peer, of.relation) for of in found] == matches


def test_how_a_headline_tells_of_several_references_of_one_and_of_the_most_frequent_decision():
    kinds = {"a": "logistic", "b": "boosting", "c": "constant"}
    accuracies = BEST | {
        name: of_accuracy(value, value, value) for name, value in [("a", 0.91), ("b", 0.95), ("c", 0.88)]
    }

    def said(fields, *names):
        pairs = [pair("next", "best", -0.01), *(pair(name, "next", 0.0) for name in names)]
        of = {name: kinds[name] for name in names}
        found = references.matching_references(of, "best", accuracies, pairs)
        return references.match_sentences(found, "best", of, accuracies, fields)

    first, second = said({"number", "choice"}, "a", "b", "c")
    assert first == (
        "b (boosted trees on the features, no language model) is statistically tied with next, which "
        "is statistically tied with best: 95.0% (95% CI 95.0–95.0), against 89.0% (95% CI 87.0–91.0); likewise a and c."
    )
    assert f"{second} " == NEEDED
    assert said({"number", "text"}, "a")[1] == (
        "No language model is needed for this accuracy; one would be for facts in prose or replies in words."
    )
    assert said(set(), "c") == [
        "c (most frequent decision of the training split) is statistically tied with next, which is statistically tied "
        "with best: 88.0% (95% CI 88.0–88.0), against 89.0% (95% CI 87.0–91.0).",
        "The accuracy of next is no evidence of learning.",
    ]
    assert said(set()) == []
    mixed = [pair("b", "best", 0.05, **SURELY), pair("a", "best", 0.01)]
    found = references.matching_references(["a", "b"], "best", accuracies, mixed)
    assert references.match_sentences(found, "best", kinds, accuracies, set())[0] == (
        "b (boosted trees on the features, no language model) is significantly more accurate than best: 95.0% (95% CI "
        "95.0–95.0), against 90.0% (95% CI 88.0–92.0); a is statistically tied with best."
    )


def test_references_alone(tmp_path):
    world = {"plain": {"method": None, "accuracy": 0.9}, "always": {"method": None, "accuracy": 0.25}}
    world = {name: REFERENCES[name] | of for name, of in world.items()}
    answer = conclude(write_results(tmp_path, RULESET, world, sizes=ON_FEATURES))
    parts = texts_of(answer)
    assert whole_headline(answer).startswith("plain has the highest accuracy, ")
    assert "excluded" not in whole_headline(answer) and "accurate reference" not in whole_headline(answer)
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
        "plain": "a linear classifier on the features, no language model",
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
    context = build_report(results)
    assert [row[0] for row in context["summary"]["rows"]] == ["SFT", "always"]
    assert context["settings"]["columns"] == ["setting", "SFT"]
    page = render_report(context, TEMPLATE)
    assert "most frequent decision of the training split" in page
    assert "The most accurate reference is always" in page
