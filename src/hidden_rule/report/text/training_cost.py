"""Sentences on training cost: the best condition against the cheapest that is statistically tied with it."""

from dataclasses import dataclass

import polars as pl

from hidden_rule.report.text.comparisons import rivals_of, untested
from hidden_rule.report.text.phrases import duration, listing, money, operations, percent, points
from hidden_rule.statistics.training_costs import TrainingCost, disturbed, idle_or_wall, training_costs

LISTED = 4  # conditions that a note on busy machines lists by name; it counts more
SMALL_LEAD = 0.05  # upper limit of a lead's interval: below it the cost may decide between two conditions


@dataclass(frozen=True)
class RunCost:
    """What one run of a condition takes, means over seeds."""

    training: TrainingCost | None  # its starts included; None: it is not trained
    evaluation_s: float  # on an idle machine, as the training's
    evaluation_tokens: float  # generated
    devices: frozenset[str]
    evaluation_wall_s: float | None = None  # None: `evaluation_s` is
    price_per_hour: float | None = None  # of the machine, in whatever currency

    @property
    def training_s(self) -> float:
        return self.training.seconds if self.training else 0.0

    @property
    def price(self) -> float | None:
        """Of one run, training and evaluation, with the machine to itself."""
        return price_of(self.training_s + self.evaluation_s, self.price_per_hour)


def price_of(seconds: float, price_per_hour: float | None) -> float | None:
    """What so many seconds of a machine cost; None where it has no price."""
    return None if price_per_hour is None else seconds / 3600 * price_per_hour


def run_costs(
    costs: pl.DataFrame, starts: dict[str, str | None], price_per_hour: float | None = None
) -> dict[str, RunCost]:
    """The cost of one run of each condition that was evaluated, and whose trainings' costs are known.

    costs: table COSTS; starts: what each trained condition starts from, None for the base model.
    """
    trainings = training_costs(costs, starts)
    evaluations = costs.filter(stage="evaluate").with_columns(idle_or_wall())
    means = evaluations.group_by("condition", maintain_order=True).agg(
        pl.mean("seconds", "wall_s", "n_tokens_generated"),
        pl.col("idle_s").null_count().alias("unknown"),
        pl.col("device").unique(),
    )
    return {
        row["condition"]: RunCost(
            training=(training := trainings.get(row["condition"])),
            evaluation_s=row["seconds"],
            evaluation_tokens=row["n_tokens_generated"] or 0,
            devices=frozenset(row["device"]) | (training.devices if training else frozenset()),
            evaluation_wall_s=None if row["unknown"] else row["wall_s"],
            price_per_hour=price_per_hour,
        )
        for row in means.iter_rows(named=True)
        if row["condition"] in trainings or row["condition"] not in starts
    }


def cost_sentence(condition: str, cost: RunCost) -> str:
    """What one run of a condition takes."""
    if cost.training is None:
        training = "no training"
    else:
        spent = cost.training
        with_starts = f", including {listing(spent.starts)}" if spent.starts else ""
        generated = f", {spent.tokens_generated:,.0f} generated" if spent.tokens_generated else ""
        computed = f", {operations(spent.flops)}" if spent.flops else ""
        where = f"{',' if spent.starts else ''} on an idle machine" if spent.is_estimate else ""
        wall = f"wall time {duration(spent.wall_s)}; " if spent.is_estimate else ""
        training = (
            f"{duration(spent.seconds)} of training per seed{with_starts}{where} ({wall}{spent.tokens_trained:,.0f} "
            f"training tokens{generated}{computed})"
        )
    wall = f"wall time {duration(cost.evaluation_wall_s)}; " if cost.evaluation_wall_s is not None else ""
    price = f"; price {money(cost.price)}" if cost.price is not None else ""
    return (
        f"{condition}: {training}; {duration(cost.evaluation_s)} of evaluation "
        f"({wall}{cost.evaluation_tokens:,.0f} tokens generated){price}."
    )


def busy_sentences(costs: pl.DataFrame) -> list[str]:
    """What keeps times from being compared; costs: table COSTS."""
    if costs["idle_s"].null_count():
        return ["Times are wall-clock times of this run: other load on the machine lengthens them."]
    names = disturbed(costs)
    if not names:
        return []
    whose = listing(names) if len(names) <= LISTED else f"{len(names)} conditions"
    return [f"The machine was busy during runs of {whose}: do not compare times."]


def cost_sentences(best: str, pairs: list[dict], found: dict[str, RunCost], above) -> list[str]:
    """The cost of the best condition, and whether one that is statistically tied with it is cheaper to train.

    pairs: pooled comparisons of accuracy; found: `run_costs`; above: conditions above chance, for no other is an
    alternative.
    """
    cost = found.get(best)
    if cost is None:
        return []
    sentences = [cost_sentence(best, cost)]
    rivals = {name: at_most for name, _, at_most in rivals_of(best, pairs) if name in above}
    cheaper = [name for name in rivals if name in found and found[name].training_s < cost.training_s]
    if cheaper:
        name = min(cheaper, key=lambda rival: found[rival].training_s)
        at_most, other = rivals[name], found[name]
        sentences.append(cost_sentence(name, other))
        if cost.devices == other.devices:
            saved = f"{percent(1 - other.training_s / cost.training_s)} less training time"
        else:
            saved = "less training time, but on a different device,"
        tied = f"{name} takes {saved} and is statistically tied"
        lead = f"{best} is at most {points(max(at_most, 0.0))} points more accurate (upper limit of the 95% CI)"
        if at_most < SMALL_LEAD:
            sentences.append(f"{tied}: {lead}. Cost may decide.")
        else:
            sentences.append(
                f"{tied}, but the comparison is imprecise: {lead}. Whether that is worth the cost stays open."
            )
    elif rivals and all(name in found for name in rivals):
        among = f"Of the conditions compared with {best}, nothing" if untested(best, above, pairs) else "Nothing"
        sentences.append(f"{among} as accurate trains faster.")
    elif not rivals_of(best, pairs) and any(best in (row["condition_a"], row["condition_b"]) for row in pairs):
        sentences.append(f"All conditions compared with {best} are significantly less accurate, whatever their cost.")
    return sentences
