"""Do 95% intervals cover 95%, and do tests keep their level? On simulated worlds of which the truth is known.

    python bench/simulate.py [--worlds 5000] [--only NAME …]     # some twelve minutes on two cores

Prints its tables and writes them into docs/statistics.md, between two comments. The functions of
`hidden_rule.statistics` are called as the pipeline calls them, a world at a time. The error rates of the verdict on
collapse are measured too, on the histories of `histories.py`.

A world: an answer of condition c to application i after training with seed s is correct with log-odds
m + 1.5 u_i + σ v_cs + 0.7 w_cis, all of u, v, w standard normal; m is chosen so that the expected accuracy is the
planted one. Two conditions' u_i correlate at 0.8. σ is the seeds' standard deviation. In suites the u_i of one family
correlate at 0.7.
"""

import argparse
import functools
import itertools
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats
from scipy.special import expit

import histories
from hidden_rule.statistics.intervals import effective_rows, holm, paired_difference, share_interval, spread, wilson
from hidden_rule.statistics.metrics import macro_f1
from hidden_rule.statistics.suites_comparisons import difference_of_shares

ROOT = Path(__file__).resolve().parents[1]
WORLDS = 5000
ITEM, NOISE, SHARED, WITHIN = 1.5, 0.7, 0.8, 0.7
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
BATCH = 2_000_000  # answers held at a time


class Design(NamedTuple):
    """An evaluation: applications, training seeds, and the seeds' standard deviation in log-odds."""

    n: int
    n_seeds: int
    sigma: float


class SuiteDesign(NamedTuple):
    """A suite: families, rows in each, training seeds, and the seeds' standard deviation in log-odds."""

    families: int
    members: int
    n_seeds: int
    sigma: float


DESIGNS = [
    Design(n, s, sigma) for n in (160, 1000) for s in (1, 3, 5, 10) for sigma in ((0.0,) if s == 1 else (0, 0.3, 1.0))
]
SUITES = [
    SuiteDesign(families, members, s, 0.3 * (s > 1))
    for families, members in ((10, 2), (40, 1), (40, 2), (40, 3), (100, 3))
    for s in (1, 3, 5)
]


@functools.cache
def centre(accuracy: float, sigma: float) -> float:
    """The m of the module's docstring: the mean of expit(m + sd · normal) is `accuracy`."""
    sd = (ITEM**2 + sigma**2 + NOISE**2) ** 0.5
    return optimize.brentq(lambda m: expit(m + sd * NODES) @ WEIGHTS / WEIGHTS.sum() - accuracy, -40, 40)


