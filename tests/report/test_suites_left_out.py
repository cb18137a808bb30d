"""The report says which suites the ruleset does not allow."""

from bad_inputs import PARCELS
from hidden_rule.report.text.suites import left_out_sentences
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS


def test_suites_that_the_ruleset_does_not_allow_are_named():
    ruleset = load_ruleset(PARCELS)
    made = {*KINDS} - {"paraphrases", "decoys"}
    said = ["Suites left out: paraphrases (the ruleset lists no paraphrases)."]
    said += ["Suites left out: decoys (the ruleset lists no decoys)."]
    assert left_out_sentences(ruleset, made, {*made, "test"}) == said
    none_found = "Suites left out: conflicts and field order (the ruleset allows no such family)."
    assert none_found in left_out_sentences(ruleset, made, made - {"conflicts", "field_order"})
    assert left_out_sentences(ruleset, {"boundaries"}, {"boundaries"}) == said  # the others were not asked for
    assert left_out_sentences(ruleset, KINDS, {"test", "holdout"}) == []  # the report says that there are none
