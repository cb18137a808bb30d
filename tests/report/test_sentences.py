"""Every sentence of the report, held word for word: what planted worlds, published tables and each case make it say.

`UPDATE_SNAPSHOTS=1 pytest tests/report/test_sentences.py` writes the snapshots anew; the diff shows what changed.
"""

import html
import os
import re
from pathlib import Path

import polars as pl
import pytest

from hidden_rule.core.tables import COLLAPSE, HISTORY, METRICS
from hidden_rule.experiment.display import displayed
from hidden_rule.experiment.runs import Estimate, Run
from hidden_rule.report import side_effects_page
from hidden_rule.report.documentation import read_published
from hidden_rule.report.page import build_report, render_report
from hidden_rule.report.publish import folder_of
from hidden_rule.report.text import (
    baselines,
    caveats,
    comparisons,
    rule_learning,
    shortcuts,
    suites,
    training_cost,
    training_runs,
)
from hidden_rule.report.text.findings import conclude
from hidden_rule.statistics.feasibility import HIDDEN, OVERALL, Subset
from synthetic import costs_frame
from worlds import CHANCE, GOOD, METHODS, STARTS, WORLDS, conclude_world, results_of

SNAPSHOTS = Path(__file__).parent / "snapshots"
ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "workflow" / "report" / "report.html.j2"
PUBLISHED = ROOT / "results" / "published"


def hold(name: str, text: str) -> None:
    """Compare a text with its snapshot, or write that anew where UPDATE_SNAPSHOTS is set."""
    path = SNAPSHOTS / f"{name.replace(' ', '_')}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def answer_text(answer: dict) -> str:
    """An answer as plain text: a line a sentence, under its headings."""
    lines = [answer["headline"], *answer["lead"], "", answer["scope"]]
    for title, parts in answer["sections"]:
        lines += ["", f"# {title}"]
        for heading, sentences in parts:
            lines += [f"## {heading}", *sentences] if heading else sentences
    return "\n".join(lines) + "\n"


MANY = {"baseline": CHANCE} | {f"sft_{i}": GOOD | {"accuracy": 0.5 + 0.05 * i} for i in range(9)}
METHODS_OF_MANY = METHODS | dict.fromkeys(MANY, "sft") | {"baseline": None}


@pytest.mark.parametrize("world", WORLDS)
def test_what_a_planted_world_makes_the_report_say(tmp_path, world):
    conditions, options = WORLDS[world]
    hold(f"world {world}", answer_text(conclude_world(tmp_path, conditions, **options)))


def test_what_many_conditions_make_the_report_say(tmp_path, monkeypatch):
    monkeypatch.setattr("worlds.METHODS", METHODS_OF_MANY)
    monkeypatch.setattr("worlds.STARTS", STARTS | dict.fromkeys(MANY))
    hold("world many conditions", answer_text(conclude_world(tmp_path, MANY)))


def page_text(page: str) -> str:
    """The words of a page: a line a row, item or paragraph; cells are parted by bars."""
    body = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    body = re.sub(r"<dl class=.glossary.*?</dl>", "", body, flags=re.DOTALL)
    cells = re.sub(r"\s*</t[hd]>\s*", " | ", " ".join(body.split()))
    lines = re.sub(r"</(?:p|li|h\d|tr|caption|title|summary|dt|dd)>", "\n", cells)
    words = html.unescape(re.sub(r"<[^>]+>", "", lines)).splitlines()
    return "\n".join(line.strip() for line in words if line.strip()) + "\n"


@pytest.mark.parametrize("world", ["collapse", "collapse of three seeds"])
def test_the_words_of_a_page(tmp_path, world):
    conditions, options = WORLDS[world]
    results = results_of(tmp_path, conditions, **options)
    hold(f"page {world}", page_text(render_report(build_report(results), TEMPLATE)))


@pytest.mark.parametrize("name", ["seeds", "rl-fair", "label-efficiency", "label-noise"])
def test_what_published_tables_make_the_report_say(name):
    """Histories, predictions and verdicts on collapse are not published: what rests on them is left out."""
    results = read_published(folder_of(name, PUBLISHED))
    hold(f"published {name}", answer_text(conclude(displayed(results))))


def row(low, value, high, n=1000):
    return Estimate(value, low, high, n)


UNDEFINED = None


