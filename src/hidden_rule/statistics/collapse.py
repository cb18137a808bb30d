"""Did a training by reward give up decisions? A verdict from three signals of its history.

    shares    how often each decision is sampled, against how often it is right in the training split
    entropy   of the policy over the decisions, mean over prompts: whether anything else is still tried
    signal    share of groups whose rewards differ: whether anything else could still be learnt

A decision is *lost* if it is sampled less than LOST times as often as it is right. What is compared is never a bare
share but its exact binomial bound (Clopper & Pearson 1934), over as many of the last steps as it takes for a decision
that is never sampled to be called lost. A prompt counts once, however many answers its group has: those of a sure
policy are copies of each other. A group's share of a decision lies between 0 and 1, and of all such numbers with the
same mean those that are 0 or 1 spread most, so the bound errs on the careful side where a group's answers differ.

    collapsed   a decision was sampled, and is lost for good; or valid replies as a whole
    warn        reasons: what each means stands in REASONS
    pass        neither

A policy that is right passes however sure of itself it is: no entropy and no signal are signs of collapse only beside a
lost decision. How often the verdict errs, measured: docs/statistics.md.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import special

from hidden_rule.core.tables import COLLAPSE
from hidden_rule.statistics.feasibility import NO_SIGNAL

LEVEL = 0.05  # of all bounds of one verdict together: each has its part of it (Bonferroni)
LOST = 0.10  # times as often as it is right: below that fewer than one group of 8 in five holds a decision of four
RARE = 0.50  # times as often as it is right: below that most of the applications that need it cannot get it
WINDOW = 10  # recorded steps that are looked at together, at the least: optimizer steps differ in their prompts
MIN_STEPS = 2 * WINDOW  # recorded steps without which nothing is said, and after which what is lost is not lost lately
FROZEN = 0.05  # of the largest possible entropy: a policy that is 99% sure of one of four decisions has 0.048 of it
NO_VALID = 0.05  # of the replies: below this share of valid ones decisions are too few to speak of
REASONS = {
    "too_short": "fewer than MIN_STEPS recorded steps",
    "no_valid": "hardly a reply is a valid decision, now or before",
    "absent": "decisions were hardly ever sampled, from the first step on",
    "recent": "decisions are lost, but so lately that they may come back: answers vary and groups carry a signal",
    "rare": "decisions are sampled less than RARE times as often as they are right",
    "unsure": "too few answers to tell whether a decision that was not sampled is lost",
    "recovered": "decisions were lost for a while",
    "no_signal": "groups carried next to no signal from the start",
}


def bounds(count, n, level: float) -> tuple[np.ndarray, np.ndarray]:
    """One-sided exact bounds, each at 1 − `level`, of the share that `count` of `n` come from (Clopper & Pearson 1934).

    Counts need not be whole: a group of answers may hold half a decision.
    """
    count, n = np.asarray(count, float), np.asarray(n, float)
    rest = np.maximum(n - count, 0.0)
    low = np.where(count > 0, special.betaincinv(np.maximum(count, 1e-9), rest + 1, level), 0.0)
    high = np.where(rest > 1e-9, special.betaincinv(count + 1, np.maximum(rest, 1e-9), 1 - level), 1.0)
    return low, high


@dataclass(frozen=True)
class Course:
    """A share over the steps of a training, against a limit."""

    share: float | None  # in the last window; None if nothing was counted
    low: float
    high: float
    n: float  # prompts in that window
    lost: bool  # the upper bound is below the limit
    since: int  # row of the first step from which on no window has a share at or above the limit
    was_above: bool  # before that the lower bound was above the limit
    gap: tuple[int, int] | None  # rows between which it was below the limit for a while, above it before and after


def follow(hits: np.ndarray, trials: np.ndarray, limit: float, level: float) -> Course:
    """What became of a share: `hits` (T,) of `trials` (T,) at each recorded step."""
    n_steps = len(hits)

    def windows(level):
        """Width, and counted in each window of that width: wide enough for a share of 0 to be below the limit."""
        needed = np.log(level) / np.log1p(-limit) if 0 < limit < 1 else 0.0
        enough = np.flatnonzero(np.cumsum(trials[::-1]) >= needed)
        width = min(max(WINDOW, enough[0] + 1 if len(enough) else n_steps), max(1, n_steps // 2))
        sums = (np.concatenate([[0.0], np.cumsum(of)]) for of in (hits, trials))
        return (width, *(total[width:] - total[:-width] for total in sums))

    _, count, n = windows(level)
    low, high = bounds(count[-1], n[-1], level)
    shares = np.divide(count, n, out=np.zeros_like(count), where=n > 0)
    above = np.flatnonzero(shares >= limit)
    since = int(above[-1]) + 1 if len(above) else 0
    lost = bool(high < limit)
    gap = None
    if not lost:
        corrected = level / n_steps  # any window may be the one
        span, count_of, n_of = windows(corrected)
        earlier = (np.concatenate([[0.0], np.cumsum(of)[: len(n_of) - 1]]) for of in (hits, trials))
        was_above = bounds(*earlier, corrected)[0] > limit
        below = np.flatnonzero((bounds(count_of, n_of, corrected)[1] < limit) & was_above)
        gap = (int(below[0]), int(below[-1]) + span - 1) if len(below) else None
    return Course(
        share=float(shares[-1]) if n[-1] > 0 else None,
        low=float(low),
        high=float(high),
        n=float(n[-1]),
        lost=lost,
        was_above=bool(bounds(hits[:since].sum(), trials[:since].sum(), level)[0] > limit),
        since=since,
        gap=gap,
    )


def read_signals(history: pl.DataFrame, labels) -> tuple[list[int], np.ndarray, dict[str, np.ndarray]] | None:
    """Steps (T,), shares (T, L) of all replies, and `entropy` and `zero_signal_share` (T,) with NaN where not recorded.

    None if the history has no shares: it is not of a training by reward.
    """
    shares = history.filter(metric="predicted_share").pivot("label", index="step", values="value").sort("step")
    if shares.is_empty():
        return None
    shares = shares.with_columns(pl.lit(0.0).alias(label) for label in labels if label not in shares.columns)
    others = {}
    for metric in ("entropy", "zero_signal_share"):
        rows = history.filter(metric=metric).unique("step", keep="last").select("step", "value")
        values = shares.select("step").join(rows, on="step", how="left", maintain_order="left")["value"]
        others[metric] = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    values = shares.select(pl.col(list(labels)).fill_null(0.0).fill_nan(0.0)).to_numpy()
    return shares["step"].to_list(), np.clip(values, 0.0, 1.0), others


def last_mean(values: np.ndarray) -> float | None:
    """Mean of what was recorded in the last WINDOW steps."""
    values = values[-WINDOW:]
    return None if np.isnan(values).all() else float(np.nanmean(values))


def judge(history: pl.DataFrame, truth: dict[str, float], prompts: int, of_decisions: bool = True) -> dict | None:
    """The verdict on one training, or None if it was not by reward.

    truth: share of each label in the training split; prompts: of an optimizer step; of_decisions: the entropy is that
    over the decisions (structured decoding); under free decoding it is one of tokens, and says nothing here.

    Returns `verdict`, `reasons`, `since` (step, or None), `entropy`, `zero_signal_share` (means over the last WINDOW
    steps), `n_steps`, and `labels`: for each label the columns of COLLAPSE from `label` on. A decision that is never
    right in the training split is `unneeded`.
    """
    signals = read_signals(history, truth)
    if signals is None:
        return None
    steps, shares, others = signals
    needed = [label for label in truth if truth[label] > 0]
    level = LEVEL / max(1, len(needed))
    valid = np.minimum(shares.sum(1), 1.0) * prompts
    found = {"verdict": "pass", "reasons": [], "since": None, "n_steps": len(steps)}
    found |= {name: last_mean(values) for name, values in others.items()}
    frozen = of_decisions and found["entropy"] is not None and found["entropy"] < FROZEN * np.log(len(truth))
    silent = is_silent(others["zero_signal_share"][-WINDOW:], prompts)
    found["labels"], lost = [], []
    for i, label in enumerate(truth):
        row = {"label": label, "true_share": truth[label], "fate": "unneeded", "since": None}
        course = follow(shares[:, i] * prompts, valid, LOST * truth[label], level)
        row |= {"share": course.share, "low": course.low, "high": course.high, "n": course.n}
        row |= {"gap_from": None, "gap_to": None}
        if label in needed:
            row["fate"] = fate_of(course, truth[label])
            if course.lost:
                row["since"] = steps[course.since]
            if course.lost and course.was_above:
                lost.append(len(steps) - course.since >= MIN_STEPS or frozen or silent)
            if course.gap:
                row |= {"gap_from": steps[course.gap[0]], "gap_to": steps[course.gap[1]]}
        found["labels"].append(row)
    of_replies = follow(valid, np.full(len(steps), float(prompts)), NO_VALID, LEVEL)
    too_short = len(steps) < MIN_STEPS
    if too_short or of_replies.lost:  # nothing to tell decisions by
        for row in found["labels"]:
            row |= {"fate": "unsure", "since": None, "gap_from": None, "gap_to": None}
    if too_short:
        return found | {"verdict": "warn", "reasons": ["too_short"]}
    if of_replies.lost:
        since = steps[of_replies.since] if of_replies.was_above else None
        return found | {
            "verdict": "collapsed" if of_replies.was_above else "warn",
            "reasons": ["no_valid"],
            "since": since,
        }
    fates = [row["fate"] for row in found["labels"]]
    reasons = {
        "recent": bool(lost) and not any(lost),
        **{fate: fate in fates for fate in ("absent", "rare", "unsure")},
        "recovered": any(row["gap_from"] is not None for row in found["labels"]),
        "no_signal": is_silent(others["zero_signal_share"][:WINDOW], prompts),
    }
    found["reasons"] = [reason for reason, holds in reasons.items() if holds]
    if any(lost):
        found["verdict"] = "collapsed"
        found["since"] = max(row["since"] for row in found["labels"] if row["fate"] == "lost")
    elif found["reasons"]:
        found["verdict"] = "warn"
    return found


def fate_of(course: Course, true_share: float) -> str:
    """What became of a decision that is right for `true_share` of the applications."""
    if course.lost:
        return "lost" if course.was_above else "absent"
    if course.high < RARE * true_share:
        return "rare"
    return "unsure" if course.share is None or course.share < LOST * true_share else "kept"


def is_silent(zero_signal: np.ndarray, prompts: int) -> bool:
    """Whether groups carry next to no signal: the upper bound of the share of groups that do is below NO_SIGNAL."""
    zero_signal = zero_signal[~np.isnan(zero_signal)]
    n = len(zero_signal) * prompts
    return n > 0 and bool(bounds((1 - zero_signal).sum() * prompts, n, LEVEL)[1] < NO_SIGNAL)


def judge_all(histories, trained, truth: dict[str, float], prompts: dict[str, int], of_decisions=True) -> pl.DataFrame:
    """Table COLLAPSE: `judge` of each history; trained: [condition, seed, …] of each; prompts: of each condition."""
    rows = []
    for history, (condition, seed, *_) in zip(histories, trained, strict=True):
        found = judge(history, truth, prompts[condition], of_decisions)
        if found is None:
            continue
        of_training = {key: found[key] for key in ("verdict", "reasons", "n_steps", "entropy", "zero_signal_share")}
        of_training |= {"condition": condition, "seed": seed, "collapsed_since": found["since"]}
        rows += [of_training | row for row in found["labels"]]
    return pl.DataFrame(rows, schema=COLLAPSE)
