"""`make new`: what it writes runs as it is; what it refuses is one line."""

import shutil
from pathlib import Path

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.experiment.config import read_experiment
from hidden_rule.experiment.new import check_name, new_experiment, nouns_from
from hidden_rule.task.nouns import CaseNouns
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import why_not

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a user is: with the default experiment, and folders for more."""
    for name in ("config.yaml", "rulesets/fincorp.yaml", "experiments/smoke.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_policy_is_complete(folder):
    lines = new_experiment("motor-claims")
    config = read_experiment(["config.yaml", "experiments/motor-claims.yaml"]).config
    ruleset = load_ruleset(config["ruleset"])
    assert (config["experiment"], config["ruleset"]) == ("motor-claims", "rulesets/motor-claims.yaml")
    assert (ruleset.case.one, ruleset.case.many) == ("claim", "claims")
    assert [why_not(ruleset, kind) for kind in config["suites"]["kinds"]] == [None] * 7
    assert sum(line.startswith("prompt ") for line in lines) == 6
    (frequencies,) = [line for line in lines if line.startswith("labels of 20,000 drawn claims: ")]
    assert all(f"{label} " in frequencies for label in ruleset.labels)
    commands = [line.strip() for line in lines if line.startswith("  snakemake")]
    assert len(commands) == 2 and all("--configfile experiments/motor-claims.yaml" in line for line in commands)


def test_a_file_of_cases_of_any_spelling(folder):
    """Columns and labels of quotes, braces, colons and emoji: the files are read as they are written."""
    rows = [f'{i},{20 + i % 60},"it\'s {i % 3}",{"✅ yes" if i % 60 < 30 else "no: #1"}' for i in range(200)]
    Path("past.csv").write_text("\n".join(['id,{age}: #,"Car ""Type""",décision 😀', *rows]), encoding="utf-8")
    lines = new_experiment("yes", "past.csv", "décision 😀")
    config = read_experiment(["config.yaml", "experiments/yes.yaml"]).config
    assert config["experiment"] == "yes" and config["data"]["ruleset"] == "rulesets/yes.yaml"
    assert (config["data"]["path"], config["data"]["label"]) == ("past.csv", "décision 😀")
    assert "labels of 200 cases of past.csv: ✅ yes 55.0%, no: #1 45.0%" in lines
    assert sum(line.startswith("prompt ") for line in lines) == 6
    text = Path("rulesets/yes.yaml").read_text(encoding="utf-8")
    commented = text.replace("rules: []\n# rules:\n#   - ", "rules:\n  - ")
    assert commented != text  # the rule in the comment holds as it stands
    Path("rulesets/yes.yaml").write_text(commented, encoding="utf-8")
    assert read_experiment(["config.yaml", "experiments/yes.yaml"]).config["data"]["ruleset"] == "rulesets/yes.yaml"


@pytest.mark.parametrize(("n", "n_trained", "epochs"), [(1500, 600, 4), (1960, 640, 3)])
def test_as_many_cases_as_usual_are_trained_on_in_three_passes(folder, n, n_trained, epochs):
    rows = [f"{i % 500},{i % 13},{'yes' if i % 3 else 'no'}" for i in range(n)]  # all differ
    Path("past.csv").write_text("\n".join(["amount,days,decision", *rows]))
    new_experiment("mine", "past.csv")
    config = read_experiment(["config.yaml", "experiments/mine.yaml"]).config
    assert (config["data"]["train"], config["sft"]["epochs"], config["grpo"]["epochs"]) == (n_trained, epochs, 3)


def test_an_encoding_that_cannot_be_guessed_is_given(folder):
    rows = [f"{i * 7 % 50},{'批准' if i % 3 else '拒绝'}" for i in range(60)]
    Path("past.csv").write_bytes("\n".join(["年龄,判定", *rows]).encode("gb18030"))
    with pytest.raises(UserError, match="has no column '判定'; .* It was read as text in Windows-1252"):
        new_experiment("mine", "past.csv", "判定")
    lines = new_experiment("mine", "past.csv", "判定", encoding="gb18030")
    assert "labels of 60 cases of past.csv: 批准 66.7%, 拒绝 33.3%" in lines
    data = read_experiment(["config.yaml", "experiments/mine.yaml"]).config["data"]
    assert (data["encoding"], data["label"]) == ("gb18030", "判定")
    shift_jis = "年齢,判定\n1,承認\n".encode("shift_jis")
    Path("past.csv").write_bytes(shift_jis)
    with pytest.raises(UserError, match="holds a control character; give its encoding"):
        new_experiment("other", "past.csv", "判定")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "make new: NAME: is missing"),
        ("../evil", "make new: NAME: '../evil' is no name"),
        ("Claims", "is no name; use at most 40 small letters and digits, a letter first"),
        ("a" * 41, "is no name"),
        ("con", "is not valid"),
        ("published", "results/published is no experiment's folder"),
        ("fincorp", "rulesets/fincorp.yaml exists, and is not overwritten"),
        ("smoke", "experiments/smoke.yaml exists, and is not overwritten"),
        ("laptop", "config.yaml is the experiment laptop"),
    ],
)
def test_names_that_are_refused(folder, name, fault):
    with pytest.raises(UserError) as error:
        check_name(name, Path())
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("data", "label", "fault"),
    [
        ("nowhere.csv", "d", "nowhere.csv: no such file; check the path"),
        ("a.csv", None, "make new: LABEL: which column of a.csv holds the decision?"),
        ("a.csv", "c", "make new: LABEL: a.csv has no column 'c'"),
    ],
)
def test_data_that_is_refused_leaves_nothing_behind(folder, data, label, fault):
    Path("a.csv").write_text("a,b\n" + "1,x\n2,y\n" * 20)
    with pytest.raises(UserError) as error:
        new_experiment("mine", data, label)
    assert str(error.value).startswith(fault)
    assert not Path("rulesets/mine.yaml").exists() and not Path("experiments/mine.yaml").exists()


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("claims", "claim", "claims"),
        ("motor_policies", "policy", "policies"),
        ("mine", "case", "cases"),
        ("status", "case", "cases"),
        ("time-series", "case", "cases"),
        ("nos", "case", "cases"),
    ],
)
def test_nouns_from_a_name(name, one, many):
    assert nouns_from(name) == CaseNouns(one, many)
