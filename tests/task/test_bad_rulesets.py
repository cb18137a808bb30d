"""A wrong ruleset stops with one line that names the file, the key, what is wrong and what would be right."""

import pytest

from bad_inputs import PARCELS, breakable, the_line  # noqa: F401 - a fixture
from hidden_rule.task.dataset import draw_splits, read_split
from hidden_rule.task.ruleset import load_ruleset

pytestmark = pytest.mark.usefixtures("breakable")

# Pieces of the parcels ruleset and what they become -> the line after the file's name.
RULESET = [
    # keys, types, ranges
    ("description:", "descripton:", "descripton: unknown key; did you mean description?"),
    (
        "kind: choice",
        "kind: choise",
        "features.contents.kind: 'choise' is not one of choice, number; did you mean choice?",
    ),
    (
        "    unit: km\n",
        "    units: km\n",
        "features.distance_km.units: unknown key; did you mean unit?",
    ),
    ("default: ROAD\n", "", "default: is missing; add it (The decision where no rule holds.)"),
    ("low: 1\n", "low: one\n", "features.distance_km.low: must be a number, is 'one'; give a number"),
    ("low: 1\n", "low: 1000\n", "features.distance_km.low: 1000 is not below high (900); swap them or widen the range"),
    ("high: 900", "high: 90000000", "features.distance_km.step: makes more than 1000000 values; take a larger step"),
    ("step: 0.5", "step: 0", "features.weight_kg.step: 0 is out of range; give more than 0"),
    ("    mean: 8\n", "", "features.weight_kg.mean: is missing; a normal distribution needs it"),
    ("mean: 8", "mean: 80", "features.weight_kg.mean: 80 is outside 0.5 to 30; move it inside"),
    ("[4, 2, 1, 3]", "[4, 2, 1]", "features.contents.weights: 3 weights for 4 choices; give one a choice"),
    ("glass, cheese", "yes, cheese", "features.contents.choices[1]: must be text, is true; put it in quotes"),
    ("glass, cheese", "books, cheese", "features.contents.choices: 'books' stands twice; keep one"),
    (
        "Goes {value} km",
        "Goes far",
        (
            "features.distance_km.text: 'Goes far' is not valid; "
            'give one line with {value} in it, as in "Team size {value}"'
        ),
    ),
    (
        "  distance_km:\n",
        "  label:\n",
        "features.label: is a column of the data set itself; give the feature another name",
    ),
    # rules and labels
    (
        "name: far_and_light",
        "name: keep_cool",
        "rules[1].name: 'keep_cool' stands twice; give each rule a name of its own",
    ),
    ("name: far_and_light", "name: default", "rules[1].name: `default` means that no rule fired; give another name"),
    ("label: AIR", "label: ROADSIDE", "default: ROAD is a prefix of ROADSIDE; rename one of them"),
    (
        "label: AIR",
        "label: BY AIR",
        "rules[1].label: 'BY AIR' is not valid; give letters, digits and underscores, a letter first, at most 64",
    ),
    ("default: ROAD", "default: [ROAD]", 'default: must be text, is ["ROAD"]; put it in quotes'),
    # predicates
    (
        "distance_km > 400 AND",
        "distance_km > AND",
        "rules[1].when: is not a valid SQL predicate (invalid expression (found unexpected token '<')); mend the SQL",
    ),
    ("distance_km > 400", "distance > 400", "rules[1].when: unknown feature distance; did you mean distance_km?"),
    (
        "contents = 'cheese'",
        'contents = \\"cheese\\"',
        "rules[0].when: unknown feature cheese; write the value in single quotes: 'cheese'",
    ),
    (
        "contents = 'cheese'",
        "contents = 'chese'",
        "rules[0].when: 'chese' is not a choice of contents; did you mean cheese?",
    ),
    (
        "contents = 'cheese'",
        "contents IN ('cheese', 'Books')",  # case counts
        "rules[0].when: 'Books' is not a choice of contents; did you mean books?",
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "1 = 1",
        "rules[1].when: names no feature; compare a feature, one of contents, weight_kg, distance_km",
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "distance_km + 1",
        "rules[1].when: gives Int64, not true or false; compare the feature with a value",
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "distance_km > AVG(distance_km)",
        "rules[1].when: AVG is not a function of one application; use comparisons, AND, OR, NOT, IN",
    ),
    (
        "distance_km > 400",
        "distance_km > 'far'",
        (
            "rules[1].when: cannot be evaluated (cannot compare string with numeric type (i64)); "
            "compare numbers with numbers and texts with texts"
        ),
    ),
    (
        "distance_km > 400",
        "distance_km > 4000",  # beyond the feature's range
        "rules[1].when: rule far_and_light holds for no application; mend the predicate or widen the features' ranges",
    ),
    (
        "distance_km > 400 AND",
        "contents = 'cheese' AND",
        (
            "rules[1].when: rule far_and_light never decides: keep_cool above it already covers all it holds for; "
            "move the rule up, narrow those above, or remove it"
        ),
    ),
    (
        "distance_km > 400 AND weight_kg < 5.5",
        "contents <> 'cheese'",
        "default: no application is left for it; narrow the rules",
    ),
    (
        "label: CHILLED, hidden: true",
        "label: ROAD, hidden: true",
        None,  # still changes AIR to ROAD where both hold: a valid hidden rule
    ),
    # prompts
    ("{labels}?", "{lables}?", "prompt.system: unknown placeholder {lables}; did you mean {labels}?"),
    (
        'user: "{features}"',
        'user: "Decide."',
        "prompt.user: must hold {features} once; write {features} where the application goes",
    ),
    (
        "How does",
        "{features} How does",
        "prompt.system: holds {features}; move it to prompt.user; system is shared by all",
    ),
    (
        ", says: light parcels that go far",
        "",
        "rules[1].says: is missing, and prompt.system shows {rules}; say the rule in plain words",
    ),
    (
        "How does",
        "Cheese is CHILLED. How does",
        (
            "prompt.system: gives the hidden rule keep_cool away (its value 'cheese'); "
            "reword it, or set hidden: false for that rule"
        ),
    ),
]


