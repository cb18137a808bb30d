"""A changed policy is noticed, unchanged cases raise no alarm, and what cannot be compared is refused by its row."""

import polars as pl
import pytest
from tiny_export import FINCORP

from hidden_rule.core.errors import UserError
from hidden_rule.deployment import monitor
from hidden_rule.deployment.new_cases import read_new_cases, seen_before
from hidden_rule.deployment.panel import Panel
from hidden_rule.deployment.watching import Sample, compare, sentence, table
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.task.cases.own import CaseSettings, SplitSettings, read_own_cases
from hidden_rule.task.ruleset import load_ruleset

RULESET = load_ruleset(FINCORP)
FEATURES = list(RULESET.feature_names)
LABELS = ("A", "B")


@pytest.fixture(scope="module")
def watched(tiny_run):
    """The run, and a panel of one of its conditions, which stands in for those that the command would load."""
    panel = Panel(tiny_run, 0, ["sft", "logistic"])

    def load(results, seed, conditions):
        assert (seed, results.layout.folder) == (0, tiny_run.layout.folder) and conditions[0] in panel.conditions
        return panel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "load_panel", load)
        yield tiny_run


def sample(name: str, pairs: dict) -> Sample:
    """Answers by (predicted, label) and how often."""
    rows = [pair for pair, n in pairs.items() for _ in range(n)]
    return Sample(name, pl.DataFrame(rows, schema={"predicted": pl.String, "label": pl.String}, orient="row"))


BEFORE = sample("holdout", {("A", "A"): 480, ("A", "B"): 20, ("B", "B"): 470, ("B", "A"): 30})


# --- what moved, by hand ----------------------------------------------------------------------------------------------


def test_nothing_moved():
    found = compare(BEFORE, sample("new.csv", {("A", "A"): 95, ("A", "B"): 5, ("B", "B"): 95, ("B", "A"): 5}), LABELS)
    assert not found.moved and found.level == 0.025 and found.accuracy.difference == 0
    assert sentence(found) == (
        "Accuracy did not move (p = 1.00; a change of less than 5.2 points could go unnoticed), and the mix of "
        "decisions did not move (p = 1.00)."
    )
    lines = table(found)
    assert lines[0].split() == ["holdout", "new.csv", "difference", "p"]
    assert lines[1].split()[:8] == ["accuracy", "95.0%", "of", "1,000", "95.0%", "of", "200", "+0.0"]
    assert "(97.5% CI " in lines[1] and lines[2].split()[:3] == ["recall", "of", "A"]


def test_a_policy_that_changed():
    """A fifth of the A are decided B now, and the model goes on as before: accuracy falls, the mix stays."""
    new = sample("new.csv", {("A", "A"): 75, ("A", "B"): 25, ("B", "B"): 95, ("B", "A"): 5})
    found = compare(BEFORE, new, LABELS)
    assert found.accuracy_moved and not found.mix_moved and found.moved
    assert sentence(found) == (
        "Accuracy fell by 10.0 points (p < 0.001), but the mix of decisions did not move (p = 1.00)."
    )


def test_cases_that_changed():
    """Three times as many A: the mix moves, accuracy does not."""
    new = sample("new.csv", {("A", "A"): 143, ("A", "B"): 7, ("B", "B"): 47, ("B", "A"): 3})
    found = compare(BEFORE, new, LABELS)
    assert found.mix_moved and not found.accuracy_moved
    assert sentence(found).endswith("but the mix of decisions moved (p < 0.001).")
    lines = [" ".join(line.split()) for line in table(found)]
    assert "mix of decisions 1,000 cases 200 cases 25.0% shifted < 0.001" in lines


def test_without_labels_the_mix_alone_is_judged():
    found = compare(BEFORE, sample("new.csv", {("A", None): 190, ("B", None): 10}), LABELS)
    assert found.accuracy is None and found.level == 0.05 and found.mix_moved
    assert sentence(found) == "The mix of decisions moved (p < 0.001); without labels accuracy is unknown."
    assert not any(word in line for line in table(found) for word in ("accuracy", "recall"))


def test_few_cases_say_little():
    found = compare(sample("holdout", {("A", "A"): 3}), sample("new.csv", {("B", "A"): 1, ("A", None): 5}), LABELS)
    assert found.accuracy.n_b == 1 and "too few cases to notice any change" in sentence(found)