def rule_sentences():
    """The policy, the hidden rule, free decoding and suites: every verdict."""
    for low, value, high in [(0.86, 0.88, 0.9), (0.3, 0.34, 0.38), (0.24, 0.28, 0.32), (0.1, 0.15, 0.2)]:
        yield rule_learning.policy_sentence("sft", row(low, value, high), 0.25)
    found, half, none = row(0.9, 0.95, 0.98), row(0.4, 0.5, 0.6), row(0.0, 0.05, 0.12)
    for recall, precision in [
        (found, row(0.85, 0.9, 0.95)),
        (none, found),
        (half, row(0.2, 0.25, 0.3)),
        (half, UNDEFINED),
        (found, half),
        (half, row(0.7, 0.8, 0.9)),
        (UNDEFINED, UNDEFINED),
    ]:
        of = rule_learning.OnHiddenRule(None, {"sft": recall}, {"sft": precision}, {"sft": 0.25})
        yield from rule_learning.hidden_sentences(["sft"], [of])
    yield rule_learning.free_sentence("sft", found, none)
    rows = [
        (condition, None, of.suite, "structured", of.metric, None, None, value, value - 0.05, value + 0.05, 80)
        for condition, value in (("sft", 0.9), ("grpo", 0.5), ("sft_then_grpo", 0.8))
        for of in suites.SUITES
    ]
    metrics = pl.DataFrame(rows, schema=METRICS, orient="row")
    yield from suites.suite_sentences(metrics, ["sft", "grpo", "sft_then_grpo"], [])


def comparison_sentences():
    """Differences that are shown, that are not, that could not be; the sample that would detect them; the cost."""
    pair = {
        "condition_a": "sft",
        "condition_b": "grpo",
        "difference": 0.05,
        "ci_low": 0.01,
        "ci_high": 0.09,
        "p_value": 0.01,
        "p_adjusted": 0.01,
        "mde": 0.061,
        "of_seeds": [0.05],
        "n_compared": 3,
        "test": "mcnemar_exact",
    }
    close = pair | {"ci_low": -0.01, "p_value": 0.2, "p_adjusted": 0.4}
    by_number = pair | {"p_adjusted": 0.06}
    for one in (pair, close, by_number, close | {"mde": 1.2}, close | {"mde": None}):
        yield comparisons.difference_sentence(one)
    seeds = {"of_seeds": [0.04, 0.05, 0.06], "test": "t_applications_seeds"}
    for one in (close, close | {"mde": 0.04}, close | {"difference": 0.005}, close | seeds):
        yield from caveats.detection_sentences("sft", [one], 1000)
    with_others = [{"condition_b": "baseline", "test": "t_families"}, {"condition_b": "logistic"}]
    yield from comparisons.family_sentences([pair, *(close | other for other in with_others)], 1)
    elsewhere = {"condition_a": "baseline", "condition_b": "logistic", "test": "t_families_seeds"}
    yield from comparisons.family_sentences([pair | seeds, pair | elsewhere], 3)
    costs = costs_frame(
        [
            ("baseline", 0, "evaluate", 40.0, 0, 500, 1, "cpu"),
            ("sft", 0, "train", 120.0, 1000, 0, 1, "cpu"),
            ("sft", 0, "evaluate", 30.0, 0, 400, 1, "cpu"),
            ("sft_then_grpo", 0, "train", 180.0, 3000, 900, 1, "cpu"),
            ("sft_then_grpo", 0, "evaluate", 30.0, 0, 400, 1, "cpu"),
        ]
    )
    starts, above = {"sft": None, "sft_then_grpo": "sft"}, ["sft", "sft_then_grpo"]
    both = close | {"condition_b": "sft_then_grpo", "difference": -0.01, "ci_high": 0.01}
    elsewhere = costs.with_columns(device=pl.when(pl.col("condition") == "sft").then(pl.lit("gpu")).otherwise("device"))
    for best, rows, table in [
        ("sft_then_grpo", [both | {"ci_low": -0.04}], costs),
        ("sft_then_grpo", [both | {"ci_low": -0.07}], costs),
        ("sft_then_grpo", [both | {"ci_low": -0.04}], elsewhere),
        ("sft", [both], costs),
        ("sft", [pair], costs),
        ("baseline", [pair | {"condition_a": "baseline"}], costs),
    ]:
        yield from training_cost.cost_sentences(best, rows, training_cost.run_costs(table, starts), above)