@pytest.mark.parametrize(("old", "new", "line"), RULESET, ids=[f"{old[:20]}-{new[:30]}" for old, new, _ in RULESET])
def test_bad_ruleset(tmp_path, old, new, line):
    text = PARCELS.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "bad.yaml").write_text(text.replace(old, new), encoding="utf-8")
    if line is None:
        load_ruleset("bad.yaml")
    else:
        assert the_line(load_ruleset, "bad.yaml") == f"bad.yaml: {line}"


# Entries of `paraphrases` or `decoys` -> the line after the file's name.
WORDINGS = [
    (
        "paraphrases: [{feature: content, value: cheese, text: gouda}]",
        "paraphrases[0].feature: unknown feature content; did you mean contents?",
    ),
    (
        "paraphrases: [{feature: weight_kg, value: cheese, text: gouda}]",
        "paraphrases[0].feature: weight_kg is a number, and words stand for a choice; name a choice feature",
    ),
    (
        "paraphrases: [{feature: contents, value: chese, text: gouda}]",
        "paraphrases[0].value: 'chese' is not a choice of contents; did you mean cheese?",
    ),
    (
        "paraphrases: [{feature: contents, value: toys, text: a doll}]",
        "paraphrases[0].value: 'toys' does not trigger a hidden rule; name a value that does, or move it to decoys",
    ),
    (
        "decoys: [{feature: contents, value: toys, text: a doll}, {feature: contents, value: cheese, text: gouda}]",
        "decoys[1].value: 'cheese' triggers a hidden rule; name a value that does not, or move it to paraphrases",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: Cheese}]",
        "paraphrases[0].text: 'Cheese' occurs in training (features.contents.choices); use words that no prompt has",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: this parcel}]",
        "paraphrases[0].text: 'this parcel' occurs in training (prompt.system); use words that no prompt has",
    ),
    (
        "decoys: [{feature: contents, value: toys, text: far}]",
        "decoys[0].text: 'far' occurs in training (rules[1].says); use words that no prompt has",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: gouda}]\n"
        "decoys: [{feature: contents, value: toys, text: Gouda}]",
        "decoys[0].text: 'Gouda' stands twice; keep one",
    ),
    (
        "paraphrases: [{feature: contents, value: cheese}]",
        (
            "paraphrases[0].text: is missing; "
            "add it (text on one line without blanks around it, shown instead of the value)"
        ),
    ),
    (
        "paraphrases: [{feature: contents, value: cheese, text: ' gouda'}]",
        (
            "paraphrases[0].text: ' gouda' is not valid; "
            "give text on one line without blanks around it, shown instead of the value"
        ),
    ),
    (
        "decoys: [{feature: contents, value: toys, txt: a doll}]",
        "decoys[0].txt: unknown key; did you mean text?",
    ),
]


