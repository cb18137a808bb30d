"""What a report says of past decisions."""

from types import SimpleNamespace

import pytest

from hidden_rule.report.tables import policy_table, summary_table
from hidden_rule.report.text.findings import conclude
from synthetic import make_ruleset
from worlds import BETTER, CHANCE, results_of


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A world of three labels in which SFT learned what was decided."""
    ruleset = make_ruleset(3, n_hidden=0)
    ruleset.is_observed, ruleset.source = True, "claims.csv"
    return results_of(tmp_path_factory.mktemp("own"), {"baseline": CHANCE, "sft": BETTER}, ruleset)


def test_accuracy_is_compared_with_the_most_frequent_label(results):
    text = str(conclude(results))
    assert "always answering LABEL_" in text and "chance (" not in text
    assert "Past decisions (claims.csv): accuracy is agreement with what was decided" in text
    assert "Synthetic" not in text


def test_balanced_accuracy_stands_beside_accuracy(results):
    assert "balanced accuracy" in summary_table(results, results.main)["columns"]


def test_a_policy_without_a_default_has_no_last_line():
    rule = SimpleNamespace(name="a", when="x > 1", label="no", hidden=False)
    policy = SimpleNamespace(rules=[rule], default=None)
    assert [row[1] for row in policy_table(policy)["rows"]] == ["a"]
