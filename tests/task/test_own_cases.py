"""A file of past decisions becomes a ruleset and splits: what stands in prompts, what rules say, what is warned of."""

import polars as pl
import pytest
import yaml
from case_files import rows_of, settings_of, write

from hidden_rule.core.errors import UserError
from hidden_rule.task.build_dataset import build_own_dataset
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.inspect import inspect
from hidden_rule.task.cases.own import read_own_cases
from hidden_rule.task.dataset import SPLITS, read_split
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.replies import parse_reply, render_reply
from hidden_rule.task.ruleset import load_ruleset

ASKED = {"train": 20, "validation": 4, "test": 4, "holdout": 12}


def own_of(folder, text=None, **changes):
    """The cases of a file of 40."""
    path = write(folder, rows_of(["yes", "no"]) if text is None else text)
    return read_own_cases(settings_of(path, **{"asked": ASKED} | changes))


def prompt_of(own, row: int = 1) -> list[str]:
    """The texts of the prompt of a row of the file."""
    cases = pl.concat(own.splits.values()).filter(application_id=row)
    return [message["content"] for message in render_prompts(own.ruleset, cases)[0]]


def test_a_path_and_a_label_are_enough(tmp_path):
    own = own_of(tmp_path)
    assert own.ruleset.feature_names == ("colour", "age") and set(own.ruleset.labels) == {"yes", "no"}
    assert {name: len(own.splits[name]) for name in SPLITS} == ASKED
    assert prompt_of(own, 2)[1] == "colour: green\nage: 27" and prompt_of(own, 3)[1] == "colour: missing\nage: 34"
    assert "no, yes" in prompt_of(own)[0]
    every = pl.concat(own.splits.values())
    assert every["application_id"].n_unique() == 40
    assert every["fired_rule"].unique().to_list() == ["default"] and every["label_without_hidden"].null_count() == 40
    said = "\n".join(own.findings)
    for words in (
        "no 20 (50.0%), yes 20 (50.0%)",
        "colour: choice of 2",
        "13 missing",
        "case_id: left out (an identifier",
    ):
        assert words in said
    assert own.warnings == []


def test_written_splits_and_ruleset_are_read_again(tmp_path):
    path = write(tmp_path, rows_of(["✅ yes", 'say "no"', "<|im_end|>", "a", "a b"]).replace("age", "label"))
    data = {"path": str(path), "label": "decision", "seed": 0, "asked": ASKED}
    paths = {split: tmp_path / f"{split}.parquet" for split in SPLITS}
    build_own_dataset(data, paths, tmp_path / "ruleset.yaml")
    ruleset, expected = load_ruleset(tmp_path / "ruleset.yaml"), read_own_cases(settings_of(path, asked=ASKED))
    assert ruleset == expected.ruleset and ruleset.feature_names == ("colour", "column label")
    for split in SPLITS:
        assert read_split(paths[split], ruleset).equals(expected.splits[split])
    labels = ruleset.labels
    assert [parse_reply(render_reply(label, labels), labels) for label in labels] == list(labels)
    assert "<|" not in "".join(prompt_of(expected))


def test_columns_are_those_that_are_asked_for(tmp_path):
    own = own_of(tmp_path, features=("colour", "case_id"))
    assert prompt_of(own)[1] == "colour: red\ncase_id: C0000"
    own = own_of(tmp_path, id="case_id", group="age")
    assert own.ruleset.feature_names == ("colour",)


def test_free_text_alone_is_shown_as_it_is(tmp_path):
    lines = [
        f'{{"body": "Text {i}\\nof {{labels}} and {{features}}", "team": "{"ab"[i % 2]}", "n": {i % 7}}}'
        for i in range(40)
    ]
    path = write(tmp_path, "\n".join(lines), "cases.jsonl")
    own = read_own_cases(settings_of(path, "team", ASKED, text=("body",)))
    assert prompt_of(own, 1)[1] == "Text 0\nof {labels} and {features}"
    both = read_own_cases(settings_of(path, "team", ASKED, text=("body",), features=("n",), cut_texts=4))
    assert prompt_of(both, 3)[1] == "n: 2\nbody: Text…"
    assert "texts of more than 4 characters are cut" in "\n".join(both.findings)


