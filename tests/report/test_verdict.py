"""Verdict, trust, tiles, picture, cautions and scorecard of planted worlds of which the truth is known."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from hidden_rule.report.page.first_screen import ROWS, first_screen
from hidden_rule.report.page.many import by_value, narrower
from hidden_rule.report.page.scorecard import scorecard
from hidden_rule.report.text.evidence import gather
from hidden_rule.report.text.scorecard import score
from hidden_rule.report.text.verdict import WORDS, Ranking, fitted, n_words, shortened, unproven
from hidden_rule.task.decision_costs import completed
from synthetic import make_ruleset
from worlds import BETTER, CHANCE, GOOD, HALF, ONE_OF_TWO, RULESET, SEVERAL, WORLDS, results_of

BOOSTING, CONSTANT = {"boosting": BETTER | {"reference": "boosting"}}, {"always": GOOD | {"reference": "constant"}}
HOLM = "after Holm correction"
ONE_SEED = "one seed: not for decisions"
VERDICTS = {  # of worlds.WORLDS
    "sft wins": ("Train with SFT: it beats every other method", "SFT"),
    "rl wins": ("Train with GRPO: it beats every other method", "GRPO"),
    "tie": ("Train with SFT; GRPO on top adds nothing significant", "SFT"),
    "all fail": ("No training beats chance", None),
    "too few data": ("Undecided: SFT is statistically tied with Untrained", "SFT"),
    "collapse": ("Train with SFT: it beats every other method", "SFT"),
    "collapse of three seeds": ("Train with SFT: it beats every other method", "SFT"),
}
OTHERS = {  # further worlds: conditions, config, verdict
    "boosting": ({"baseline": CHANCE, "sft": GOOD} | BOOSTING, {}, "Gradient boosting suffices; no training beats it"),
    "constant": ({"sft": HALF} | CONSTANT, {}, "No training beats always giving the most frequent decision"),
    "untrained": ({"baseline": BETTER, "sft": HALF}, {}, "Do not train: no method beats Untrained"),
    "one": ({"baseline": CHANCE, "sft": GOOD}, {}, "Train with SFT: it learned the policy"),
    "partly": ({"baseline": CHANCE, "sft": HALF}, {}, "SFT is best, but learned only part of the policy"),
    "nothing": ({"baseline": CHANCE}, {}, "Nothing was trained: no method to recommend"),
    "smoke": ({"sft": GOOD}, {"purpose": "smoke"}, "Smoke test: no conclusion about any method"),
}


@pytest.mark.parametrize("world", WORLDS)
def test_planted_worlds(tmp_path, world):
    conditions, options = WORLDS[world]
    first = first_screen(results_of(tmp_path, conditions, **options))
    words, subject = VERDICTS[world]
    assert first["verdict"] == words
    assert subject is None or first["subject"].endswith(f": {subject}")
    n_seeds = len(options.get("seeds", (0,)))
    assert (first["badges"], first["seeds"]) == (([], "3 seeds") if n_seeds > 1 else ([ONE_SEED], ""))
    assert len(first["tiles"]) == 3 and len(first["cautions"]) == 2
    assert len(first["picture"]["rows"]) == len(conditions)


@pytest.mark.parametrize("world", OTHERS)
def test_other_worlds(tmp_path, world):
    conditions, config, words = OTHERS[world]
    sizes = [("holdout", "structured", 400, 10_000)]
    assert first_screen(results_of(tmp_path, conditions, config=config, sizes=sizes))["verdict"] == words


def test_decision_costs_rank(tmp_path):
    """The more accurate condition makes the dear mistakes: the verdict, and the first tile, are about cost."""
    a, *others = RULESET.labels
    costs = {"unit": "EUR", "prevalence": dict.fromkeys(RULESET.labels, 0.25), "costs": {a: dict.fromkeys(others, 100)}}
    config = {"decision_costs": completed(costs, RULESET.labels)}
    world = {"baseline": CHANCE, "sft": {"accuracy": 0.97, "hidden": 0.9}, "grpo": {"accuracy": 0.9, "hidden": 1.0}}
    first = first_screen(results_of(tmp_path, world, config=config))
    assert first["verdict"] == "Train with GRPO: the lowest expected cost of all methods"
    assert first["tiles"][0]["label"] == "Cost of mistakes" and "EUR" in first["tiles"][0]["value"]
    beside = results_of(tmp_path / "beside", {"sft": HALF} | BOOSTING, config=config)
    assert first_screen(beside)["verdict"] == "Gradient boosting suffices; no training costs less"


def test_tiles_and_cautions_of_a_tie(tmp_path):
    results = results_of(tmp_path, WORLDS["tie"][0])
    first = first_screen(results)
    accuracy, recall, training = first["tiles"]
    of = results.estimate("SFT", results.main, "accuracy")
    assert accuracy["value"] == f"{100 * of.value:.1f}%" and accuracy["note"] == "chance 25.0%"
    assert accuracy["interval"] == f"95% CI {100 * of.low:.1f}–{100 * of.high:.1f}"
    assert (recall["label"], recall["note"]) == ("Hidden rule: recall", "learned")
    assert training["value"] == "9 min 00 s"  # 600 s of wall time, a tenth less on an idle machine
    seed, lead = first["cautions"]
    assert seed == "another seed gives the same ranking: each condition was trained once"
    assert "is better than" in lead and "not significant (" in lead


@pytest.mark.parametrize(
    ("difference", "low", "high", "p", "said"),
    [
        (0.01, 0.001, 0.02, 0.03, f"a is better than b: not significant {HOLM} (1.0 points, 95% CI 0.1–2.0)"),
        (-0.01, -0.02, 0.001, 0.3, "b is better than a: not significant (1.0 points, 95% CI −0.1 to 2.0)"),
        (-0.0, -0.01, 0.01, 1.0, "a is better than b: not significant (0.0 points, 95% CI −1.0 to 1.0)"),
    ],
)  # fmt: skip
def test_a_lead_that_is_not_significant_says_why(difference, low, high, p, said):
    row = {"condition_a": "a", "condition_b": "b", "difference": difference, "ci_low": low, "ci_high": high}
    ranking = Ranking({"a": 0.9, "b": 0.9}, [row | {"p_value": p, "p_adjusted": max(p, 0.2)}], by_cost=False)
    assert unproven(ranking, SimpleNamespace(contenders=["a", "b"]), "a", None) == [said]


def test_scorecard_of_a_collapse_over_seeds(tmp_path):
    conditions, options = WORLDS["collapse of three seeds"]
    results = results_of(tmp_path, conditions, **options)
    marks = score(results, gather(results))
    assert {
        title: [(of[name].level, of[name].words) for name in results.conditions] for title, of in marks.items()
    } == {
        "Policy learned?": [("fail", "not above chance"), ("warn", "partly"), ("pass", "learned")],
        "Hidden rule learned?": [("fail", "no evidence"), ("fail", "not learned"), ("pass", "learned")],
        "Stable over seeds?": [("none", "not trained"), ("pass", "all 3 alike"), ("pass", "all 3 alike")],
        "Collapsed?": [("none", "no RL"), ("fail", "yes, 3 of 3 seeds"), ("none", "no RL")],
    }
    card = scorecard(results, gather(results))
    assert card["columns"] == ["condition", *marks, "Accuracy", "Training time per seed"]
    accuracy = card["columns"].index("Accuracy") - 1
    assert [row["cells"][accuracy]["best"] for row in card["rows"]] == [False, False, True]
    assert {len(row["cells"]) for row in card["rows"]} == {len(card["columns"]) - 1}


def test_scorecard_and_tile_of_several_hidden_rules(tmp_path):
    results = results_of(tmp_path, ONE_OF_TWO, SEVERAL)
    marks = score(results, gather(results))
    rules = {title: of["SFT"].level for title, of in marks.items() if title.startswith("Hidden rule ")}
    assert rules == {"Hidden rule rule_0?": "pass", "Hidden rule rule_1?": "fail"}  # the third fires nowhere
    first = first_screen(results)
    assert first["verdict"] == "Train with SFT → GRPO: most accurate, but not tested against GRPO"
    assert first["tiles"][1]["value"] == "2 of 3"


def test_of_many_conditions_the_picture_shows_some_and_says_so(tmp_path):
    world = {"baseline": CHANCE} | {f"c{i}": {"method": "sft", "accuracy": 0.5 + 0.02 * i} for i in range(20)}
    sizes = [("holdout", "structured", 100, 10_000)]
    picture = first_screen(results_of(tmp_path, world, make_ruleset(3), sizes=sizes))["picture"]
    names = [row["name"] for row in picture["rows"]]
    assert len(names) == ROWS and "Untrained" in names and picture["left_out"] == 21 - ROWS


def test_names_of_any_length_leave_a_verdict_of_twelve_words():
    long = "a name of a great many words that goes on and on"
    for text in ("Train with {name}: statistically tied with {other}, but faster", "{name} beats {other}"):
        assert n_words(fitted(text, name=long, other=long)) <= WORDS
    assert n_words("Train with SFT → GRPO") == 4
    assert [shortened("SFT → GRPO", 4), shortened("SFT → GRPO", 1), shortened("x" * 40, 2)] == [
        "SFT → GRPO", "SFT…", "x" * 28 + "…",
    ]  # fmt: skip
    assert fitted("{name} wins", name="{other} {0}") == "{other} {0} wins"  # a name is no template


def test_tables_of_many_conditions_are_no_wider_than_a_page():
    names = [f"c{i}" for i in range(12)]
    suites = {"caption": "s", "columns": ["", *names], "rows": [["decoys", *names], ["conflicts", *"abcdefghijkl"]]}
    assert narrower(suites)["rows"][:2] == [["c0", "c0", "a"], ["c1", "c1", "b"]]
    assert narrower(suites)["columns"] == ["condition", "decoys", "conflicts"]
    settings = {"caption": "s", "columns": ["setting", *names], "rows": [["epochs", "3", "5", *["3"] * 9, "7"]]}
    assert by_value(settings)["rows"] == [["epochs", "3", "5: c1; 7: c11"]]
    few = {"caption": "s", "columns": ["", "a"], "rows": [["x", "1"]]}
    assert narrower(few) is few and by_value(few) is few and narrower(None) is None


STYLE = Path(__file__).parents[2] / "workflow" / "report" / "report.css"


def luminance(colour: str) -> float:
    """Relative luminance of `#rgb` or `#rrggbb` (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_texts_have_contrast(theme):
    blocks = re.findall(r":root \{([^}]*)\}", STYLE.read_text(encoding="utf-8"))
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]+)", blocks[theme]))
    assert len(blocks) == 3 and colours.keys() >= {"ink", "soft", "accent", "good", "warn", "bad", "paper", "tint"}
    for text in ("ink", "soft", "accent", "good", "warn", "bad"):
        for ground in ("paper", "tint"):
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
