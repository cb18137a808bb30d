"""The verdict on collapse: planted cases by name, exact bounds, and how often it errs on simulated histories."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hidden_rule.core.tables import COLLAPSE, HISTORY, read_table, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.report.text.training_runs import collapse_sentences
from hidden_rule.statistics.collapse import LOST, MIN_STEPS, bounds, judge, judge_all
from hidden_rule.task.dataset import SPLITS, dataset_schema, draw_splits
from hidden_rule.task.ruleset import load_ruleset
from judge_collapse import judge_collapse
from synthetic import make_history, make_ruleset, world_config

ROOT = Path(__file__).resolve().parents[2]
import histories  # noqa: E402

LABELS = histories.LABELS
EVEN = dict.fromkeys(LABELS, 0.25)
ONE, TWO = (1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0)
PROMPTS = 16


def drawn(*points, n_steps=120, **facts):
    """A history of 16 prompts a step and 8 answers a prompt, from points as `histories.plan` takes them."""
    of = histories.plan(*points, **facts)
    return histories.draw_history(of, n_steps, PROMPTS, 8, np.random.default_rng(7))


def judged(history, truth=EVEN, **options):
    return judge(history, truth, PROMPTS, **options)


def kept(found):
    return "".join(row["label"] for row in found["labels"] if row["fate"] in ("kept", "rare", "unsure"))


@pytest.mark.parametrize(("count", "n"), [(0, 160), (3, 160), (160, 160), (7, 8), (1, 1)])
def test_bounds_are_those_of_scipy(count, n):
    low, high = bounds(count, n, 0.025)
    expected = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert bounds(0, 0, 0.05) == (0.0, 1.0)


EVENLY = histories.EVEN
CASES = [  # what is planted, points, verdict, decisions left, step from which on (give or take 6), reasons
    ("to one, suddenly", [(0, EVENLY, 4), (0.5, EVENLY, 2), (0.501, ONE, 1), (1, ONE, 1)], "collapsed", "A", 61, []),
    ("to one, slowly", [(0, EVENLY, 4), (0.75, ONE, 1), (1, ONE, 1)], "collapsed", "A", 78, []),
    ("to two", [(0, EVENLY, 4), (0.5, TWO, 10), (1, TWO, 10)], "collapsed", "AB", 51, []),
    ("learnt, no entropy left", [(0, EVENLY, 4), (0.5, EVENLY, 0.02), (1, EVENLY, 0.001)], "pass", LABELS, None, []),
    ("noise", [(0, EVENLY, 20), (1, EVENLY, 20)], "pass", LABELS, None, []),
    (
        "a dip that recovers",
        [(0, EVENLY, 4), (0.3, EVENLY, 2), (0.31, ONE, 1), (0.55, ONE, 1), (0.56, EVENLY, 2), (1, EVENLY, 2)],
        "warn", LABELS, None, ["recovered"],
    ),
    (
        "lost lately, still varied",
        [(0, EVENLY, 4), (0.88, EVENLY, 4), (0.885, TWO, 10), (1, TWO, 10)], "warn", "AB", None, ["recent"],
    ),
    (
        "lost lately, nothing else is tried",
        [(0, EVENLY, 4), (0.88, EVENLY, 4), (0.885, ONE, 1), (1, ONE, 1)], "collapsed", "A", 107, [],
    ),
    ("one decision from the start", [(0, ONE, 1), (1, ONE, 1)], "warn", "A", None, ["absent", "no_signal"]),
    ("never two of them", [(0, TWO, 1), (1, TWO, 1)], "warn", "AB", None, ["absent"]),
    (
        "one decision hardly made, none lost",
        [(0, EVENLY, 4), (0.3, (0.4, 0.28, 0.27, 0.05), 1), (1, (0.4, 0.28, 0.27, 0.05), 1)],
        "warn", LABELS, None, ["rare"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("points", "verdict", "left", "since", "reasons"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_planted_cases(points, verdict, left, since, reasons):
    found = judged(drawn(*points))
    assert (found["verdict"], found["reasons"], kept(found)) == (verdict, reasons, "".join(left))
    assert found["since"] == (None if since is None else pytest.approx(since, abs=6))


def test_no_signal_from_the_start_is_a_warning_though_every_decision_is_made():
    sure = drawn((0, EVENLY, 0.001), (1, EVENLY, 0.001), accuracy=1.0)
    found = judged(sure)
    assert (found["verdict"], found["reasons"]) == ("warn", ["no_signal"])
    said = collapse_sentences(judge_all({Run("rl", 3, "grpo"): sure}, EVEN, {"rl": PROMPTS}))
    assert said == ["rl (seed 3): almost no groups with mixed rewards at the start, hence almost no learning signal."]


def test_replies_that_are_invalid():
    always = drawn((0, EVENLY, 4), (1, EVENLY, 4), invalid=(1.0, 1.0))
    found = judged(always, of_decisions=False)
    assert (found["verdict"], found["reasons"], found["since"]) == ("warn", ["no_valid"], None)
    assert all(row["share"] is None and row["fate"] == "unsure" for row in found["labels"])
    later = drawn((0, EVENLY, 4), (0.5, EVENLY, 4), (0.501, EVENLY, 4), (1, EVENLY, 4), invalid=(0.1, 0.1, 1.0, 1.0))
    found = judged(later, of_decisions=False)
    assert (found["verdict"], found["reasons"]) == ("collapsed", ["no_valid"])
    assert found["since"] == pytest.approx(61, abs=3)


@pytest.mark.parametrize(("n_steps", "verdict"), [(1, "warn"), (MIN_STEPS - 1, "warn"), (MIN_STEPS, "pass")])
def test_too_short(n_steps, verdict):
    found = judged(drawn((0, EVENLY, 4), (1, EVENLY, 4), n_steps=n_steps))
    assert found["verdict"] == verdict
    assert ("too_short" in found["reasons"]) == (verdict == "warn")


def test_labels_that_the_history_lacks_and_labels_that_nothing_needs():
    lost = drawn((0, EVENLY, 4), (0.3, TWO, 1), (1, TWO, 1))
    sampled = lost.filter((pl.col("value") > 0) | pl.col("label").is_null())
    assert judged(sampled) == judged(lost)
    without = lost.filter(pl.col("label").is_in(["A", "B"]) | pl.col("label").is_null())
    found = judged(without)  # two labels were never written down at all
    assert (found["verdict"], found["reasons"], kept(found)) == ("warn", ["absent"], "AB")
    found = judged(lost, {"A": 0.5, "B": 0.5, "C": 0.0, "D": 0.0})
    assert (found["verdict"], [row["fate"] for row in found["labels"]]) == (
        "pass",
        ["kept", "kept", "unneeded", "unneeded"],
    )
    assert judged(make_history(make_ruleset(4), "sft", 0.9)) is None


def test_a_decision_that_is_seldom_right_is_held_to_its_own_share():
    policy = (0.9, 0.05, 0.03, 0.02)
    right = drawn((0, EVENLY, 4), (0.3, policy, 1), (1, policy, 0.05), n_steps=300)
    assert judged(right, dict(zip(LABELS, policy, strict=True)))["verdict"] == "pass"
    assert judged(right)["verdict"] == "warn"  # where all are right equally often it would be one-sided


@pytest.mark.slow
def test_false_verdicts_are_few_and_every_planted_collapse_is_found():
    for name in histories.NULLS:
        rates = histories.rates(name, 120, 16, 8, 25)
        assert rates["collapsed"] <= 0.05, (name, rates)
        if name.startswith(("right", "unchanged")):
            assert rates["pass"] >= 0.95, (name, rates)
    for name in histories.PLANTED:
        rates = histories.rates(name, 120, 16, 8, 25)
        assert rates["collapsed"] == rates["named"] == 1.0, (name, rates)


def test_what_is_sampled_at_the_limit_is_hardly_ever_called_collapsed():
    """The hardest case: alive at first, then exactly as rare as may be, each prompt with one answer alone."""
    at_limit = (0.5 - LOST * 0.25, 0.5 - LOST * 0.25, LOST * 0.25, LOST * 0.25)
    generator = np.random.default_rng(3)
    rows = []
    for _ in range(200):
        counts = np.concatenate([generator.multinomial(16, p, size=60) for p in (EVENLY, at_limit)]) / 16
        table = [
            (t, 0.0, 0, "predicted_share", x, v)
            for t, step in enumerate(counts)
            for x, v in zip(LABELS, step, strict=True)
        ]
        rows.append(judged(pl.DataFrame(table, schema=HISTORY, orient="row"))["verdict"] == "collapsed")
    assert np.mean(rows) <= 0.05


def test_the_rule_writes_a_table_of_trainings_by_reward_alone(tmp_path):
    ruleset = load_ruleset(ROOT / "rulesets/fincorp.yaml")
    splits, labels = draw_splits(ruleset, dict.fromkeys(SPLITS, 40), seed=0), list(ruleset.labels)
    config = world_config({"sft": {"method": "sft"}, "rl": {"method": "grpo", "with": {"batch_size": 16}}})
    config["sft"] |= {"batch_size": 16}
    results = Results(tmp_path, config, ruleset=ruleset)
    for run in results.trained:
        history = make_history(ruleset, run.method, 0.4, only=labels[:2])
        write_table(history, results.layout.history(run), HISTORY)
    write_table(splits["train"], results.layout.split("train"), dataset_schema(ruleset))
    judge_collapse(results, tmp_path / "collapse.parquet")
    table = read_table(tmp_path / "collapse.parquet", COLLAPSE)
    assert table["label"].to_list() == labels
    assert set(table["condition"]) == {"rl"} and set(table["verdict"]) == {"collapsed"}
    assert table["true_share"].sum() == pytest.approx(1.0)
    assert table.filter(fate="lost")["label"].to_list() == labels[2:]
    nothing_trained = Results(tmp_path, world_config({"baseline": {}}), ruleset=ruleset)
    judge_collapse(nothing_trained, tmp_path / "none.parquet")
    assert read_table(tmp_path / "none.parquet", COLLAPSE).is_empty()
    assert json.dumps(collapse_sentences(table)).count("collapsed to 2 of 4 decisions") == 1


def test_sound_seeds_share_a_sentence():
    sound, short = (drawn((0, EVENLY, 4), (1, EVENLY, 4), n_steps=n) for n in (40, 10))
    runs = {Run("b", seed, "grpo"): history for seed, history in enumerate([sound, short, sound])}
    said = collapse_sentences(judge_all(runs, EVEN, {"b": PROMPTS}))
    assert len(said) == 2
    assert said[0].startswith("b (seed 1): fewer than 20 recorded steps")
    assert said[1].startswith("b (seeds 0 and 2) did not collapse")


def test_sentences_name_labels_step_and_share():
    found = {Run(name, 0, "grpo"): drawn(*points) for name, points, *_ in CASES}
    said = dict(zip([c[0] for c in CASES], [""] * len(CASES), strict=True))
    for name in said:
        table = judge_all(found, EVEN, dict.fromkeys(said, PROMPTS)).filter(condition=name)
        (said[name],) = collapse_sentences(table)
    assert "collapsed to 2 of 4 decisions (" in said["to two"]
    assert "C at most 2.5% of the answers (true share 25.0%)" in said["to two"]
    assert said["noise"] == "noise (seed 0) did not collapse: all 4 decisions are still sampled at the end of training."
    assert "then recovered." in said["a dip that recovers"]
    assert "too recent to call a collapse" in said["lost lately, still varied"]
    assert "almost never sampled C and D, from start to end." in said["never two of them"]
    assert "less than 50% of the true share" in said["one decision hardly made, none lost"]
    for name, sentence in said.items():
        verdict = next(c[2] for c in CASES if c[0] == name)
        assert ("collapsed to" in sentence) == (verdict == "collapsed"), name
        assert ("did not collapse" in sentence) == (verdict == "pass"), name
    assert collapse_sentences(None) == ["No RL training in this experiment."]
