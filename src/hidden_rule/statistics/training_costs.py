"""What a condition's training costs: its own, and that of each condition that it starts from, under the same seed."""

from dataclasses import dataclass

import polars as pl

SUMMED = ("seconds", "wall_s", "n_tokens_trained", "n_tokens_generated")


@dataclass(frozen=True)
class TrainingCost:
    """Of one training, its starts included: means over seeds, but for `least` and `most`."""

    starts: tuple[str, ...]  # the conditions that it starts from, the nearest first
    seconds: float  # on an idle machine, an estimate; of older tables, which lack it, wall seconds
    least: float  # of the fastest seed
    most: float  # of the slowest seed
    wall_s: float
    tokens_trained: float
    tokens_generated: float
    devices: frozenset[str]
    flops: float | None = None  # None where a training of the chain did not count them
    is_estimate: bool = False  # whether `seconds` are of an idle machine
    is_disturbed: bool = False  # whether the machine was busy in any of them


def chain(condition: str, starts: dict[str, str | None]) -> list[str]:
    """A condition and those whose adapters it starts from, the last first; starts: what each starts from."""
    found: list[str] = []
    part: str | None = condition
    while part and part not in found:
        found.append(part)
        part = starts.get(part)
    return found


def idle_or_wall() -> pl.Expr:
    """Seconds on an idle machine of table COSTS, `seconds`; of older tables wall seconds."""
    return pl.coalesce("idle_s", "wall_s").alias("seconds")


def disturbed(costs: pl.DataFrame) -> list[str]:
    """Conditions with a run in which the machine was busy, sorted; costs: table COSTS."""
    return sorted(costs.filter(pl.col("is_disturbed").fill_null(False))["condition"].unique())


def training_costs(costs: pl.DataFrame, starts: dict[str, str | None]) -> dict[str, TrainingCost]:
    """By trained condition, of table COSTS; starts: the condition that each trained one starts from, or None.

    A condition is left out where the costs of a training of its chain are not known.
    """
    trainings = costs.filter(stage="train").with_columns(idle_or_wall())
    own = {(row["condition"], row["seed"]): row for row in trainings.to_dicts()}
    found = {}
    for name in starts:
        parts = chain(name, starts)
        seeds = [seed for condition, seed in own if condition == name]
        if not seeds or any((part, seed) not in own for part in parts for seed in seeds):
            continue
        of_seeds = [[own[part, seed] for part in parts] for seed in seeds]
        every = [row for rows in of_seeds for row in rows]
        sums = [{key: sum(row[key] or 0 for row in rows) for key in SUMMED} for rows in of_seeds]
        mean = {key: sum(of_seed[key] for of_seed in sums) / len(sums) for key in SUMMED}
        counted = [row["flops"] for row in every if row["flops"] is not None]
        found[name] = TrainingCost(
            starts=tuple(parts[1:]),
            seconds=mean["seconds"],
            least=min(of_seed["seconds"] for of_seed in sums),
            most=max(of_seed["seconds"] for of_seed in sums),
            wall_s=mean["wall_s"],
            tokens_trained=mean["n_tokens_trained"],
            tokens_generated=mean["n_tokens_generated"],
            devices=frozenset(row["device"] for row in every),
            flops=sum(counted) / len(seeds) if len(counted) == len(every) else None,
            is_estimate=all(row["idle_s"] is not None for row in every),
            is_disturbed=any(row["is_disturbed"] for row in every),
        )
    return found
