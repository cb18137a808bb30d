"""Can reward teach a policy that starts here? What its first groups will look like.

A group of G replies, each right with probability p, carries a signal unless all of them earn the same. With two rewards
(structured decoding: right or wrong) its chance is 1 − p^G − (1 − p)^G, and some reply of it is right with chance
1 − (1 − p)^G; where some wrong labels earn other points (`near`) a signal has chance 1 − Σ_v P(v)^G over all points v.
Both are averaged over applications, each with its own p: groups of an application that the policy is sure of carry
none. Under structured decoding, at temperature 1, the chances are known exactly.

Under free decoding they are not, and a reply may be invalid too. So N replies are drawn to each of some applications,
and a group of G ≤ N is any G of an application's N: of such groups C(n_v, G) / C(N, G) are all of points v, n_v being
how many of the N earn v. Its mean over draws is P(v)^G, so that shares are estimated without bias, as pass@k is (Chen
et al. 2021, arXiv 2107.03374); the formulas above would not be, filled in with the shares of N replies.
"""

import math
import operator
from collections import Counter
from functools import reduce

import polars as pl

from hidden_rule.core.tables import FEASIBILITY, SAMPLES, read_table
from hidden_rule.statistics.outcomes import scan_predictions
from hidden_rule.task.rewards import points_of

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


def subsets_of(rows: pl.DataFrame, hidden_rules: list[str]) -> list[tuple[str, pl.Expr]]:
    """Which applications are looked at: all, those on which a hidden rule fires, those of each label."""
    subsets = [("all", pl.lit(True)), ("hidden", pl.col("fired_rule").is_in(hidden_rules))]
    return subsets + [(label, pl.col("label") == label) for label in rows["label"].unique().sort()]


def assess(rows: pl.DataFrame, hidden_rules: list[str], group_size: int, reward: dict) -> list[dict]:
    """What groups of `group_size` replies hold: over all `rows` of `probabilities`, those of a hidden rule, each label.

    `p_right`, `signal_share` and `right_share` (of groups with a right reply) are shares; `reward` are the points.
    """
    p, earned = pl.col("p"), chances_of_points(reward)
    assessed = []
    for subset, kept in subsets_of(rows, hidden_rules):
        row = rows.filter(kept).select(
            p_right=p.mean(),
            p_invalid=pl.lit(0.0),
            signal_share=reduce(operator.sub, [chance**group_size for _, chance in earned], pl.lit(1.0)).mean(),
            right_share=(1 - (1 - p) ** group_size).mean(),
            reward=reduce(operator.add, [chance * points for points, chance in earned]).mean(),
            n=pl.len().cast(pl.Int64),
        )
        assessed += [{"subset": subset, "group_size": group_size} | found for found in row.to_dicts() if found["n"]]
    return assessed


def assess_drawn(samples: pl.DataFrame, hidden_rules: list[str], group_size: int, reward: dict) -> list[dict]:
    """As `assess`, from drawn replies (SAMPLES): as many, at least `group_size`, to each application."""
    applications = []
    for (_, label, rule), replies in samples.group_by("application_id", "label", "fired_rule", maintain_order=True):
        earned = Counter(points_of(predicted, label, reward) for predicted in replies["predicted"])
        n, right = len(replies), int((replies["predicted"] == label).sum())
        groups = math.comb(n, group_size)
        applications.append(
            {
                "label": label,
                "fired_rule": rule,
                "p_right": right / n,
                "p_invalid": replies["predicted"].null_count() / n,
                "signal_share": 1 - sum(math.comb(count, group_size) for count in earned.values()) / groups,
                "right_share": 1 - math.comb(n - right, group_size) / groups,
                "reward": sum(value * count for value, count in earned.items()) / n,
            }
        )
    rows = pl.DataFrame(applications)
    means = ["p_right", "p_invalid", "signal_share", "right_share", "reward"]
    assessed = []
    for subset, kept in subsets_of(rows, hidden_rules):
        of = rows.filter(kept)
        if len(of):
            assessed.append(
                {"subset": subset, "group_size": group_size, "n": len(of)} | of.select(means).mean().row(0, named=True)
            )
    return assessed


def assess_training(path, *, condition, start, seed, settings, ruleset, free) -> pl.DataFrame:
    """Table FEASIBILITY of one training with GRPO, which starts as `start` is.

    `path`: the predictions of its start, or, where it explores freely (`free`), drawn replies (SAMPLES). `settings` are
    the `group_size` and `reward` of its method; that size is assessed beside GROUP_SIZES, as far as replies go.
    """
    hidden, sizes = [rule.name for rule in ruleset.hidden_rules], {*GROUP_SIZES, settings["group_size"]}
    if free:
        rows, of_size = read_table(path, SAMPLES), assess_drawn
        least = rows.group_by("application_id").len()["len"].min()
        sizes = {size for size in sizes if size <= least}
    else:
        rows, of_size = probabilities(path, ruleset.labels), assess
    assessed = [
        {"condition": condition, "start": start, "seed": seed} | row
        for group_size in sorted(sizes)
        for row in of_size(rows, hidden, group_size, settings["reward"])
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
