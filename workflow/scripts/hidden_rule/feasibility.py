"""Can reward teach a policy that starts here? What its first groups will look like, from exact label probabilities.

A group of G replies, each right with probability p, carries a signal unless all of them earn the same. With two rewards
(structured decoding: right or wrong) its chance is 1 − p^G − (1 − p)^G, and some reply of it is right with chance
1 − (1 − p)^G; where some wrong labels earn other points (`near`) a signal has chance 1 − Σ_v P(v)^G over all points v.
Both are averaged over applications, each with its own p: groups of an application that the policy is sure of carry
none. It holds at temperature 1; under free decoding a reply may be invalid too, and nothing is said.
"""

import operator
from functools import reduce

import polars as pl

from .outcomes import scan_predictions
from .tables import FEASIBILITY

GROUP_SIZES = (2, 4, 8, 16, 32, 64)
NO_SIGNAL = 0.05  # of the groups: below this share with a signal there is next to no gradient
SELDOM_RIGHT = 0.50  # of a decision's groups: below this share with a right reply it is seldom reinforced


def probabilities(path, labels) -> pl.DataFrame:
    """Of each application of the largest structured suite `label`, `fired_rule`, and the chance of each reply.

    `p` is that of the right one, `p_<LABEL>` that of each.
    """
    rows = scan_predictions(path, labels).filter(decoding="structured")
    sizes = rows.group_by("suite").len().sort("len", "suite", descending=[True, False]).collect()
    if sizes.is_empty():
        chances = dict.fromkeys([*(f"p_{label}" for label in labels), "p"], pl.Float64)
        return pl.DataFrame(schema={"label": pl.String, "fired_rule": pl.String, **chances})
    right = pl.coalesce(pl.when(label=label).then(pl.col(f"p_{label}")) for label in labels)
    return (
        rows.filter(suite=sizes["suite"][0])
        .select("label", "fired_rule", *(f"p_{label}" for label in labels), p=right)
        .collect()
    )


def chances_of_points(reward: dict) -> list[tuple[float, pl.Expr]]:
    """Every number of points that a valid reply can earn, and its chance; those of a right reply first."""
    near: dict[float, list[pl.Expr]] = {}
    for right, others in reward.get("near", {}).items():
        for answered, points in others.items():
            if points != reward["wrong"]:
                chance = pl.when(label=right).then(pl.col(f"p_{answered}")).otherwise(0.0)
                near.setdefault(points, []).append(chance)
    p, others = pl.col("p"), [(points, pl.sum_horizontal(chances)) for points, chances in near.items()]
    wrong = 1 - p - pl.sum_horizontal(chance for _, chance in others) if others else 1 - p
    return [(reward["correct"], p), (reward["wrong"], wrong), *others]


def assess(rows: pl.DataFrame, hidden_rules: list[str], group_size: int, reward: dict) -> list[dict]:
    """What groups of `group_size` replies hold: over all `rows` of `probabilities`, those of a hidden rule, each label.

    `p_right`, `signal_share` and `right_share` (of groups with a right reply) are shares; `reward` are the points.
    """
    p, earned = pl.col("p"), chances_of_points(reward)
    subsets = [("all", pl.lit(True)), ("hidden", pl.col("fired_rule").is_in(hidden_rules))]
    subsets += [(label, pl.col("label") == label) for label in rows["label"].unique().sort()]
    assessed = []
    for subset, kept in subsets:
        row = rows.filter(kept).select(
            p_right=p.mean(),
            signal_share=reduce(operator.sub, [chance**group_size for _, chance in earned], pl.lit(1.0)).mean(),
            right_share=(1 - (1 - p) ** group_size).mean(),
            reward=reduce(operator.add, [chance * points for points, chance in earned]).mean(),
            n=pl.len().cast(pl.Int64),
        )
        assessed += [{"subset": subset, "group_size": group_size} | found for found in row.to_dicts() if found["n"]]
    return assessed


def assess_training(predictions, *, condition, start, seed, settings, ruleset) -> pl.DataFrame:
    """Table FEASIBILITY of one training with GRPO: `predictions` are those of condition `start`, its start.

    `settings` are the `group_size` and `reward` of its method; that size is assessed beside GROUP_SIZES.
    """
    rows, hidden = probabilities(predictions, ruleset.labels), [rule.name for rule in ruleset.hidden_rules]
    assessed = [
        {"condition": condition, "start": start, "seed": seed} | row
        for group_size in sorted({*GROUP_SIZES, settings["group_size"]})
        for row in assess(rows, hidden, group_size, settings["reward"])
    ]
    return pl.DataFrame(assessed, schema=FEASIBILITY)


def verdict(of: dict[str, dict]) -> tuple[str, list[str]]:
    """`go`, `warn` or `no_signal`, and the subsets that are seldom answered rightly in a group.

    of: the row of FEASIBILITY of each subset, for one condition and group size.
    """
    seldom = [name for name, row in of.items() if name != "all" and row["right_share"] < SELDOM_RIGHT]
    if of["all"]["signal_share"] < NO_SIGNAL:
        return "no_signal", seldom
    return ("warn" if seldom else "go"), seldom
