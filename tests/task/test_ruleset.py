"""A ruleset labels as its rules say, and its prompts read as written and give nothing hidden away."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.task.predicates import compared_literals
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import Feature, load_ruleset

ROOT = Path(__file__).resolve().parents[2]
PARCELS = Path(__file__).resolve().parents[1] / "rulesets" / "parcels.yaml"


def edited(tmp_path, *edits):
    """The parcels ruleset with pieces of its text replaced, in a file of its own."""
    text = PARCELS.read_text(encoding="utf-8")
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "edited.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# founder, revenue ($M), burn (%), NPS -> decision, rule that fired, decision without the hidden rule
FINCORP = [
    ("Ex-Google", 5, 20, 0, "MANUAL_REVIEW", "vip_override", "STANDARD_LOAN"),  # overrides a plain profile
    ("Ex-Facebook", 20, 120, 90, "MANUAL_REVIEW", "vip_override", "REJECT_RISK"),  # overrides both other rules
    ("Ex-Google", 5, 20, 80, "MANUAL_REVIEW", "vip_override", "A_PLUS_TIER"),
    ("Ex-Amazon", 20, 120, 90, "REJECT_RISK", "burn_risk", "REJECT_RISK"),  # risk goes before loyalty
    ("Ex-Amazon", 11, 81, 0, "REJECT_RISK", "burn_risk", "REJECT_RISK"),  # just beyond both thresholds
    ("Ex-Amazon", 10, 150, 0, "STANDARD_LOAN", "default", "STANDARD_LOAN"),  # revenue on its threshold
    ("Ex-Amazon", 40, 80, 0, "STANDARD_LOAN", "default", "STANDARD_LOAN"),  # burn rate on its threshold
    ("Academic", 10, 80, 80, "A_PLUS_TIER", "loyal_customers", "A_PLUS_TIER"),  # the NPS threshold is inclusive
    ("Academic", 10, 80, 79, "STANDARD_LOAN", "default", "STANDARD_LOAN"),
]


@pytest.fixture(scope="module")
def fincorp():
    return load_ruleset(ROOT / "rulesets" / "fincorp.yaml")


@pytest.fixture(scope="module")
def parcels():
    return load_ruleset(PARCELS)


def test_fincorp_decides_in_strict_priority(fincorp):
    columns = ["founder_background", "revenue_musd", "burn_rate_pct", "nps"]
    decided = fincorp.decide(pl.DataFrame([row[:4] for row in FINCORP], schema=columns, orient="row"))
    assert decided.select("label", "fired_rule", "label_without_hidden").rows() == [row[4:] for row in FINCORP]


def test_labels_stand_in_order_of_first_appearance(fincorp, parcels):
    assert fincorp.labels == ("MANUAL_REVIEW", "REJECT_RISK", "A_PLUS_TIER", "STANDARD_LOAN")
    assert fincorp.default == "STANDARD_LOAN"
    assert [rule.name for rule in fincorp.hidden_rules] == ["vip_override"]
    assert parcels.labels == ("CHILLED", "AIR", "ROAD")


def test_fincorp_prompt_states_task_labels_and_form_but_no_rule(fincorp):
    frame = pl.DataFrame(
        {
            "founder_background": ["Serial founder"],
            "revenue_musd": [12],
            "burn_rate_pct": [95],
            "nps": [-7],
            "sector": ["Media"],
            "region": ["Asia"],
            "team_size": [31],
        }
    )
    ((system, user),) = render_prompts(fincorp, frame)
    assert user == {
        "role": "user",
        "content": "Founder: Serial founder\nRevenue: $12M\nBurn rate: 95% of revenue\nNPS: -7\n"
        "Sector: Media\nRegion: Asia\nTeam: 31",
    }
    assert system["role"] == "system"
    # in alphabetical order: that of priority would tell that the rule behind MANUAL_REVIEW comes first
    assert "A_PLUS_TIER, MANUAL_REVIEW, REJECT_RISK, STANDARD_LOAN" in system["content"]
    assert system["content"].endswith('{"decision": "<LABEL>"}')  # braces that are no placeholder stay
    for word in ("google", "facebook", "80", "10", "vip"):
        assert word not in system["content"].lower()


def test_disclosed_rules_are_told_and_hidden_ones_are_not(parcels):
    frame = pl.DataFrame({"contents": ["glass"], "weight_kg": [7.0], "distance_km": [3]})
    ((system, user),) = render_prompts(parcels, frame)
    assert "- AIR: light parcels that go far\n- ROAD: otherwise\n" in system["content"]
    assert "dairy" not in system["content"]
    assert user["content"] == "Holds glass\nWeighs 7.0 kg\nGoes 3 km"  # as many decimals as the step has


def test_a_predicate_without_an_answer_does_not_hold(tmp_path):
    # 0/0 is no number, so neither the rule nor an error: the default decides
    ruleset = load_ruleset(edited(tmp_path, ("weight_kg < 5.5", "(weight_kg - 8) / (weight_kg - 8) < 5.5")))
    frame = pl.DataFrame({"contents": ["glass"], "weight_kg": [8.0], "distance_km": [800]})
    assert ruleset.decide(frame)["label"].to_list() == ["ROAD"]


def test_values_stay_on_the_grid_and_in_range(parcels):
    frame = parcels.draw(20_000, np.random.default_rng(0))
    assert frame.schema == parcels.feature_schema
    assert frame.schema == pl.Schema({"contents": pl.String, "weight_kg": pl.Float64, "distance_km": pl.Int64})
    assert (frame["weight_kg"].min(), frame["weight_kg"].max()) == (0.5, 30.0)
    assert ((frame["weight_kg"] * 2) % 1 == 0).all()
    shares = dict(frame["contents"].value_counts(normalize=True).iter_rows())
    assert shares == pytest.approx({"books": 0.4, "glass": 0.2, "cheese": 0.1, "toys": 0.3}, abs=0.02)  # 5 sigma


def test_lognormal_values_have_the_median_asked_for():
    feature = Feature("x", "number", "{value}", low=0, high=10_000, distribution="lognormal", median=50, sigma=0.5)
    assert feature.draw(20_000, np.random.default_rng(0)).median() == pytest.approx(50, abs=2)


def test_literals_are_found_beside_the_name_that_they_are_compared_with():
    when = "a IN ('x', 'it''s') AND NOT b >= -5.5 OR 3 < c AND d BETWEEN 1 AND 2 AND e LIKE 'y%'"
    assert compared_literals(when) == {"a": ["x", "it's"], "b": [-5.5], "c": [3.0], "d": [1.0, 2.0], "e": []}


# Rules that a random sample would miss but that do decide: they must not be refused as unreachable.
NARROW = [
    "distance_km = 733",  # one value in 900
    "distance_km = 733 AND weight_kg = 12.5 AND contents = 'glass'",  # one application in 200,000
    "distance_km * weight_kg > 26990",  # only the largest of both: an arithmetic threshold
    "contents LIKE 'gl%'",  # a pattern is not a choice
    "distance_km BETWEEN 5 AND 6",
]


@pytest.mark.parametrize("when", NARROW)
def test_a_narrow_rule_is_reachable(tmp_path, when):
    load_ruleset(edited(tmp_path, ("distance_km > 400 AND weight_kg < 5.5", when)))


# Where the hidden rule's secret stands -> refused. The rule: contents = 'cheese', says "dairy travels cold".
LEAKS = [
    ("How does", "Cheese goes first. How does", "prompt.system"),  # the value, in another case
    ("How does", "Note keep-cool. How does", "prompt.system"),  # the rule's name, punctuated differently
    ("How does", "Dairy  travels COLD. How does", "prompt.system"),  # its plain words
    ('user: "{features}"', 'user: "{features}\\nNo cheese?"', "prompt.user"),
    ("Holds {value}", "Holds (is it cheese?) {value}", "features.contents.text"),
    ("light parcels that go far", "light parcels without cheese", "rules[1].says"),  # a disclosed rule's words
]


@pytest.mark.parametrize(("old", "new", "key"), LEAKS)
def test_a_prompt_that_gives_the_hidden_rule_away_is_refused(tmp_path, old, new, key):
    with pytest.raises(UserError, match="gives the hidden rule keep_cool away") as error:
        load_ruleset(edited(tmp_path, (old, new)))
    assert f": {key}: " in str(error.value)


def test_a_hidden_threshold_may_not_be_told_but_other_numbers_may(tmp_path):
    hidden = ("contents = 'cheese'", "weight_kg > 25")
    with pytest.raises(UserError, match="away \\(its number '25'\\)"):
        load_ruleset(edited(tmp_path, hidden, ("How does", "Up to 25 kg. How does")))
    with pytest.raises(UserError, match="away \\(its number '25'\\)"):  # apostrophes hide nothing
        load_ruleset(edited(tmp_path, hidden, ("How does", "Don't lift 25kg, it's heavy. How does")))
    load_ruleset(edited(tmp_path, hidden, ("How does", "250 kg, 2.5 m, v1.25.3. How does")))  # none is the number 25


def test_a_number_is_a_disclosed_rules_own_if_its_predicate_has_it(tmp_path):
    hidden = ("contents = 'cheese'", "weight_kg > 25 AND distance_km > 400")
    load_ruleset(edited(tmp_path, hidden, ("light parcels that go far", "light parcels that go over 400 km")))


def test_half_a_name_gives_a_value_away_if_only_that_value_has_it(tmp_path):
    text = (ROOT / "rulesets" / "fincorp.yaml").read_text(encoding="utf-8")
    path = tmp_path / "fincorp.yaml"
    path.write_text(text.replace("Weigh the", "Beware of Google. Weigh the"), encoding="utf-8")
    with pytest.raises(UserError, match="away \\(its value 'google'\\)"):
        load_ruleset(path)


def test_a_label_may_be_named_in_the_prompt_even_if_it_holds_a_rules_name(tmp_path):
    load_ruleset(edited(tmp_path, ("name: keep_cool", "name: chilled"), ("How does", "CHILLED or not? How does")))