def test_columns_in_which_cases_are_alike_stand_first_unless_the_order_is_given(tmp_path):
    """So that prompts begin alike: what they share is computed once."""
    lines = ["amount,note,few,colour,paid,decision"]
    for i in range(40):
        colour, paid = ("red", "green")[i % 2], ("no", "yes")[i % 10 == 0]
        lines.append(f"{i / 8},Words {i} and more,{i % 3},{colour},{paid},{('a', 'b')[i % 2]}")
    own = own_of(tmp_path, "\n".join(lines))
    assert own.ruleset.feature_names == ("paid", "colour", "few", "amount", "note")
    given = ("amount", "few", "paid")
    assert own_of(tmp_path, "\n".join(lines), features=given).ruleset.feature_names == given


TEMPLATES = {  # a user's template: the prompt of the first row, or the error
    "A {colour} one of {age}.": "A red one of 20.",
    "{features}": "colour: red\nage: 20",
    "{age}: {case_id}, {braces of mine}": "20: C0000, {braces of mine}",
    "{colour}": "red",
    "It is {colr}.": "shows nothing of a case",
    "{features} {colr}": "unknown placeholder {colr}",
    "{decision}": "shows the label",
    "nothing": "shows nothing of a case",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates(template, tmp_path):
    expected = TEMPLATES[template]
    if " the " in expected or "unknown" in expected or "nothing" in expected:
        with pytest.raises(CaseSettingError, match=expected):
            own_of(tmp_path, prompt={"user": template})
    else:
        assert prompt_of(own_of(tmp_path, prompt={"user": template}))[1] == expected


FAULTS = {  # settings: the key at fault, and the error
    "label": ({"label": "decison"}, "label", "did you mean decision"),
    "features": ({"features": ("age", "color")}, "features", "did you mean colour"),
    "the label as a feature": ({"features": ("decision",)}, "features", "is the label itself"),
    "the label as a group": ({"group": "decision"}, "group", "is the label"),
    "two ways": ({"group": "age", "time": "case_id"}, "time", "stands beside data.group"),
    "equal identifiers": ({"id": "colour"}, "id", "rows 1 and 4 have the same colour"),
    "an empty group": ({"group": "colour"}, "group", "row 3 (line 4), column colour: is empty"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_settings_that_do_not_fit_the_file(name, tmp_path):
    settings, key, fault = FAULTS[name]
    with pytest.raises(CaseSettingError) as error:
        own_of(tmp_path, **settings)
    assert error.value.key == key and fault in f"{error.value.fault}; {error.value.remedy}"


RULES = {
    "rules": [
        {"name": "red_ones", "label": "no", "when": "colour = 'red'", "hidden": True, "says": "a red one"},
        {"name": "young", "label": "yes", "when": "age < 30", "says": "below 30"},
    ]
}


def with_rules(folder, document, **changes):
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(document))
    return own_of(folder, ruleset=str(path), **changes)


def test_stated_rules_cover_what_they_cover(tmp_path):
    own = with_rules(tmp_path, RULES)
    cases = pl.concat(own.splits.values())
    assert set(cases.filter(pl.col("colour") == "red")["fired_rule"]) == {"red_ones"}
    others = cases.filter(pl.col("colour").ne_missing(pl.lit("red")))
    assert set(others.filter(pl.col("age") < 30)["fired_rule"]) == {"young"}
    assert set(others.filter(pl.col("age") >= 30)["fired_rule"]) == {"default"}
    said = cases.select((pl.col("age") < 30).alias("young"), "label_without_hidden")
    assert set(said.rows()) == {(True, "yes"), (False, None)}
    assert (
        set(cases["label"]) == {"yes", "no"}
        and cases.filter(pl.col("application_id") % 2 == 1)["label"].unique()[0] == "yes"
    )
    assert "- yes: below 30" in prompt_of(own)[0] and "red" not in prompt_of(own)[0]
    assert "rule red_ones decides 14 cases, of which 50.0% are labelled no" in own.findings
    with_default = with_rules(tmp_path, RULES | {"default": "no"})
    assert pl.concat(with_default.splits.values())["label_without_hidden"].null_count() == 0


RULE_FAULTS = {  # changes of the file of rules: the error
    "another label": (
        {"rules": [{"name": "a", "label": "maybe", "when": "age > 1"}]},
        "rules[0].label: no case has the label 'maybe'",
    ),
    "another column": (
        {"rules": [{"name": "a", "label": "no", "when": "agee > 1"}]},
        "rules[0].when: unknown feature agee",
    ),
    "text with a number": (
        {"rules": [{"name": "a", "label": "no", "when": "colour > 1"}]},
        "rules[0].when: cannot be evaluated",
    ),
    "another default": ({"default": "none"}, "default: no case has the label 'none'"),
    "a feature that is no column": (
        {"features": {"agee": {"text": "{value}"}}},
        "features.agee: is no column of the cases",
    ),
    "an unknown key": ({"rulez": []}, "rulez: unknown key"),
    "a prompt that gives it away": (
        RULES | {"prompt": {"user": "Red or not? {features}"}},
        "gives the hidden rule red_ones away",
    ),
}


@pytest.mark.parametrize("name", RULE_FAULTS)
def test_rules_that_do_not_fit_the_file(name, tmp_path):
    document, fault = RULE_FAULTS[name]
    with pytest.raises(UserError) as error:
        with_rules(tmp_path, document)
    assert fault in str(error.value) and str(error.value).startswith(str(tmp_path / "rules.yaml"))


def test_a_rule_that_never_fires_is_said(tmp_path):
    own = with_rules(tmp_path, {"rules": [{"name": "old", "label": "no", "when": "age > 500"}]})
    assert any(line.startswith("rule old decides none of 40 cases") for line in own.findings)


def test_words_for_columns(tmp_path):
    own = with_rules(tmp_path, {"features": {"age": {"text": "Age of {value} years"}}})
    assert prompt_of(own)[1] == "colour: red\nAge of 20 years"


def test_contradictions_and_columns_that_give_the_label_away_are_warned_of(tmp_path):
    header, rows = "age,paid_out,decision", []
    for i in range(200):
        paid = 100 + i if i % 4 == 0 else 0
        rows.append(f"{i % 60},{paid},{'yes' if paid else 'no'}")
    own = own_of(tmp_path, "\n".join([header, *rows]))
    assert any("paid_out alone gives the label of 100.0%" in line for line in own.warnings)
    rows = [f"{i % 20},x,{'yes' if i % 2 else 'no'}" for i in range(80)] + ["3,x,no"] * 2
    own = own_of(tmp_path, "\n".join(["age,other,decision", *rows]))
    assert any("nobody can be right for more than 97.6%" in line for line in own.warnings)


def test_inspect_shows_what_there_is_before_it_says_why_it_cannot_be_split(tmp_path, capsys):
    lines = inspect(str(write(tmp_path, rows_of(["yes", "no"]))), None)
    assert any("labels (decision): no 20" in line for line in lines) and lines[-1].startswith("user: colour: ")
    few = write(tmp_path, rows_of(["yes"] * 39 + ["no"]), "few.csv")
    with pytest.raises(UserError, match="'no' has 1 case"):
        inspect(str(few), "decision")
    assert "yes 39 (97.5%)" in capsys.readouterr().out
    russian = rows_of(["да", "нет"]).encode("koi8-r")
    lines = inspect(str(write(tmp_path, russian, "russian.csv")), "decision", "koi8-r")
    assert "labels (decision): да 20 (50.0%), нет 20 (50.0%)" in lines
    lines = inspect(str(write(tmp_path, "a,b\n1,x\n2,y\n", "other.csv")), None)
    assert lines[-1].startswith("which column holds the decision?")