def caveat_sentences():
    """What could change the result, the method, and threats to validity."""
    many = caveats.Weaknesses(["threshold values"], ["sft", "grpo"], ["grpo"], one_seed=True)
    yield from caveats.change_sentences("sft", [], 1000, many)
    yield from caveats.change_sentences("sft", [], 1000, caveats.Weaknesses([], ["sft"], [], one_seed=True))
    about = {"model": "a-model", "ruleset": "rulesets/a.yaml", "train": 640, "hidden_rules": 1}
    yield from caveats.method_sentences(about, 1000, 1, is_balanced=True, has_suites=False, has_free=False)
    yield from caveats.method_sentences(about, 1000, 3, is_balanced=False, has_suites=True, has_free=True)
    yield from (caveats.scope_sentence(1000, 1), caveats.scope_sentence(1000, 3))


def verdict_rows(verdict, reasons, fates, since=None, gap=None, zero_signal_share=0.97):
    """The rows of COLLAPSE of one training: `fates` of labels A, B, …"""
    shares = {"kept": 0.4, "lost": 0.0, "absent": 0.0, "rare": 0.06, "unsure": 0.02, "unneeded": 0.0}
    made = [
        {
            "condition": "grpo",
            "seed": 0,
            "verdict": verdict,
            "reasons": reasons,
            "collapsed_since": since,
            "n_steps": 160,
            "entropy": 0.1,
            "zero_signal_share": zero_signal_share,
            "label": label,
            "fate": fate,
            "true_share": 0.25,
            "share": shares[fate],
            "low": 0.0,
            "high": 0.012,
            "n": 320.0,
            "since": since or (90 if fate == "lost" else None),
            "gap_from": gap[0] if gap and label == "B" else None,
            "gap_to": gap[1] if gap and label == "B" else None,
        }
        for label, fate in zip("ABCD", fates, strict=True)
    ]
    return pl.DataFrame(made, schema=COLLAPSE).to_dicts()


def training_sentences():
    """First groups, collapse, early stops, validation."""
    subsets = {OVERALL: {"signal_share": 0.56, "p_right": 0.25, "p_invalid": 0.0, "right_share": 1.0}}
    label, rules = Subset("label", "A"), [Subset("rule", name) for name in ("vip", "regulars")]
    for of in (
        {HIDDEN: {"right_share": 0.6}, label: {"right_share": 0.9}},
        {HIDDEN: {"right_share": 0.264}, label: {"right_share": 0.113}},
        {HIDDEN: {"right_share": 0.264}, rules[0]: {"right_share": 0.5}, rules[1]: {"right_share": 0.01}},
        {OVERALL: subsets[OVERALL] | {"signal_share": 0.04, "p_right": 0.99}},
        {OVERALL: subsets[OVERALL] | {"p_invalid": 0.9}},
    ):
        yield training_runs.feasibility_sentence("grpo", "baseline", 8, subsets | of)
    for rows in (
        verdict_rows("warn", ["too_short"], ["unsure"] * 4),
        verdict_rows("collapsed", ["no_valid"], ["unsure"] * 4, since=80),
        verdict_rows("warn", ["no_valid"], ["unsure"] * 4),
        verdict_rows("collapsed", [], ["lost", "lost", "kept", "kept"], since=80),
        verdict_rows("collapsed", ["absent"], ["lost", "absent", "kept", "unneeded"], since=80, zero_signal_share=None),
        verdict_rows("warn", ["recent"], ["lost", "kept", "kept", "kept"]),
        verdict_rows("warn", ["absent", "rare", "unsure"], ["absent", "rare", "unsure", "kept"]),
        verdict_rows("warn", ["recovered"], ["kept"] * 4, gap=(20, 60)),
        verdict_rows("warn", ["no_signal"], ["kept"] * 4),
    ):
        yield training_runs.collapse_sentence(rows)
    yield from training_runs.collapse_sentences(None)
    sound = pl.DataFrame(verdict_rows("pass", [], ["kept"] * 4), schema=COLLAPSE)
    yield from training_runs.collapse_sentences(sound)
    other = sound.with_columns(seed=pl.lit(1).cast(sound["seed"].dtype))
    yield from training_runs.collapse_sentences(pl.concat([sound, other]))
    yield from training_runs.collapse_sentences(
        pl.concat([sound.with_columns(condition=pl.lit(c)) for c in "abcdefghi"])
    )

    def history(*rows):
        return pl.DataFrame(
            [(step, 0.0, 0, metric, None, value) for step, metric, value in rows], schema=HISTORY, orient="row"
        )

    histories = [
        history((40, "stopped_without_signal", 40.0)),
        history((50, "stopped_by_time_limit", 2.5)),
        history(*((i, "validation_accuracy", value) for i, value in enumerate((0.2, 0.5, 0.8)))),
        history(*((i, "validation_accuracy", value) for i, value in enumerate((0.2, 0.8, 0.8)))),
        history(*((i, "validation_accuracy", value) for i, value in enumerate((0.2, 0.8)))),
    ]
    runs = [
        Run("grpo", 0, "grpo"),
        Run("grpo", 1, "grpo"),
        *(Run(name, 0, "sft") for name in ("sft", "sft_b", "sft_c")),
    ]
    yield from training_runs.stopped_sentences(dict(zip(runs, histories, strict=True)))
    yield from training_runs.validation_sentences(dict(zip(runs, histories, strict=True)))
    yield from training_runs.validation_sentences({Run(f"sft_{i}", 0, "sft"): histories[2] for i in range(9)})
    yield shortcuts.of_seeds("grpo", {2: 0.95, 0: 0.99}, {0, 1, 2})