def test_a_rise_is_a_rise():
    found = compare(sample("a", {("A", "A"): 50, ("B", "A"): 50}), sample("b", {("A", "A"): 100}), LABELS)
    assert sentence(found).startswith("Accuracy rose by 50.0 points (p < 0.001), and the mix of decisions moved")


# --- a file of new cases ----------------------------------------------------------------------------------------------


def new_file(path, results: Results, n: int = 8, **columns) -> str:
    """Cases of the holdout with their labels, some columns others."""
    frame = results.split("holdout").head(n).select(*FEATURES, "label")
    frame = frame.with_columns(pl.Series(name, values) for name, values in columns.items() if values is not None)
    frame.drop([name for name, values in columns.items() if values is None]).write_csv(path)
    return str(path)


def test_the_holdout_itself_raises_no_alarm(watched, tmp_path, capsys):
    """Its first 24 cases are all of it, in every format: the same answers to the same cases."""
    folder = str(watched.layout.folder)
    path = new_file(tmp_path / "same.csv", watched, 24)
    assert monitor.main([folder, "sft", "--data", path, "--fail", "yes"]) == 0
    said = capsys.readouterr().out
    assert "+0.0 (97.5% CI" in said and "0.0% shifted" in said and "Accuracy did not move (p = 1.00" in said
    assert "the holdout has as many cases of each label" in said
    frame = pl.read_csv(path)
    frame.write_parquet(tmp_path / "same.parquet")
    assert monitor.main([folder, "logistic", "--data", str(tmp_path / "same.parquet"), "--against", path]) == 0
    assert "as many cases" not in capsys.readouterr().out