def worlds(accuracies, design: Design, n_worlds: int, members: int = 1):
    """Yield `n_worlds` arrays (conditions, n, n_seeds) of zeros and ones: which answers are correct.

    With `members` above 1 each so many rows are a family.
    """
    n, n_seeds, sigma = design
    generator = np.random.default_rng(0)
    normal = functools.partial(generator.standard_normal, dtype=np.float32)
    c = len(accuracies)
    size = max(1, BATCH // (c * n * n_seeds))
    m = np.array([centre(a, sigma) for a in accuracies], np.float32).reshape(1, c, 1, 1)
    for first in range(0, n_worlds, size):
        b = min(size, n_worlds - first)
        items = SHARED**0.5 * normal((b, 1, n, 1)) + (1 - SHARED) ** 0.5 * normal((b, c, n, 1))
        if members > 1:
            families = SHARED**0.5 * normal((b, 1, n // members, 1))
            families = families + (1 - SHARED) ** 0.5 * normal((b, c, n // members, 1))
            items = WITHIN**0.5 * families.repeat(members, axis=2) + (1 - WITHIN) ** 0.5 * items
        logit = m + ITEM * items + np.float32(sigma) * normal((b, c, 1, n_seeds))
        logit = logit + NOISE * normal((b, c, n, n_seeds))
        yield from (generator.random(logit.shape, dtype=np.float32) < expit(logit)).astype(np.int64)


def cover(intervals, truth: float) -> float:
    """Share of (low, high) that hold the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def accuracy_coverage(accuracy: float, design: Design, n_worlds: int) -> float:
    """Coverage of the pooled accuracy's interval."""
    ones, counts = np.ones((design.n, design.n_seeds), np.int64), np.ones(design.n, np.int64)
    hits = worlds([accuracy], design, n_worlds)
    return cover((share_interval(world[0], ones, counts)[1:] for world in hits), accuracy)


def comparisons(accuracies, design: Design, n_worlds: int):
    """Yield in each world the comparison of each pair of conditions."""
    counts, pairs = np.ones(design.n, np.int64), np.triu_indices(len(accuracies), 1)
    for world in worlds(accuracies, design, n_worlds):
        yield [paired_difference(world[a] - world[b], counts) for a, b in zip(*pairs, strict=True)]


def difference_coverage(accuracies, design: Design, n_worlds: int) -> tuple[float, float]:
    """Coverage of the pooled difference's interval, and the share of p-values below 5%."""
    rows = [row for (row,) in comparisons(accuracies, design, n_worlds)]
    covered = cover([(row["ci_low"], row["ci_high"]) for row in rows], accuracies[0] - accuracies[1])
    return covered, float(np.mean([row["p_value"] < 0.05 for row in rows]))


def suite_differences(accuracies, suite: SuiteDesign, n_worlds: int):
    """Yield in each world the comparison on a suite of each pair of conditions."""
    n = suite.families * suite.members
    ones, starts = np.ones((n, suite.n_seeds), np.int64), np.arange(0, n, suite.members)
    pairs = list(itertools.combinations(range(len(accuracies)), 2))
    for world in worlds(accuracies, Design(n, suite.n_seeds, suite.sigma), n_worlds, suite.members):
        yield [difference_of_shares((world[a], ones), (world[b], ones), starts, len(pairs)) for a, b in pairs]


def suite_coverage(accuracies, suite: SuiteDesign, n_worlds: int) -> tuple[float, float]:
    """Coverage of a suite's difference, and the share of p-values below 5%."""
    rows = [row for (row,) in suite_differences(accuracies, suite, n_worlds)]
    covered = cover([(row["ci_low"], row["ci_high"]) for row in rows], accuracies[0] - accuracies[1])
    return covered, float(np.mean([row["p_value"] < 0.05 for row in rows]))


def family_errors(accuracy: float, design: Design, n_worlds: int) -> tuple[float, float, float]:
    """Four conditions that do not differ: how often the first pair's p-value is below 5%, any of six, any by Holm."""
    p = np.array([[row["p_value"] for row in six] for six in comparisons([accuracy] * 4, design, n_worlds)])
    adjusted = np.array([holm(row).min() for row in p])
    return tuple(float((of < 0.05).mean()) for of in (p[:, 0], p.min(1), adjusted))


def power_at_mde(accuracy: float, design: Design, n_worlds: int) -> tuple[float, float]:
    """The difference that equals its own mean minimal detectable effect, and how often it is called significant."""
    effect = 0.1
    for _ in range(4):
        pilot = comparisons([accuracy + effect, accuracy], design, 300)
        effect = min(float(np.mean([row["mde"] for (row,) in pilot])), 0.97 - accuracy)
    return effect, difference_coverage([accuracy + effect, accuracy], design, n_worlds)[1]


def macro_f1_coverage(accuracy: float, design: Design, n_worlds: int) -> float:
    """Coverage of macro-F1's interval: four labels equally likely, a wrong answer is any other; macro-F1 = accuracy."""
    generator = np.random.default_rng(1)
    truth, predicted = np.divmod(np.arange(16), 4)
    masks = [((truth == x) & (predicted == x), (truth == x) | (predicted == x)) for x in range(4)]
    masks = [(hits.astype(int), counted.astype(int)) for hits, counted in masks]
    intervals = []
    for world in worlds([accuracy], design, n_worlds):
        labels = generator.integers(4, size=(design.n, 1))
        other = (labels + generator.integers(1, 4, size=(design.n, design.n_seeds))) % 4
        cells = 4 * labels + np.where(world[0] == 1, labels, other)
        value, moves = macro_f1(np.bincount(cells.ravel(), minlength=16).astype(float), masks)
        intervals.append(wilson(value, effective_rows(value, moves[cells], np.ones(design.n))))
    return cover(intervals, accuracy)


def bootstrap_intervals(hits: np.ndarray, n_drawn: int, n_resamples: int = 1000) -> np.ndarray:
    """(W, 2) percentile intervals of (W, n, S) hits: applications and `n_drawn` seeds drawn with replacement.

    All worlds share one set of draws, which costs no generality: they are independent of each other.
    """
    n_worlds, n, n_seeds = hits.shape
    generator = np.random.default_rng(2)
    items = generator.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
    seeds = generator.multinomial(n_drawn, np.full(n_seeds, 1 / n_seeds), size=n_resamples) / n_drawn
    means = (items @ hits.transpose(1, 0, 2).reshape(n, -1)).reshape(n_resamples, n_worlds, n_seeds)
    return np.quantile(np.einsum("rws,rs->rw", means, seeds), [0.025, 0.975], axis=0).T


def alternatives(accuracy: float, design: Design, n_worlds: int) -> dict[str, float]:
    """Coverage of an accuracy by other methods, on the same worlds."""
    hits = np.array([world[0] for world in worlds([accuracy], design, n_worlds)])
    shares, counts, n_seeds = hits.mean((1, 2)), np.ones(design.n), design.n_seeds
    found = [spread((world - share) / world.size, counts) for world, share in zip(hits, shares, strict=True)]
    error = np.array([of.error for of in found])
    satterthwaite = (n_seeds - 1) / np.maximum([of.uncertain for of in found], 1e-6) ** 2
    quantiles = {
        "z": 1.96,
        "t with S − 1": stats.t.ppf(0.975, n_seeds - 1),
        "t, Satterthwaite": stats.t.ppf(0.975, satterthwaite),
    }
    covered = {"ours": accuracy_coverage(accuracy, design, n_worlds)}
    covered |= {name: float(np.mean(abs(shares - accuracy) <= q * error)) for name, q in quantiles.items()}
    for name, n_drawn in {"bootstrap of S seeds": n_seeds, "of S − 1 seeds": n_seeds - 1}.items():
        intervals = [bootstrap_intervals(some, n_drawn) for some in np.array_split(hits, 50)]
        covered[name] = cover(np.concatenate(intervals), accuracy)
    return covered


def table(heading: str, columns: list[str], rows) -> str:
    """A Markdown table under its heading, cells as text."""
    lines = [f"### {heading}", "", f"| {' | '.join(columns)} |", f"|{' ---: |' * len(columns)}"]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows])


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def each(measure, cells: list[tuple], n_worlds: int) -> list:
    """`measure` of each cell (truth, and a design), as many at a time as there are cores."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(measure, *zip(*cells, strict=True), [n_worlds] * len(cells)))


def of_designs(heading: str, over: dict, measure, n_worlds: int) -> str:
    """A table with a row for each design and a column for each planted truth."""
    shares = iter(each(measure, [(truth, design) for design in DESIGNS for truth in over.values()], n_worlds))
    rows = [[*design, *(percent(next(shares)) for _ in over)] for design in DESIGNS]
    return table(heading, ["cases", "seeds", "σ", *over], rows)


def accuracy_table(n_worlds: int) -> str:
    over = {str(a): a for a in (0.25, 0.6, 0.9, 0.98)}
    return of_designs("Accuracy: coverage in percent, by planted accuracy", over, accuracy_coverage, n_worlds)


def covered_difference(*cell) -> float:
    return difference_coverage(*cell)[0]


def difference_table(n_worlds: int) -> str:
    pairs = [(0.6, 0.25), (0.6, 0.6), (0.9, 0.9), (0.98, 0.9), (0.98, 0.98)]
    over = {f"{a} − {b}": (a, b) for a, b in pairs}
    heading = "Difference of two conditions: coverage in percent, by planted accuracies"
    return of_designs(heading, over, covered_difference, n_worlds)


def macro_f1_table(n_worlds: int) -> str:
    over = {str(a): a for a in (0.25, 0.6, 0.9, 0.98)}
    heading = "Macro-F1 of four labels: coverage in percent, by planted value"
    return of_designs(heading, over, macro_f1_coverage, n_worlds)


def error_table(n_worlds: int) -> str:
    cells = [(accuracy, design) for design in DESIGNS for accuracy in (0.6, 0.9)]
    rows = []
    for (accuracy, design), found in zip(cells, each(family_errors, cells, n_worlds), strict=True):
        rows.append([*design, accuracy, "exact McNemar" if design.n_seeds == 1 else "t", *map(percent, found)])
    columns = ["cases", "seeds", "σ", "accuracy", "test", "one pair", "any of 6 pairs", "any of 6, Holm"]
    return table("Type I error at a nominal 5%, in percent of worlds", columns, rows)


def suites_table(n_worlds: int) -> str:
    pairs = [(0.6, 0.25), (0.6, 0.6), (0.9, 0.9), (0.98, 0.98)]
    cells = [(pair, design) for design in SUITES for pair in pairs]
    found = iter(each(suite_coverage, cells, n_worlds))
    rows = []
    for design in SUITES:
        covered, significant = zip(*(next(found) for _ in pairs), strict=True)
        rows.append([*design, *map(percent, covered), *map(percent, significant[1:])])
    shown = [f"{a} − {b}" for a, b in pairs]
    columns = ["families", "rows each", "seeds", "σ", *shown, *(f"{pair}: significant" for pair in shown[1:])]
    return table("Difference on a suite: coverage and type I error in percent", columns, rows)


def power_table(n_worlds: int) -> str:
    found = each(power_at_mde, [(0.5, design) for design in DESIGNS], n_worlds)
    rows = [[*design, *map(percent, row)] for design, row in zip(DESIGNS, found, strict=True)]
    columns = ["cases", "seeds", "σ", "minimum detectable effect, points", "called significant, %"]
    return table(
        "Power at a true difference of the minimum detectable effect, from 50% (at most 47 points)", columns, rows
    )


def alternatives_table(n_worlds: int) -> str:
    designs = [design for design in DESIGNS if design.n == 160 and design.n_seeds > 1]
    measured = each(alternatives, [(0.6, design) for design in designs], n_worlds)
    rows = [[*design, *map(percent, row.values())] for design, row in zip(designs, measured, strict=True)]
    return table("Other methods: coverage of an accuracy of 60%", ["cases", "seeds", "σ", *measured[0]], rows)


def collapse_table(n_worlds: int) -> str:
    cells = [(name, *design) for design in histories.DESIGNS for name in histories.NULLS | histories.PLANTED]
    rows = []
    for (name, *design), of in zip(cells, each(histories.rates, cells, n_worlds), strict=True):
        planted = name in histories.PLANTED
        named = percent(of["named"]) if planted else "–"
        shares = [percent(of[verdict]) for verdict in ("pass", "warn", "collapsed")]
        rows.append(["planted" if planted else "null", name, *design, *shares, named])
    columns = [
        "",
        "history",
        "steps",
        "prompts",
        "completions",
        "pass",
        "warn",
        "collapsed",
        "remaining labels named correctly",
    ]
    return table("Collapse: verdicts in percent of histories", columns, rows)


PARTS = {
    "accuracy": accuracy_table,
    "difference": difference_table,
    "errors": error_table,
    "suites": suites_table,
    "power": power_table,
    "macro_f1": macro_f1_table,
    "alternatives": alternatives_table,
    "collapse": collapse_table,
}
MOST = {"collapse": 300}  # worlds of a part that is slow: rates near 0 and 100% need no more


def main(n_worlds: int, only: list[str]) -> None:
    page = ROOT / "docs" / "statistics.md"
    for part in only:
        began = time.perf_counter()
        n = min(n_worlds, MOST.get(part, n_worlds))
        made = f"{PARTS[part](n)}\n\n{n:,} worlds a cell."
        print(f"{made}\n\n{part}: {time.perf_counter() - began:.0f} s\n", flush=True)
        begin, end = f"<!-- generated by bench/simulate.py: {part} -->", f"<!-- end of {part} -->"
        inserted = f"{begin}\n{made}\n{end}"
        text = page.read_text(encoding="utf-8")
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{page} has no part between {begin} and {end}")
        page.write_text(pattern.sub(lambda _, inserted=inserted: inserted, text), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    chosen = parser.parse_args()
    main(chosen.worlds, chosen.only)
