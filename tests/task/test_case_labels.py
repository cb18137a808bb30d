"""Labels of a file: counted as they are, refused where they may be a slip."""

import pytest
from case_files import write

from hidden_rule.core.errors import UserError
from hidden_rule.task.cases.files import open_cases
from hidden_rule.task.cases.labels import normal_form, read_labels


def labels_of(tmp_path, cells, known=()):
    """The labels that a column of these cells has."""
    rows = "".join(f'{i},"{cell.replace(chr(34), chr(34) * 2)}"\n' for i, cell in enumerate(cells))
    with open_cases(write(tmp_path, "n,label\n" + rows)) as file:
        return read_labels(file, "label", known)


ACCEPTED = {
    "two": (["yes", "no", "no"], {"no": 2, "yes": 1}),
    "prefixes, quotes, emoji": (
        ["No", "No show", "No, thanks", 'say "no"', "✅ yes", "yes/no"],
        {"No": 1, "No show": 1, "No, thanks": 1, 'say "no"': 1, "yes/no": 1, "✅ yes": 1},
    ),
    "signs": (["<=50K", ">50K", "+", "-1"], {"+": 1, "-1": 1, "<=50K": 1, ">50K": 1}),
    "numbers": (["0", "1", "10", "1.5"], {"0": 1, "1": 1, "1.5": 1, "10": 1}),
    "blanks around all": ([" yes", " no", " no"], {"no": 2, "yes": 1}),
    "letters": (["y", "x"], {"x": 1, "y": 1}),
    "fifty": ([f"L{i:02}" for i in range(50)], {f"L{i:02}": 1 for i in range(50)}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_labels_are_counted_the_most_frequent_first(name, tmp_path):
    cells, counts = ACCEPTED[name]
    found = labels_of(tmp_path, cells)
    assert list(found.counts.items()) == list(counts.items())
    assert len(found.notes) == (name == "blanks around all")


REFUSED = {  # cells; what the error names
    "empty": (["yes", "", "no", ""], "row 2 (line 3), column label: is empty, as in 1 other rows"),
    "another case": (
        ["approve", "deny", "Approve", "approve"],
        "row 3 (line 4), column label: 'Approve' is nearly 'approve'",
    ),
    "a blank after": (["approve", "deny", "approve "], "row 3 (line 4), column label: 'approve ' is nearly 'approve'"),
    "a point after": (["<=50K", ">50K", "<=50K."], "row 3 (line 4), column label: '<=50K.' is nearly '<=50K'"),
    "two blanks": (["no show", "yes", "no  show"], "row 3 (line 4), column label: 'no show' is nearly 'no show'"),
    "a dash for a blank": (["no show", "yes", "no-show"], "'no-show' is nearly 'no show'"),
    "no width": (["yes", "no", "yes\u200b"], "is nearly 'yes'"),
    "wide letters": (["yes", "no", "ｙｅｓ"], "is nearly 'yes'"),
    "numbers": (["0", "1", "1.0"], "row 3 (line 4), column label: '1.0' is nearly '1'"),
    "a zero before": (["0", "1", "01"], "'01' is nearly '1'"),
    "true and yes": (["true", "no", "yes"], "'yes' means what 'true' does"),
    "0 and false": (["0", "1", "false"], "'false' means what '0' does"),
    "None": (["animal", "None", "plant"], "row 2 (line 3), column label: 'None' may stand for no label"),
    "nan": (["animal", "plant", "nan"], "'nan' may stand for no label"),
    "one": (["OK", "OK"], "has one label, 'OK', in all 2 rows"),
    "fifty-one": ([f"L{i}" for i in range(51)], "has 51 different labels, of at most 50"),
    "amounts": ([str(1.5 * i) for i in range(60)], "has 60 different numbers, of at most 50; make classes"),
    "a text": (["yes", "no " * 80], "is a text of 239 characters, no label"),
    "two lines": (["yes", "no\nthanks"], "is no label of one line"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_labels_that_may_be_slips_are_refused(name, tmp_path):
    cells, fault = REFUSED[name]
    with pytest.raises(UserError) as error:
        labels_of(tmp_path, cells)
    assert fault in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "cases.csv"))


def test_labels_that_are_listed_are_those_that_there_are(tmp_path):
    listed = ("approve", "Approve", "None", "never")
    found = labels_of(tmp_path, ["approve", "Approve", "None", "approve"], listed)
    assert found.counts == {"approve": 2, "Approve": 1, "None": 1} and "'never'" in found.notes[0]
    with pytest.raises(
        UserError, match=r"row 2 \(line 3\), column label: unknown label 'aprove'; did you mean approve"
    ):
        labels_of(tmp_path, ["approve", "aprove", "deny"], ("approve", "deny"))


def test_what_nearly_equal_labels_have_in_common():
    pairs = [("Approve ", "approve"), ("no_show", "No Show"), ("1", "1.0"), ("yes.", "yes"), ("“yes”", "“YES”")]
    assert all(normal_form(a) == normal_form(b) for a, b in pairs)
    others = [
        ("<=50K", ">50K"),
        ("+", "-"),
        ("1", "-1"),
        ("A", "B"),
        ("no", "no show"),
        ("yes", "✅ yes"),
        ("👍", "👎"),
    ]
    assert all(normal_form(a) != normal_form(b) for a, b in others)
