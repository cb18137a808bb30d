"""`make find-rules`: from a CSV to a hidden rule of the ruleset that goes with it."""

from pathlib import Path

import numpy as np
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.statistics.search_file import main, search_file
from hidden_rule.task.cases.own import CaseSettings, read_own_cases
from hidden_rule.task.cases.splits import SplitSettings
from hidden_rule.task.ruleset import load_ruleset

POLICY = load_ruleset(Path(__file__).resolve().parents[2] / "rulesets/fincorp.yaml")
STATED = """
default: STANDARD_LOAN
rules:
  - {name: burn_risk, label: REJECT_RISK, when: "revenue_musd > 10 AND burn_rate_pct > 80"}
  - {name: loyal_customers, label: A_PLUS_TIER, when: "nps >= 80"}
"""


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """Decisions of FinCorp at natural frequencies, and the two rules that it states."""
    cases = POLICY.decide(POLICY.draw(300, np.random.default_rng(0))).drop("fired_rule", "label_without_hidden")
    cases.rename({"label": "decision"}).write_csv(tmp_path / "loans.csv")
    (tmp_path / "stated.yaml").write_text(STATED, encoding="utf-8")
    return tmp_path / "loans.csv", tmp_path / "stated.yaml"


def test_from_a_file_to_a_hidden_rule(files):
    data, stated = files
    lines = search_file(str(data), "decision", ruleset=str(stated))
    assert lines[0] == "stated: burn_risk, loyal_customers"
    (found,) = [line for line in lines if line.startswith("proposed: ")]
    assert found.startswith("proposed: founder_background IN ('Ex-Facebook', 'Ex-Google') -> MANUAL_REVIEW; ")
    pasted = lines[lines.index(next(line for line in lines if line.startswith("rules:"))) :]
    stated.write_text("\n".join([*pasted, *STATED.split("rules:\n")[1].splitlines()]) + "\ndefault: STANDARD_LOAN\n")
    own = read_own_cases(
        CaseSettings(str(data), "decision", SplitSettings({"train": 150, "validation": 20, "test": 30, "holdout": 100},
                     frozenset(), 0), ruleset=str(stated))
    )  # fmt: skip
    assert [rule.name for rule in own.ruleset.hidden_rules] == ["found_1"]
    departing = own.splits["holdout"].filter(fired_rule="found_1")
    assert len(departing) > 10 and set(departing["label"]) == {"MANUAL_REVIEW"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{data}"], "make find-rules: LABEL: is missing; write LABEL=…, as in LABEL=decision"),
        (["", "--label", "decision"], "make find-rules: DATA: is missing; write DATA=…, as in DATA=claims.csv"),
        (["{data}", "--label", "decison"], "make find-rules: LABEL: .*no column 'decison'; did you mean decision?"),
        (["{data}.gz", "--label", "decision"], "loans.csv.gz"),
        (["{data}", "--label", "decision", "--ruleset", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_does_not_fit_is_one_line(files, words, said):
    with pytest.raises(UserError, match=said.replace("?", r"\?")) as caught:
        main([word.format(data=files[0]) for word in words])
    assert "\n" not in str(caught.value)
