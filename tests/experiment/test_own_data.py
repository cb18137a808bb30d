"""The config of an experiment whose cases come from a file."""

import pytest

from conftest import ROOT
from hidden_rule.core.errors import UserError
from hidden_rule.experiment.config import read_experiment

CASES = [
    "age,colour,decision",
    *(f"{20 + i % 50},{('red', 'green')[i % 2]},{('yes', 'no', 'no')[i % 3]}" for i in range(300)),
]
RULES = """
rules:
  - {name: red_ones, label: "no", when: "colour = 'red'", hidden: true}
"""


@pytest.fixture
def read(tmp_path):
    """The experiment of an overlay of these lines over the default one; `{folder}` holds cases.csv and rules.yaml."""
    (tmp_path / "cases.csv").write_text("\n".join(CASES))
    (tmp_path / "rules.yaml").write_text(RULES)

    def read(*lines: str):
        path = tmp_path / "overlay.yaml"
        path.write_text("\n".join(lines).replace("{folder}", str(tmp_path)))
        return read_experiment([ROOT / "config.yaml", path])

    return read


NAMED = "data: {source: file, path: '{folder}/cases.csv', label: decision}"


def test_a_path_and_a_label_are_enough(read, tmp_path):
    found = read("experiment: claims", NAMED, "evaluation: {structured: [holdout, suites]}")
    config = found.config
    assert config["ruleset"] == "results/claims/data/ruleset.yaml" and "ruleset" not in config["data"]
    assert [config["data"][split] for split in ("train", "validation", "test", "holdout")] == [120, 30, 30, 120]
    assert config["evaluation"]["structured"] == ["holdout"]  # suites cannot be drawn, which is said
    assert any("cannot be drawn" in line for line in found.cautions)
    resolved = read("experiment: claims", f"data: {config['data']}".replace("'", '"')).config
    assert resolved["data"] == config["data"] and resolved["ruleset"] == config["ruleset"]


def test_an_overlays_ruleset_states_rules_of_the_cases(read, tmp_path):
    config = read("experiment: claims", NAMED, "ruleset: '{folder}/rules.yaml'").config
    assert config["ruleset"] == "results/claims/data/ruleset.yaml"
    assert config["data"]["ruleset"] == str(tmp_path / "rules.yaml")


FAULTS = {  # lines of the overlay: the error after the overlay's name
    "no label": (
        ["data: {source: file, path: '{folder}/cases.csv'}"],
        "data.label: is missing, and data.source is file; give the column of decisions",
    ),
    "no path": (["data: {source: file, label: decision}"], "data.path: is missing, and data.source is file; give the"),
    "no file": (["data: {source: file, path: none.csv, label: decision}"], "data.path: none.csv: no such file"),
    "no such column": ([NAMED.replace("decision", "decison")], "data.label: "),
    "no source": (
        ["data: {path: '{folder}/cases.csv', label: decision}"],
        "data.label: is a setting of a file of cases",
    ),
    "too many rows": ([NAMED[:-1] + ", train: 400}"], "data.train: train asks for 400 rows"),
    "an unknown key": ([NAMED[:-1] + ", lable: x}"], "data.lable: unknown key"),
    "a key unlike any": (
        [NAMED[:-1] + ", zzz: 1}"],
        "data.zzz: unknown key; known: source, seed, train, test, validation, holdout, path, label, labels, id, text, "
        "features, group, time, split, balance, ruleset, prompt, cut_texts, encoding, separator, decimal",
    ),
    "a key that is the workflow's own": (["asked: {train: 3}"], "asked: unknown key; did you mean seeds?"),
    "an oracle without rules": ([NAMED, "conditions: {told: {prompt: oracle}}"], "conditions.told.prompt: "),
}


@pytest.mark.parametrize("name", FAULTS)
def test_settings_that_do_not_fit_name_the_overlay(name, read, tmp_path):
    lines, fault = FAULTS[name]
    with pytest.raises(UserError) as error:
        read("experiment: claims", *lines)
    assert str(error.value).startswith(f"{tmp_path / 'overlay.yaml'}: {fault}")


def test_a_fault_of_the_file_names_the_file(read, tmp_path):
    (tmp_path / "cases.csv").write_text("\n".join([*CASES, "20,red,Yes"]))
    with pytest.raises(UserError, match="row 301 .line 302., column decision: 'Yes' is nearly 'yes'"):
        read("experiment: claims", NAMED)
