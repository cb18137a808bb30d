"""Tables that `make publish` writes."""

import pytest

from hidden_rule.core.files import read_json
from hidden_rule.core.paths import ROOT
from hidden_rule.experiment.display import displayed
from hidden_rule.experiment.results import Results
from hidden_rule.report.publish import main_table
from hidden_rule.task.ruleset import load_ruleset

PUBLISHED = ROOT / "results" / "published"


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    """The cells of the default experiment's table, by condition and column."""
    config = read_json(PUBLISHED / "provenance.json")["config"]
    results = Results(PUBLISHED, config, ruleset=load_ruleset(ROOT / config["ruleset"]))
    table = main_table(displayed(results), beside_study=True)
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    head, _, *cells = lines
    return {row[0]: dict(zip(head, row, strict=True)) for row in cells}


@pytest.mark.parametrize(
    ("condition", "training"),
    [("Untrained", "–"), ("SFT", "3.1 min"), ("GRPO", "2.0 min"), ("SFT → GRPO", "4.9 min")],
)
def test_training_includes_what_a_condition_starts_from(rows, condition, training):
    """SFT → GRPO: 1.8 min of its own after SFT's 3.1."""
    assert rows[condition]["training"] == training


def test_the_study_stands_beside_the_conditions_that_it_had(rows):
    assert {name: row["the study's accuracy"] for name, row in rows.items()} == {
        "Untrained": "33.8", "SFT": "88.3", "GRPO": "43.3", "SFT → GRPO": "–",
    }  # fmt: skip
