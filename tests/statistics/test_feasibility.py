"""What groups hold before training: by hand, by drawing them, and against a real training's first steps."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from hidden_rule.core.tables import FEASIBILITY, SAMPLES
from hidden_rule.experiment.conditions import start_of
from hidden_rule.experiment.runs import Run
from hidden_rule.report.text.training_runs import feasibility_sentences, without_mixed_rewards
from hidden_rule.statistics import feasibility
from hidden_rule.statistics.feasibility import HIDDEN, OVERALL, Subset
from hidden_rule.task.reward_file import OwnReward, plain_reply
from hidden_rule.task.rewards import OwnRewards, TableRewards
from synthetic import make_ruleset

REWARD = {"correct": 100, "wrong": -50}


def with_rules(*names):
    """A ruleset with these hidden rules."""
    return SimpleNamespace(hidden_rules=[SimpleNamespace(name=name) for name in names])


VIP, NONE = with_rules("vip"), with_rules()
A, B = Subset("label", "A"), Subset("label", "B")


def by_subset(found):
    return {Subset(row["kind"], row["name"]): row for row in found}


def rows(*triples):
    return pl.DataFrame(triples, schema=["label", "fired_rule", "p"], orient="row")


def test_by_hand():
    found = feasibility.assess(rows(("A", "vip", 0.5), ("B", "low", 1.0), ("B", "default", 0.0)), VIP, 2, REWARD)
    by = by_subset(found)
    assert by[HIDDEN] == by[A] | {"kind": "hidden", "name": None}
    assert by[A] == {
        "kind": "label", "name": "A", "group_size": 2, "p_right": 0.5, "p_invalid": 0.0, "signal_share": 0.5,
        "right_share": 0.75, "reward": 25.0, "n": 1,
    }  # fmt: skip
    assert (by[B]["p_right"], by[B]["signal_share"], by[B]["right_share"]) == (
        0.5,
        0.0,
        0.5,
    )  # sure of both
    assert by[OVERALL]["signal_share"] == pytest.approx(1 / 6)


def test_near_credit_by_hand():
    """Right, near and wrong with chances 0.5, 0.3 and 0.2; the same points wherever B is right."""
    columns = ["label", "fired_rule", "p", "p_A", "p_B", "p_C"]
    frame = pl.DataFrame([("A", "r", 0.5, 0.5, 0.3, 0.2), ("B", "r", 0.2, 0.5, 0.2, 0.3)], schema=columns, orient="row")
    by = {
        (row["kind"], row["name"]): row
        for row in feasibility.assess(frame, NONE, 2, {**REWARD, "near": {"A": {"B": 20}}})
    }
    assert by[A]["signal_share"] == pytest.approx(1 - 0.25 - 0.09 - 0.04)
    assert by[A]["reward"] == pytest.approx(50 + 6 - 10)
    assert by[B]["signal_share"] == pytest.approx(1 - 0.04 - 0.64)
    plain = feasibility.assess(frame, NONE, 2, REWARD)
    assert feasibility.assess(frame, NONE, 2, {**REWARD, "near": {"A": {"B": -50}}}) == plain  # as any wrong one


SHARES = pl.DataFrame(
    [("A", "r", 0.5, 0.5, 0.3, 0.2), ("B", "r", 0.2, 0.5, 0.2, 0.3)],
    schema=["label", "fired_rule", "p", "p_A", "p_B", "p_C"],
    orient="row",
)


@pytest.mark.parametrize("near", [{}, {"A": {"B": 20}}, {"A": {"B": 20, "C": 20}, "B": {"A": -50}}])
def test_a_table_is_assessed_as_its_points_are(near):
    points = {**REWARD, "near": near}
    for size in (2, 8):
        by_points = feasibility.assess(SHARES, NONE, size, points)
        by_table = feasibility.assess(SHARES, NONE, size, TableRewards("ABC", points))
        assert by_table == [pytest.approx(row) for row in by_points]


def test_a_reward_that_depends_on_the_case_by_hand():
    def reward(replies, cases):
        return [
            case["size"] * (reply == plain_reply(case["label"])) for reply, case in zip(replies, cases, strict=True)
        ]

    cases = [{"size": 3, "label": "B"}, {"size": 10, "label": "A"}]
    rewards = OwnRewards(OwnReward("x.py", "reward", reward), "ABC", cases)
    found = by_subset(feasibility.assess(SHARES.with_columns(case=pl.Series([1, 0])), NONE, 2, rewards))
    assert (found[A]["reward"], found[B]["reward"]) == (pytest.approx(10 * 0.5), pytest.approx(3 * 0.2))
    assert found[A]["signal_share"] == pytest.approx(1 - 0.5**2 - 0.5**2)
    samples = pl.DataFrame(
        [(7, "B", "r", plain_reply(label), label, 0) for label in "BBAC"],
        schema=["application_id", "label", "fired_rule", "reply", "predicted", "case"],
        orient="row",
    )
    (row, *_) = feasibility.assess_drawn(samples, NONE, 2, rewards)
    assert (row["reward"], row["p_right"]) == (1.5, 0.5)
    assert row["signal_share"] == pytest.approx(1 - 2 / 6)  # of 6 pairs two earn the same: both right, both wrong


@pytest.mark.parametrize("group_size", [2, 8, 64])
def test_against_drawn_groups(group_size):
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 2, 400)
    right = rng.random((400, group_size, 500)) < p[:, None, None]
    found = feasibility.assess(rows(*(("A", "r", float(x)) for x in p)), NONE, group_size, REWARD)[0]
    assert found["signal_share"] == pytest.approx((right.any(1) & ~right.all(1)).mean(), abs=0.005)
    assert found["right_share"] == pytest.approx(right.any(1).mean(), abs=0.005)
    assert found["reward"] == pytest.approx(np.where(right, 100, -50).mean(), abs=1)


def drawn(*applications):
    """SAMPLES of applications that are each a label, a rule and the decisions of its replies."""
    rows = [
        (i, label, rule, "", decision)
        for i, (label, rule, decisions) in enumerate(applications)
        for decision in decisions
    ]
    return pl.DataFrame(rows, schema=SAMPLES, orient="row")


def test_drawn_replies_by_hand():
    """Of four replies two are right, one is wrong and one invalid; of six pairs one earns the same twice."""
    samples = drawn(("A", "vip", ["A", "A", "B", None]), ("B", "low", [None] * 4))
    by = {
        (row["kind"], row["name"]): row
        for row in feasibility.assess_drawn(samples, VIP, 2, {**REWARD, "invalid": -100})
    }
    assert by[HIDDEN] == by[A] | {"kind": "hidden", "name": None}
    assert by[A] == {
        "kind": "label", "name": "A", "group_size": 2, "p_right": 0.5, "p_invalid": 0.25,
        "signal_share": pytest.approx(5 / 6), "right_share": pytest.approx(5 / 6), "reward": 12.5, "n": 1,
    }  # fmt: skip
    assert (by[B]["signal_share"], by[B]["right_share"], by[B]["p_invalid"]) == (
        0.0,
        0.0,
        1.0,
    )
    assert by[OVERALL]["signal_share"] == pytest.approx(5 / 12)
    alike = feasibility.assess_drawn(samples, VIP, 2, {**REWARD, "invalid": -50})  # wrong and invalid earn the same
    assert alike[0]["signal_share"] == pytest.approx(4 / 12)


def test_drawn_replies_estimate_without_bias():
    """Means over draws of 8 replies are the exact shares, of groups of 8 too."""
    rng = np.random.default_rng(1)
    decisions, p = ["A", "B", None], np.array([0.15, 0.6, 0.25])
    samples = drawn(*(("A", "r", [decisions[i] for i in rng.choice(3, 8, p=p)]) for _ in range(4000)))
    for size in (2, 4, 8):
        found = feasibility.assess_drawn(samples, NONE, size, {**REWARD, "invalid": -100})[0]
        assert found["signal_share"] == pytest.approx(1 - (p**size).sum(), abs=0.025)
        assert found["right_share"] == pytest.approx(1 - 0.85**size, abs=0.025)


def test_groups_larger_than_what_was_drawn_are_not_judged(tmp_path):
    ruleset = make_ruleset(2)
    a, b = ruleset.labels
    drawn((a, "default", [a, b, None, a]), (b, "default", [b] * 4)).write_parquet(tmp_path / "replies")
    settings = {"group_size": 3, "reward": {**REWARD, "invalid": -100}}
    table = feasibility.assess_training(
        tmp_path / "replies", Run("grpo", 0, "grpo"), start="base", settings=settings, ruleset=ruleset, free=True
    )
    assert table["group_size"].unique().sort().to_list() == [2, 3, 4]
    said = feasibility_sentences(table, {"grpo": 3})
    assert said == [
        "grpo (start: base): 50.0% of the first groups of 3 have mixed rewards, and most groups of each decision "
        "contain a correct reply. 12.5% of the replies are invalid."
    ]


def test_each_of_several_hidden_rules_is_a_subset():
    """Labels may be called like kinds, and a rule like a label; a rule that fires nowhere has no row."""
    frame = rows(("hidden", "a", 1.0), ("hidden", "b", 0.0), ("overall", "b", 0.5), ("overall", "default", 0.5))
    by = by_subset(feasibility.assess(frame, with_rules("a", "b", "c"), 2, REWARD))
    assert {subset: (row["n"], row["p_right"]) for subset, row in by.items()} == {
        OVERALL: (4, 0.5),
        HIDDEN: (3, 0.5),
        Subset("rule", "a"): (1, 1.0),
        Subset("rule", "b"): (2, 0.25),
        Subset("label", "hidden"): (2, 0.5),
        Subset("label", "overall"): (2, 0.5),
    }
    samples = drawn(("all", "a", ["all"] * 2), ("b", "b", [None] * 2), ("b", "default", ["b", None]))
    by = by_subset(feasibility.assess_drawn(samples, with_rules("a", "b"), 2, {**REWARD, "invalid": -50}))
    assert [(*subset, row["n"], row["p_right"]) for subset, row in by.items()] == [
        ("overall", None, 3, 0.5),
        ("hidden", None, 2, 0.5),
        ("rule", "a", 1, 1.0),
        ("rule", "b", 1, 0.0),
        ("label", "all", 1, 1.0),
        ("label", "b", 2, 0.25),
    ]
    assert feasibility.verdict(by)[1] == [Subset("rule", "b")]


def world(p_hidden, p_other, group_size=8):
    found = feasibility.assess(rows(("A", "vip", p_hidden), ("B", "low", p_other)), VIP, group_size, REWARD)
    return by_subset(found)


@pytest.mark.parametrize(
    ("p_hidden", "p_other", "expected"),
    [
        (0.3, 0.4, ("go", [])),
        (
            0.01,
            0.4,
            ("warn", [HIDDEN, A]),
        ),  # 8% of its groups hold a right reply
        (
            0.001,
            0.999,
            ("no_signal", [HIDDEN, A]),
        ),  # sure, rightly or wrongly: no group differs
        (1.0, 1.0, ("no_signal", [])),  # nothing left to learn
    ],
)
def test_verdicts(p_hidden, p_other, expected):
    assert feasibility.verdict(world(p_hidden, p_other)) == expected


def test_conditions_without_signal_are_named_at_their_own_group_size():
    def of(condition, p, group_size):
        found = feasibility.assess(rows(("A", "vip", p), ("B", "low", p)), VIP, group_size, REWARD)
        return [{"condition": condition, "start": "base", "seed": 0} | row for row in found]

    table = pl.DataFrame(of("mute", 0.001, 8) + of("mute", 0.001, 64) + of("loud", 0.3, 8), schema=FEASIBILITY)
    assert without_mixed_rewards(table, {"mute": 8, "loud": 8}) == ["mute"]
    assert without_mixed_rewards(table, {"mute": 64, "loud": 8}) == []  # 6% of groups of 64
    assert without_mixed_rewards(table, {"sft": 8}) == []


def test_larger_groups_hold_more():
    shares = [world(0.05, 0.3, g)[OVERALL]["signal_share"] for g in feasibility.GROUP_SIZES]
    assert shares == sorted(shares)


def test_starts():
    grpo = {"temperature": 1.0, "estimator": "sampled", "reward": {}}
    config = {
        "decoding": "structured",
        "grpo": grpo,
        "sft": {},
        "conditions": {
            "a_classifier": {"reference": "logistic"},  # none of these says how the plain untrained model samples
            "a_prompt": {"prompt": "oracle"},
            "base": {},
            "sft": {"method": "sft"},
            "grpo": {"method": "grpo"},
            "then": {"method": "grpo", "start_from": "sft"},
            "hot": {"method": "grpo", "with": {"temperature": 1.2}},
            "exact": {"method": "grpo", "with": {"estimator": "exact"}},  # draws no groups
        },
    }
    starts = {name: start_of(config, name) for name in config["conditions"]}
    none = dict.fromkeys(["a_classifier", "a_prompt", "base", "sft", "hot", "exact"])
    assert starts == {**none, "grpo": "base", "then": "sft"}
    free = config | {"decoding": "free"}  # replies are drawn, at any temperature
    assert {name: start_of(free, name) for name in starts} == starts | {"hot": "base"}
    del config["conditions"]["base"]
    assert start_of(config, "grpo") is None
    assert start_of(free, "grpo") == "the base model"