def reference_sentences():
    """What references are and reach, and where the hidden rule stands."""
    conditions = {
        "baseline": {},
        "sft": {"method": "sft"},
        "always": {"reference": "constant"},
        "plain": {"reference": "logistic"},
        "trees": {"reference": "boosting"},
        "oracle": {"prompt": "oracle"},
        "shots": {"prompt": {"examples": 8}, "start_from": "sft"},
    }
    references = baselines.describe_references({"conditions": conditions})
    accuracy = row(0.2, 0.25, 0.3)
    for i, (name, what) in enumerate(references.items()):
        recall, precision = [(accuracy, accuracy), (accuracy, UNDEFINED), (None, None)][i % 3]
        of = rule_learning.OnHiddenRule(None, {name: recall}, {name: precision}, {name: 0.25})
        yield baselines.reference_sentence(name, what, accuracy, [of])
    kinds = {"plain": "logistic", "always": "constant"}
    accuracies = dict.fromkeys([*kinds, "sft"], accuracy)
    for relation, names, fields in [
        ("better", ("plain",), set()), ("tied", ("plain", "always"), {"text"}), ("higher", ("always",), set())
    ]:  # fmt: skip
        matches = [baselines.Match(name, "sft", relation) for name in names]
        yield from baselines.match_sentences(matches, "sft", kinds, accuracies, fields)
    yield baselines.match_sentences([baselines.Match("plain", "sft", "tied")], "grpo", kinds, accuracies, set())[0]
    for part in (conditions, {"baseline": {}}):
        yield baselines.hidden_rule_note({"conditions": part})


def side_effect_sentences():
    """Side effects of training, and leaks of the hidden rule."""

    def of(change, more):
        measured = {
            ("log_likelihood_change", kind): row(change - 0.01, change, change + 0.01)
            for kind in ("passage", "instruction")
        }
        for probe in ("choice", "completion", "extraction", "explanation"):
            for who in ("trained", "base", "oracle"):
                measured[probe, who] = row(0.1, 0.2, 0.3, 40)
            measured[probe, "trained - base"] = row(more, more + 0.1, more + 0.2, 40)
            measured[probe, "oracle - base"] = row(0.1 if probe == "choice" else -0.1, 0.2, 0.3, 40)
        return measured | {("choice", "chance"): row(0.25, 0.25, 0.25, 40)}

    for change in (-0.05, 0.0, 0.05):
        yield side_effects_page.cost_sentence("sft", of(change, 0.0))
    for more in (-0.1, 0.1):
        yield side_effects_page.leak_sentence("sft", of(0.0, more))
    mixed = of(0.0, 0.1) | {("extraction", "trained - base"): row(-0.1, 0.0, 0.1, 40)}
    yield side_effects_page.leak_sentence("sft", mixed)
    yield side_effects_page.oracle_sentence(mixed)
    yield side_effects_page.CAVEAT


@pytest.mark.parametrize(
    "group",
    [
        rule_sentences,
        comparison_sentences,
        caveat_sentences,
        training_sentences,
        reference_sentences,
        side_effect_sentences,
    ],
)
def test_each_sentence(group):
    hold(group.__name__, "\n".join(group()) + "\n")