def test_other_labels_and_other_cases_raise_one(watched, tmp_path, capsys):
    folder = str(watched.layout.folder)
    holdout = watched.split("holdout")
    turned = [RULESET.labels[(RULESET.labels.index(label) + 1) % 4] for label in holdout["label"]] * 3
    repeated = pl.concat([holdout] * 3).select(FEATURES).with_columns(decided=pl.Series(turned))
    repeated.write_csv(tmp_path / "turned.csv")
    words = [folder, "logistic", "--data", str(tmp_path / "turned.csv"), "--label", "decided"]
    assert monitor.main(words) == 0 and monitor.main([*words, "--fail", "yes"]) == 1
    assert "Accuracy fell by" in capsys.readouterr().out
    unlabelled = pl.concat([holdout.filter(label="MANUAL_REVIEW").select(FEATURES)] * 10)
    unlabelled.write_csv(tmp_path / "mix.csv")
    assert monitor.main([folder, "logistic", "--data", str(tmp_path / "mix.csv"), "--fail", "yes"]) == 1
    said = capsys.readouterr().out
    assert "The mix of decisions moved (p " in said and "; without labels accuracy is unknown." in said


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"nps": None}, "column nps: is missing, and the model was trained with it"),
        ({"nps": ["1"] * 7 + ["x"]}, "row 8 (line 9), column nps: 'x' is no number"),
        ({"nps": ["1"] * 7 + ["1.5"]}, "row 8 (line 9), column nps: 1.5 is no whole number"),
        ({"nps": ["1"] * 7 + [""]}, "row 8 (line 9), column nps: is empty"),
        ({"nps": ["1"] * 7 + ["NaN"]}, "row 8 (line 9), column nps: is empty"),
        ({"sector": ["Retail"] * 7 + ["retail"]}, "row 8 (line 9), column sector: 'retail' is no choice; did you mean"),
        (
            {"label": ["MANUAL_REVIEW"] * 7 + ["MANUAL"]},
            "row 8 (line 9), column label: unknown label 'MANUAL', which the model cannot give",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_row_and_column(watched, tmp_path, columns, fault):
    path = new_file(tmp_path / "new.csv", watched, **columns)
    with pytest.raises(UserError) as error:
        read_new_cases(path, watched)
    assert str(error.value).startswith(f"{path}: {fault}")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["sft"], "make monitor: DATA: is missing"),
        (["sft", "--data", "none.csv"], "none.csv: no such file"),
        (["sff", "--data", "{file}"], "CONDITION: sff is no condition"),
        (["", "--data", "{file}"], "CONDITION: is missing; known: "),
        (["sft", "--data", "{file}", "--label", "labl"], "LABEL: {file} has no column 'labl'; did you mean label?"),
        (["sft", "--data", "{file}", "--fail", "maybe"], "make monitor: FAIL: 'maybe' is neither yes nor no"),
        (["sft", "--data", "{file}", "--seed", "3"], "SEED: 3 is no seed"),
        (["sft", "--data", "{file}", "--against", "{empty}"], "has a header and no rows"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(watched, tmp_path, words, fault):
    path = new_file(tmp_path / "new.csv", watched)
    (tmp_path / "empty.csv").write_text("a,b\n")
    named = {"{file}": path, "{empty}": str(tmp_path / "empty.csv")}
    for name, value in named.items():
        words, fault = [word.replace(name, value) for word in words], fault.replace(name, value)
    with pytest.raises(UserError) as error:
        monitor.main([str(watched.layout.folder), *words])
    assert fault in str(error.value)


def test_notes_say_what_a_reader_has_to_know(watched, tmp_path):
    train = watched.split("train").head(3).select(*FEATURES, "label")
    rest = watched.split("holdout").head(5).select(*FEATURES, "label")
    frame = pl.concat([train, rest]).with_columns(
        nps=pl.Series([500] + [0] * 7), label=pl.Series(["MANUAL_REVIEW", ""] + ["REJECT_RISK"] * 6)
    )
    frame.write_csv(tmp_path / "new.csv")
    new = read_new_cases(str(tmp_path / "new.csv"), watched)
    lines = monitor.notes(watched, new, None)
    assert lines[0] == "nps: 1 application with a value outside -100 to 100, the range of training (500)"
    assert lines[1] == "1 of 8 cases have no label: they count for the mix alone"
    plain = read_new_cases(new_file(tmp_path / "plain.csv", watched), watched)
    assert seen_before(plain.cases, watched.split("holdout"), RULESET) == 8
    assert seen_before(new.cases, watched.split("train"), RULESET) <= 3


def test_a_text_with_a_control_token_is_named_by_its_row(tmp_path):
    """Of a file of past decisions: decimal commas and missing words as in training, texts cut as there."""
    rows = [(f"{i},5", "n/a" if i % 9 == 0 else "x" * 30, "ab"[i % 2]) for i in range(60)]
    frame = pl.DataFrame(rows, schema=["amount", "note", "decision"], orient="row")
    frame.write_csv(tmp_path / "old.csv", separator=";")
    sizes = {"train": 30, "validation": 5, "test": 10, "holdout": 15}
    given = {"text": ("note",), "features": ("amount",), "cut_texts": 10}
    own = read_own_cases(
        CaseSettings(str(tmp_path / "old.csv"), "decision", SplitSettings(sizes, frozenset(sizes), 0), **given)
    )
    data = {"source": "file", "path": str(tmp_path / "old.csv"), "label": "decision", "cut_texts": 10}
    results = Results(tmp_path, {"data": data, "conditions": {}, "seeds": [0]}, ruleset=own.ruleset)
    frame.head(20).with_columns(decision=pl.lit(None, pl.String)).write_csv(tmp_path / "new.csv", separator=";")
    new = read_new_cases(str(tmp_path / "new.csv"), results)
    assert new.cases["amount"].to_list()[:2] == [0.5, 1.5] and new.cases["note"][1] == "xxxxxxxxxx…"
    assert new.cases["application_id"].to_list() == list(range(1, 21)) and new.labels.null_count() == 20
    both = pl.concat(own.splits.values()).filter(pl.col("application_id") <= 20).sort("application_id")
    assert both.select("amount", "note").equals(new.cases.select("amount", "note")), "read as for training"
    assert new.ruleset.source.endswith("new.csv") and [of.column for of in new.ruleset.features] == ["amount", "note"]


def test_the_runs_own_predictions_are_what_is_compared_with(watched):
    earlier = monitor.evaluated(watched, Run("sft", 0))
    predictions = watched.predictions(Run("sft", 0)).filter(suite="holdout").collect()
    assert earlier.name == "holdout" and earlier.n == 24
    assert earlier.answers["predicted"].to_list() == predictions["predicted"].to_list()
