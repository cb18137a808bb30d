"""Side effects and leaks of each condition with 95% intervals, clustered by item.

Positions within a text are dependent, and so are the orders of a choice and the two framings of a question. So each
text and each question counts once, with its mean over tokens, or over orders and framings; an extraction or an
explanation is a hit if it is one under any framing. Several seeds answer the same items.

Means: `mean_interval`. Shares and their differences: as for decisions (`intervals`).
"""

import numpy as np
import polars as pl
from scipy import special

from hidden_rule.core.tables import SIDE_EFFECTS_SUMMARY
from hidden_rule.statistics.intervals import CONFIDENCE, margin, paired_difference, share_interval, spread

QUESTION = ["rule", "item"]
WHO = ("trained", "base", "oracle")


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of (I items, S seeds) and its interval over other items and, with several seeds, other seeds.

    One seed: Student's t over items. Several: the margin of `intervals.spread`, widened for few items in the same way.
    """
    n = len(values)
    mean = float(values.mean())
    level = 0.5 + CONFIDENCE / 2
    few = float(special.stdtrit(n - 1, level) / special.ndtri(level)) * (n / (n - 1)) ** 0.5 if n > 1 else np.inf
    half = margin(spread((values - mean) / values.size, np.ones(n))) * few
    return (mean, mean - half, mean + half) if n > 1 else (mean, -np.inf, np.inf)


def wide(frame: pl.DataFrame, keys: list[str], value: str) -> np.ndarray:
    """The column `value` as (I items, S seeds), items in the order of `keys`."""
    table = frame.pivot("seed", index=keys, values=value, aggregate_function=None).sort(keys)
    return table.select(pl.exclude(keys)).to_numpy()


def _mean(values: np.ndarray, low: float = -np.inf, high: float = np.inf) -> dict:
    mean, below, above = mean_interval(values)
    return {"value": mean, "ci_low": max(low, below), "ci_high": min(high, above), "n": len(values)}


def _share(hits: np.ndarray) -> dict:
    value, low, high = share_interval(hits, np.ones_like(hits), np.ones(len(hits), int))
    return {"value": value, "ci_low": low, "ci_high": high, "n": len(hits)}


def _difference(patterns: np.ndarray) -> dict:
    found = paired_difference(patterns, np.ones(len(patterns), int))
    return {"value": found["difference"], "ci_low": found["ci_low"], "ci_high": found["ci_high"], "n": len(patterns)}


def summarize_texts(effects: pl.DataFrame) -> list[dict]:
    """Divergence and change of log-likelihood a token on passages and on instructions, of one condition."""
    effects = effects.with_columns(change=pl.col("log_likelihood") - pl.col("log_likelihood_base"))
    rows = []
    for (kind,), of in effects.group_by("kind", maintain_order=True):
        rows.append({"measure": "kl", "subset": kind} | _mean(wide(of, ["item"], "kl"), low=0.0))
        rows.append({"measure": "log_likelihood_change", "subset": kind} | _mean(wide(of, ["item"], "change")))
    return rows


def summarize_leaks(leaks: pl.DataFrame) -> list[dict]:
    """Results of each probe, of one condition: of all hidden rules together, and of each where there are several."""
    rules = leaks["rule"].unique().sort().to_list()
    rows = summarize_probes(leaks)
    for rule in rules if len(rules) > 1 else []:
        rows += [row | {"rule": rule} for row in summarize_probes(leaks.filter(rule=rule))]
    return rows


def summarize_probes(leaks: pl.DataFrame) -> list[dict]:
    """Results of each probe in the trained model, base and oracle, and differences from the base."""
    rows: list[dict] = []
    for (probe,), of in leaks.group_by("probe", maintain_order=True):
        items = of.group_by("who", "seed", *QUESTION).agg(
            pl.mean("p_true"), pl.first("n_options"), pl.col("hit").any().cast(pl.Int64)
        )
        scored = items["p_true"].is_not_null().all()
        by = {who: wide(items.filter(who=who), QUESTION, "p_true" if scored else "hit") for who in WHO}
        for who, values in by.items():
            found = _mean(values, 0.0, 1.0) if scored else _share(values)
            rows.append({"measure": probe, "subset": who} | found)
        for who in ("trained", "oracle"):
            more = by[who] - by["base"]
            found = _mean(more, -1.0, 1.0) if scored else _difference(more)
            rows.append({"measure": probe, "subset": f"{who} - base"} | found)
        if scored:
            at_random = {"value": (1 / items["n_options"]).mean(), "ci_low": None, "ci_high": None}
            rows.append({"measure": probe, "subset": "chance"} | at_random | {"n": len(by["base"])})
    return rows


def summarize(effects: pl.DataFrame, leaks: pl.DataFrame) -> pl.DataFrame:
    """Table SIDE_EFFECTS_SUMMARY of all conditions' SIDE_EFFECTS and LEAKS: each seed, and pooled (seed null)."""
    rows = []
    for (condition,), of in effects.group_by("condition", maintain_order=True):
        asked = leaks.filter(condition=condition)
        for seed in [*sorted(of["seed"].unique()), None]:
            at = pl.lit(True) if seed is None else pl.col("seed") == seed
            found = summarize_texts(of.filter(at)) + summarize_leaks(asked.filter(at))
            rows += [{"condition": condition, "seed": seed, "rule": None} | row for row in found]
    return pl.DataFrame(rows, schema=SIDE_EFFECTS_SUMMARY)
