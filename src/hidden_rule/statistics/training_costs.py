"""What a condition's training costs: its own, and that of each condition that it starts from, under the same seed."""

from dataclasses import dataclass

import polars as pl

SUMMED = ("wall_s", "n_tokens_trained", "n_tokens_generated")


@dataclass(frozen=True)
class TrainingCost:
    """Of one training, its starts included: means over seeds, but for `least` and `most`."""

    starts: tuple[str, ...]  # the conditions that it starts from, the nearest first
    seconds: float
    least: float  # seconds of the fastest seed
    most: float  # seconds of the slowest seed
    tokens_trained: float
    tokens_generated: float
    devices: frozenset[str]


def chain(condition: str, starts: dict[str, str | None]) -> list[str]:
    """A condition and those whose adapters it starts from, the last first; starts: what each starts from."""
    found: list[str] = []
    part: str | None = condition
    while part and part not in found:
        found.append(part)
        part = starts.get(part)
    return found


def training_costs(costs: pl.DataFrame, starts: dict[str, str | None]) -> dict[str, TrainingCost]:
    """By trained condition, of table COSTS; starts: the condition that each trained one starts from, or None.

    A condition is left out where the costs of a training of its chain are not known.
    """
    own = {(row["condition"], row["seed"]): row for row in costs.filter(stage="train").to_dicts()}
    found = {}
    for name in starts:
        parts = chain(name, starts)
        seeds = [seed for condition, seed in own if condition == name]
        if not seeds or any((part, seed) not in own for part in parts for seed in seeds):
            continue
        sums = [{key: sum(own[part, seed][key] or 0 for part in parts) for key in SUMMED} for seed in seeds]
        mean = {key: sum(of_seed[key] for of_seed in sums) / len(sums) for key in SUMMED}
        found[name] = TrainingCost(
            starts=tuple(parts[1:]),
            seconds=mean["wall_s"],
            least=min(of_seed["wall_s"] for of_seed in sums),
            most=max(of_seed["wall_s"] for of_seed in sums),
            tokens_trained=mean["n_tokens_trained"],
            tokens_generated=mean["n_tokens_generated"],
            devices=frozenset(own[part, seed]["device"] for part in parts for seed in seeds),
        )
    return found
