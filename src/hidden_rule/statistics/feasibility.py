"""Is GRPO feasible from this start? What the first groups of replies will contain.

A group of G replies, each correct with probability p, has a *signal* (a gradient) unless all of its replies earn the
same reward. With two rewards (structured decoding: correct or wrong) that has probability 1 − p^G − (1 − p)^G, and at
least one reply is correct with probability 1 − (1 − p)^G; where some wrong labels earn other points (`near`, costs, a
reward of the user's own), a signal has probability 1 − Σ_v P(v)^G over all points v. Both are averaged over
applications, each with its own p: where the policy is certain of its answer, groups have no signal. Under structured
decoding, at temperature 1, the probabilities are known exactly.

Under free decoding they are not, and a reply may also be invalid. So N replies are sampled for each of some
applications, and a group of G ≤ N is any G of the N: of these groups a share C(n_v, G) / C(N, G) earns v points
throughout, where n_v of the N replies earn v. Its expectation is P(v)^G, so this estimate is unbiased, as pass@k is
(Chen et al. 2021, arXiv 2107.03374); inserting the observed shares into the formulas above would be biased.
"""

import math
import operator
from collections import Counter
from functools import reduce
from typing import NamedTuple

import numpy as np
import polars as pl

from hidden_rule.core.tables import FEASIBILITY, SAMPLES, read_table
from hidden_rule.experiment.runs import Run, separate_rules
from hidden_rule.statistics.outcomes import scan_predictions
from hidden_rule.task.reward_file import added, cases_of, load_reward
from hidden_rule.task.rewards import OwnRewards, TableRewards, added_rows, points_of

GROUP_SIZES = (2, 4, 8, 16, 32, 64)
NO_SIGNAL = 0.05  # of the groups: below this share with a signal there is hardly any gradient
SELDOM_RIGHT = 0.50  # of a decision's groups: below this share with a correct reply it is rarely reinforced


class Subset(NamedTuple):
    """Some of the applications: a kind of FEASIBILITY, and the name of the hidden rule or label, where it has one."""

    kind: str
    name: str | None = None


OVERALL, HIDDEN = Subset("overall"), Subset("hidden")


def probabilities(path, labels) -> pl.DataFrame:
    """A row for each application of the largest structured suite: its label, its rule, and each reply's probability.

    Columns: `application_id`, `label`, `fired_rule`, probabilities: `p` is that of the correct reply, `p_<LABEL>` that
    of each label.
    """
    rows = scan_predictions(path, labels).filter(decoding="structured")
    sizes = rows.group_by("suite").len().sort("len", "suite", descending=[True, False]).collect()
    if sizes.is_empty():
        chances = dict.fromkeys([*(f"p_{label}" for label in labels), "p"], pl.Float64)
        about = {"application_id": pl.Int64, "label": pl.String, "fired_rule": pl.String}
        return pl.DataFrame(schema={**about, **chances})
    right = pl.coalesce(pl.when(label=label).then(pl.col(f"p_{label}")) for label in labels)
    return (
        rows.filter(suite=sizes["suite"][0])
        .select("application_id", "label", "fired_rule", *(f"p_{label}" for label in labels), p=right)
        .collect()
    )


def chances_of_points(reward: dict) -> list[tuple[float, pl.Expr]]:
    """Every number of points that a valid reply can earn, and its probability; those of a correct reply first."""
    near: dict[float, list[pl.Expr]] = {}
    for right, others in reward.get("near", {}).items():
        for answered, points in others.items():
            if points != reward["wrong"]:
                chance = pl.when(label=right).then(pl.col(f"p_{answered}")).otherwise(0.0)
                near.setdefault(points, []).append(chance)
    p, others = pl.col("p"), [(points, pl.sum_horizontal(chances)) for points, chances in near.items()]
    wrong = 1 - p - pl.sum_horizontal(chance for _, chance in others) if others else 1 - p
    return [(reward["correct"], p), (reward["wrong"], wrong), *others]


def signal_and_reward(rows: pl.DataFrame, rewards, group_size: int) -> tuple[pl.Expr, pl.Expr]:
    """Of each row the chance that a group's replies differ in reward, and the expected reward of a reply.

    rewards: points, or an object that gives those of each reply to each row (`TableRewards`, `OwnRewards`).
    """
    if isinstance(rewards, dict):
        earned = chances_of_points(rewards)
        signal = reduce(operator.sub, [chance**group_size for _, chance in earned], pl.lit(1.0))
        return signal, reduce(operator.add, [chance * points for points, chance in earned])
    chances = rows.select(f"p_{label}" for label in rewards.labels).to_numpy()  # (N, L)
    places = rows["case"].to_list() if "case" in rows.columns else list(range(len(rows)))
    points = np.array(added_rows(rewards.of_replies(rows["label"].to_list(), places))).reshape(chances.shape)
    same = np.zeros(len(rows))
    for reply in range(len(rewards.labels)):  # a reply, and all others that earn what it earns
        as_much = (chances * (points == points[:, [reply]])).sum(1)
        same += chances[:, reply] * as_much ** (group_size - 1)
    return pl.lit(pl.Series(1 - same)), pl.lit(pl.Series((chances * points).sum(1)))