@pytest.mark.parametrize(("text", "line"), WORDINGS, ids=[line[:60] for _, line in WORDINGS])
def test_bad_paraphrases_and_decoys(tmp_path, text, line):
    (tmp_path / "bad.yaml").write_text(PARCELS.read_text(encoding="utf-8") + text, encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == f"bad.yaml: {line}"


@pytest.mark.parametrize(
    ("published", "line"),
    [
        (
            "{source: a study, accuracy: {sft: 88.3}}",
            "published.accuracy.sft: 88.3 is out of range; give at least 0 and at most 1",
        ),
        (
            "{accuracy: {sft: 0.9}}",
            "published.source: is missing; add it (Who published them, where, and what they rest on.)",
        ),
        ("{source: a study, recall: {sft: 0.9}}", "published.recall: unknown key; did you mean hidden_recall?"),
    ],
)
def test_bad_published_figures(tmp_path, published, line):
    text = f"{PARCELS.read_text(encoding='utf-8')}\npublished: {published}\n"
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == f"bad.yaml: {line}"


def test_no_rules(tmp_path):
    head, _, tail = PARCELS.read_text(encoding="utf-8").partition("rules:\n")
    (tmp_path / "bad.yaml").write_text(f"{head}rules: []\n{tail[tail.index('default:') :]}", encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == "bad.yaml: rules: is empty; add more"


def test_one_label(tmp_path):
    text = (
        PARCELS.read_text(encoding="utf-8")
        .replace("label: CHILLED", "label: ROAD")
        .replace("label: AIR", "label: ROAD")
    )
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == "bad.yaml: rules: every application is ROAD; give at least two labels"


def test_empty_and_missing_ruleset(tmp_path):
    (tmp_path / "bad.yaml").write_text("", encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == "bad.yaml: is empty; write keys and values (key: value)"
    assert the_line(load_ruleset, "none.yaml") == "none.yaml: no such file; check the path"


def test_a_hidden_rule_that_changes_nothing(tmp_path):
    text = PARCELS.read_text(encoding="utf-8").replace("label: CHILLED", "label: ROAD")
    text = text.replace("distance_km > 400", "contents <> 'cheese' AND distance_km > 400")
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    assert the_line(load_ruleset, "bad.yaml") == (
        "bad.yaml: rules[0].hidden: the hidden rules change no decision: there is nothing to learn from them; "
        "give the hidden rule a label of its own"
    )


def test_a_truncated_split(tmp_path):
    ruleset = load_ruleset(PARCELS)
    frame = draw_splits(ruleset, dict.fromkeys(("train", "validation", "test", "holdout"), 9), seed=0)["test"]
    frame.write_parquet("test.parquet")
    (tmp_path / "test.parquet").write_bytes((tmp_path / "test.parquet").read_bytes()[:200])
    line = the_line(read_split, "test.parquet", ruleset)
    assert line.startswith("test.parquet: is not a readable parquet file (")
    assert line.endswith("); delete it and run again to rebuild it")
