"""Charts of labels of any spelling and number."""

from hidden_rule.experiment.display import displayed
from hidden_rule.report.charts.confusion import confusion_chart
from synthetic import make_ruleset, named_ruleset, write_results

WORLD = {"baseline": {"method": None, "accuracy": 0.3}}


def test_a_matrix_of_fifty_labels_fits_a_page_and_one_of_few_shows_numbers(tmp_path):
    def panel(ruleset, folder):
        return confusion_chart(displayed(write_results(tmp_path / folder, ruleset, WORLD))).to_dict()["concat"][0]

    many, few = panel(make_ruleset(50), "many"), panel(make_ruleset(4), "few")
    assert 50 * many["width"]["step"] <= 520 and 50 * many["height"]["step"] <= 520
    assert [layer["mark"]["type"] for layer in many["layer"]] == ["rect"]
    assert [layer["mark"]["type"] for layer in few["layer"]] == ["rect", "text"]
    encoding = many["layer"][0]["encoding"]  # empty cells are not drawn, and labels that nobody gave keep their place
    assert [len(encoding[axis]["scale"]["domain"]) for axis in "xy"] == [50, 50]


def test_labels_stand_in_charts_as_they_are(tmp_path):
    labels = ["No", "No show", "No, thanks", 'say "no"', "✅ yes", "<b>yes</b>/no", "a.b[0]"]
    ruleset = named_ruleset(labels, [f"rule_{i}" for i in range(6)], n_hidden=0)
    spec = confusion_chart(displayed(write_results(tmp_path, ruleset, WORLD))).to_dict()
    rows = next(iter(spec["datasets"].values()))
    assert {row["label"] for row in rows} == set(labels)