def subsets_of(rows: pl.DataFrame, ruleset) -> list[tuple[Subset, pl.Expr]]:
    """The subsets of applications, and which they hold.

    All; those on which a hidden rule fires, and each of them where there are several; those of each label.
    """
    fired = pl.col("fired_rule")
    subsets = [(OVERALL, pl.lit(True)), (HIDDEN, fired.is_in([rule.name for rule in ruleset.hidden_rules]))]
    subsets += [(Subset("rule", name), fired == name) for name in separate_rules(ruleset)]
    return subsets + [(Subset("label", label), pl.col("label") == label) for label in rows["label"].unique().sort()]


def assess(rows: pl.DataFrame, ruleset, group_size: int, rewards) -> list[dict]:
    """What groups of `group_size` replies contain, for each subset of the `rows` of `probabilities` that has any.

    `p_right`, `signal_share` and `right_share` (of groups with a correct reply) are shares; rewards: as for
    `signal_and_reward`.
    """
    p = pl.col("p")
    signal, earned = signal_and_reward(rows, rewards, group_size)
    rows = rows.with_columns(_signal=signal, _reward=earned)
    assessed = []
    for subset, kept in subsets_of(rows, ruleset):
        row = rows.filter(kept).select(
            p_right=p.mean(),
            p_invalid=pl.lit(0.0),
            signal_share=pl.col("_signal").mean(),
            right_share=(1 - (1 - p) ** group_size).mean(),
            reward=pl.col("_reward").mean(),
            n=pl.len().cast(pl.Int64),
        )
        of = {"kind": subset.kind, "name": subset.name, "group_size": group_size}
        assessed += [of | found for found in row.to_dicts() if found["n"]]
    return assessed


def assess_drawn(samples: pl.DataFrame, ruleset, group_size: int, rewards) -> list[dict]:
    """As `assess`, from sampled replies (SAMPLES): equally many, at least `group_size`, for each application."""
    applications = []
    for (_, label, rule), replies in samples.group_by("application_id", "label", "fired_rule", maintain_order=True):
        if isinstance(rewards, dict):
            earned = Counter(points_of(predicted, label, rewards) for predicted in replies["predicted"])
        else:
            case = replies["case"].to_list() if "case" in replies.columns else None
            earned = Counter(added(rewards.earned(replies["reply"].to_list(), [label] * len(replies), case)))
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
    for subset, kept in subsets_of(rows, ruleset):
        of = rows.filter(kept)
        if len(of):
            found = {"kind": subset.kind, "name": subset.name, "group_size": group_size, "n": len(of)}
            assessed.append(found | of.select(means).mean().row(0, named=True))
    return assessed


def assess_training(path, run: Run, start: str, settings: dict, ruleset, free: bool) -> pl.DataFrame:
    """Table FEASIBILITY of one GRPO training, whose policy starts as `start` is.

    path: the predictions of its start, or, under free decoding (`free`), drawn replies (SAMPLES); settings: the
    `group_size` and `reward` of its method, and, where that is of the user's own, `cases`: a table with at least the
    answered applications. That size is assessed beside GROUP_SIZES, as far as the replies suffice.
    """
    sizes = {*GROUP_SIZES, settings["group_size"]}
    if free:
        rows = read_table(path, SAMPLES)
        least = rows.group_by("application_id").len()["len"].min()
        sizes = {size for size in sizes if size <= least}
    else:
        rows = probabilities(path, ruleset.labels)
    rewards = settings["reward"]
    if "file" in rewards:
        rows, rewards = _with_own_rewards(rows, rewards, ruleset, settings["cases"])
    elif "decision_costs" in rewards and not free:
        rewards = TableRewards(ruleset.labels, rewards)
    assess_size = assess_drawn if free else assess
    assessed = [
        {"start": start} | run.columns | row
        for group_size in sorted(sizes)
        for row in assess_size(rows, ruleset, group_size, rewards)
    ]
    return pl.DataFrame(assessed, schema=FEASIBILITY)


def _with_own_rewards(
    rows: pl.DataFrame, reward: dict, ruleset, cases: pl.DataFrame
) -> tuple[pl.DataFrame, OwnRewards]:
    """`rows` with the place `case` of each one's case, and the rewards of replies to these."""
    answered = cases.join(rows.select("application_id").unique(), on="application_id", how="semi")
    places = answered.select("application_id").with_row_index("case")
    own = load_reward(reward["file"], reward["function"])
    rows = rows.join(places, on="application_id", how="left", maintain_order="left")
    return rows, OwnRewards(own, ruleset.labels, cases_of(answered, ruleset))


def verdict(of: dict[Subset, dict]) -> tuple[str, list[Subset]]:
    """`go`, `warn` or `no_signal`, and the subsets whose groups rarely contain a correct reply.

    of: the row of FEASIBILITY of each subset, for one condition and group size.
    """
    seldom = [subset for subset, row in of.items() if subset != OVERALL and row["right_share"] < SELDOM_RIGHT]
    if of[OVERALL]["signal_share"] < NO_SIGNAL:
        return "no_signal", seldom
    return ("warn" if seldom else "go"), seldom
