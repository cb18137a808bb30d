"""Error rates of the search for rules, in simulated files of known truth: `python bench/rule_search.py`.

Files without a hidden rule, in which only chance departs from what is stated, and FinCorp's, in which the founder rule
is hidden. Each try draws its cases anew, and its wrong labels.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from hidden_rule.core.files import write_text
from hidden_rule.statistics.rule_search import find_rules, overlap
from hidden_rule.statistics.selectors import holds
from hidden_rule.task.cases.own import CaseSettings, read_own_cases
from hidden_rule.task.cases.splits import SplitSettings
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import load_ruleset
from measure import ROOT

FINCORP = load_ruleset(ROOT / "rulesets" / "fincorp.yaml")
NOTHING_HIDDEN = replace(FINCORP, rules=tuple(rule for rule in FINCORP.rules if not rule.hidden))
NOTHING_STATED = replace(FINCORP, rules=(), default=None)
(FOUNDERS,) = FINCORP.hidden_rules
CHECKED = 5000  # new cases on which a rule that was found is compared with the right one
PUBLISHED = ROOT / "results" / "published" / "rule-search.json"


def balanced(ruleset, n: int, seed: int) -> pl.DataFrame:
    """Cases drawn as those of a training split."""
    return draw_splits(ruleset, {"train": n, "validation": 4, "test": 4, "holdout": 4}, seed)["train"]


def natural(ruleset, n: int, seed: int) -> pl.DataFrame:
    """Cases as frequent as the ruleset makes them."""
    return ruleset.decide(ruleset.draw(n, np.random.default_rng([seed, 0])))


def with_wrong_labels(cases: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """A share of the labels replaced by another one, by chance."""
    rng = np.random.default_rng([seed, 1])
    wrong = [rng.choice([other for other in FINCORP.labels if other != label]) for label in cases["label"]]
    is_wrong = pl.Series(rng.random(len(cases)) < share)
    return cases.with_columns(label=pl.when(is_wrong).then(pl.Series(wrong)).otherwise("label"))


def by_chance(cases: pl.DataFrame, labels: pl.Series) -> pl.DataFrame:
    """Cases with other labels, about which nothing is stated."""
    return cases.with_columns(labels.alias("label"), pl.lit(None, dtype=pl.String).alias("label_without_hidden"))


def coins(seed: int) -> pl.DataFrame:
    """300 cases of which each has one of three labels, at 60, 30 and 10%, whatever its features."""
    labels = np.random.default_rng([seed, 2]).choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    return by_chance(natural(NOTHING_STATED, 300, seed), pl.Series(labels))


def example_cases() -> tuple[pl.DataFrame, object]:
    """The cases of the example file of past decisions, and their ruleset."""
    sizes = {"train": 2900, "validation": 20, "test": 20, "holdout": 60}
    path = str(ROOT / "examples" / "claims.csv")
    own = read_own_cases(CaseSettings(path, "decision", SplitSettings(sizes, frozenset(sizes), seed=0)))
    return pl.concat(own.splits.values()), own.ruleset


def shuffled_example(seed: int, cases: pl.DataFrame) -> pl.DataFrame:
    """1,000 of the example's cases with the decisions of others."""
    chosen = cases.sample(1000, seed=seed, shuffle=True)
    return by_chance(chosen, chosen["label"].shuffle(seed=seed + 1))


@dataclass(frozen=True)
class World:
    """Files of one kind: how many are tried, what is in them, and the ruleset that is stated."""

    name: str
    has_rule: bool
    tries: int
    ruleset: object
    cases: Callable[[int], pl.DataFrame]


def worlds() -> list[World]:
    """Those without a rule first: 1,000 tries in all."""
    example, example_ruleset = example_cases()
    nothing, fincorp = NOTHING_HIDDEN, FINCORP

    def noisy(draw, ruleset, n, share):
        return lambda seed: with_wrong_labels(draw(ruleset, n, seed), share, seed)

    return [
        World("200 cases, 10% wrong labels", False, 250, nothing, noisy(balanced, nothing, 200, 0.1)),
        World("500 cases, 20% wrong labels", False, 250, nothing, noisy(natural, nothing, 500, 0.2)),
        World("300 cases, nothing stated, labels by chance", False, 250, NOTHING_STATED, coins),
        World(
            "1,000 claims of the example file, nothing stated, decisions shuffled",
            *(False, 250, example_ruleset, lambda seed: shuffled_example(seed, example)),
        ),
        World("100 cases", True, 100, fincorp, noisy(balanced, fincorp, 100, 0.0)),
        World("100 cases, 10% wrong labels", True, 100, fincorp, noisy(balanced, fincorp, 100, 0.1)),
        World("200 cases, 10% wrong labels", True, 100, fincorp, noisy(balanced, fincorp, 200, 0.1)),
    ]


def tried(world: World, tries: int, first_seed: int) -> dict:
    """What the search proposes in each try: how often anything, how often exactly the hidden rule and nothing else."""
    new = FINCORP.draw(CHECKED, np.random.default_rng(99))
    right = holds(FOUNDERS.when, new).to_numpy()
    n_proposed, overlaps, start = 0, [], time.process_time()
    for seed in range(first_seed, first_seed + tries):
        found = find_rules(world.cases(seed), world.ruleset, seed).filter(kind="rule", verdict="proposed")
        n_proposed += len(found) > 0
        if world.has_rule:
            of_label = found.filter(label=FOUNDERS.label)["when"]
            one = overlap(holds(of_label[0], new).to_numpy(), right) if len(found) == len(of_label) == 1 else 0.0
            overlaps.append(float(one))
    return {
        "world": world.name,
        "has_rule": world.has_rule,
        "tries": tries,
        "n_proposed": n_proposed,
        "n_exact": sum(one == 1 for one in overlaps) if world.has_rule else None,
        "mean_overlap": float(np.mean(overlaps)) if overlaps else None,
        "cpu_s": (time.process_time() - start) / tries,
    }


def main() -> None:
    """Try every world, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, help="of each world, instead of its own number")
    parser.add_argument("--seed", type=int, default=1000, help="of the first try; others follow")
    parser.add_argument("--output", type=Path, default=PUBLISHED)
    options = parser.parse_args()
    results = []
    for world in worlds():
        results.append(tried(world, options.tries or world.tries, options.seed))
        print(json.dumps(results[-1]), flush=True)
    write_text(json.dumps({"first_seed": options.seed, "worlds": results}, indent=1) + "\n", options.output)


if __name__ == "__main__":
    main()
