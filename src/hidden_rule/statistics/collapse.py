"""Did an RL training give up decisions (mode collapse)? A verdict from three signals of its history.

    shares    how often each decision is sampled, against how often it is the right one in the training split
    entropy   of the policy over the decisions, mean over prompts: are other decisions still explored?
    signal    share of groups whose rewards differ: is there still a gradient?

A decision is *lost* if it is sampled less than LOST times as often as it is right. The comparison uses the exact
binomial bound of the share (Clopper & Pearson 1934), not the share itself, over as many of the last steps as it takes
for a decision that is never sampled to count as lost. A prompt counts once, however large its group is, because the
answers of a confident policy repeat each other. A group's share of a decision lies between 0 and 1; of all such
variables with a given mean, those that are 0 or 1 have the largest variance, so the bound is conservative where a
group's answers differ.

    collapsed   a decision, or valid replies as a whole, was sampled before and is lost for good
    warn        reasons: see REASONS
    pass        neither

A correct policy passes however confident it is: low entropy and a lack of signal indicate collapse only beside a lost
decision. Error rates of the verdict, measured on simulated histories: docs/statistics.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import special

from hidden_rule.core.tables import COLLAPSE
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.feasibility import NO_SIGNAL

LEVEL = 0.05  # of all bounds of one verdict together, divided among them (Bonferroni)
LOST = 0.10  # times as often as it is right: below that less than one group of 8 in five has one decision of four
RARE = 0.50  # times as often as it is right: below that most applications that need it cannot get it
WINDOW = 10  # least number of recorded steps in a window: optimizer steps differ in their prompts
MIN_STEPS = 2 * WINDOW  # recorded steps that a verdict needs, and after which a loss is no longer recent
FROZEN = 0.05  # of the maximum entropy: a policy that gives one of four decisions a probability of 99% has 0.048 of it
NO_VALID = 0.05  # of the replies: below this share of valid ones there are too few decisions to judge
REASONS = {
    "too_short": "fewer than MIN_STEPS recorded steps",
    "no_valid": "hardly any reply is a valid decision, now or before",
    "absent": "decisions were hardly ever sampled, from the first step on",
    "recent": "decisions were lost recently and may come back: answers still vary and groups still differ in reward",
    "rare": "decisions are sampled less than RARE times as often as they are right",
    "unsure": "too few answers to decide whether a decision that was not sampled is lost",
    "recovered": "decisions were lost for a while",
    "no_signal": "hardly any group differed in reward from the start",
}


def bounds(count, n, level: float) -> tuple[np.ndarray, np.ndarray]:
    """One-sided exact bounds, each at 1 − `level`, of the share behind `count` of `n` (Clopper & Pearson 1934).

    Counts need not be whole numbers: half of a group's answers may be one decision.
    """
    count, n = np.asarray(count, float), np.asarray(n, float)
    rest = np.maximum(n - count, 0.0)
    low = np.where(count > 0, special.betaincinv(np.maximum(count, 1e-9), rest + 1, level), 0.0)
    high = np.where(rest > 1e-9, special.betaincinv(count + 1, np.maximum(rest, 1e-9), 1 - level), 1.0)
    return low, high


@dataclass(frozen=True)
class ShareTrend:
    """A share over the steps of a training, against a limit."""

    share: float | None  # in the last window; None if nothing was counted
    low: float
    high: float
    n: float  # prompts in that window
    lost: bool  # the upper bound is below the limit
    since: int  # row of the first step from which on no window has a share at or above the limit
    was_above: bool  # before that the lower bound was above the limit
    gap: tuple[int, int] | None  # rows between which it was below the limit for a while, above it before and after


def window_sums(hits: np.ndarray, trials: np.ndarray, limit: float, level: float) -> tuple[int, np.ndarray, np.ndarray]:
    """Width of a window, and `hits` and `trials` (T,) summed over each window (T − width + 1,).

    The window is wide enough that a share of 0 would be below the limit, and at most half of the training.
    """
    n_steps = len(hits)
    needed = np.log(level) / np.log1p(-limit) if 0 < limit < 1 else 0.0
    enough = np.flatnonzero(np.cumsum(trials[::-1]) >= needed)
    width = min(max(WINDOW, enough[0] + 1 if len(enough) else n_steps), max(1, n_steps // 2))
    cumulated = (np.concatenate([[0.0], np.cumsum(of)]) for of in (hits, trials))
    count, n = (total[width:] - total[:-width] for total in cumulated)
    return width, count, n


def share_trend(hits: np.ndarray, trials: np.ndarray, limit: float, level: float) -> ShareTrend:
    """Trend of a share: `hits` (T,) of `trials` (T,) at each recorded step."""
    _, count, n = window_sums(hits, trials, limit, level)
    low, high = bounds(count[-1], n[-1], level)
    shares = np.divide(count, n, out=np.zeros_like(count), where=n > 0)
    above = np.flatnonzero(shares >= limit)
    since = int(above[-1]) + 1 if len(above) else 0
    lost = bool(high < limit)
    return ShareTrend(
        share=float(shares[-1]) if n[-1] > 0 else None,
        low=float(low),
        high=float(high),
        n=float(n[-1]),
        lost=lost,
        since=since,
        was_above=bool(bounds(hits[:since].sum(), trials[:since].sum(), level)[0] > limit),
        gap=None if lost else recovered_gap(hits, trials, limit, level),
    )


def recovered_gap(hits: np.ndarray, trials: np.ndarray, limit: float, level: float) -> tuple[int, int] | None:
    """First and last row between which a share that is above its limit before and after was below it, or None."""
    corrected = level / len(hits)  # any window may be the one
    width, count, n = window_sums(hits, trials, limit, corrected)
    before, of_before = (np.concatenate([[0.0], np.cumsum(of)[: len(n) - 1]]) for of in (hits, trials))
    was_above = bounds(before, of_before, corrected)[0] > limit
    below = np.flatnonzero((bounds(count, n, corrected)[1] < limit) & was_above)
    return (int(below[0]), int(below[-1]) + width - 1) if len(below) else None


@dataclass(frozen=True)
class Signals:
    """What a history of an RL training records at T steps; NaN where a step recorded nothing."""

    steps: list[int]
    shares: np.ndarray  # (T, L) of each label among all replies
    entropy: np.ndarray  # (T,) nats
    zero_signal_share: np.ndarray  # (T,) of the groups


def read_signals(history: pl.DataFrame, labels) -> Signals | None:
    """The signals of a table HISTORY; None if it has no shares of labels, because it is not of an RL training."""
    numbers = {label: str(i) for i, label in enumerate(labels)}  # a label may have the name of a column
    shares = history.filter(pl.col("label").is_in(list(numbers)), metric="predicted_share")
    if shares.is_empty():
        return None
    shares = shares.with_columns(pl.col("label").replace_strict(numbers))
    shares = shares.pivot("label", index="step", values="value").sort("step")
    shares = shares.with_columns(pl.lit(0.0).alias(n) for n in numbers.values() if n not in shares.columns)
    others = {}
    for metric in ("entropy", "zero_signal_share"):
        rows = history.filter(metric=metric).unique("step", keep="last").select("step", "value")
        joined = shares.select("step").join(rows, on="step", how="left", maintain_order="left")
        others[metric] = joined["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    values = shares.select(pl.col(list(numbers.values())).fill_null(0.0).fill_nan(0.0)).to_numpy()
    return Signals(steps=shares["step"].to_list(), shares=np.clip(values, 0.0, 1.0), **others)


def last_mean(values: np.ndarray) -> float | None:
    """Mean of what was recorded in the last WINDOW steps."""
    values = values[-WINDOW:]
    return None if np.isnan(values).all() else float(np.nanmean(values))


def judge(history: pl.DataFrame, truth: dict[str, float], prompts: int, of_decisions: bool = True) -> dict | None:
    """The verdict on one training, or None if it is not an RL training.

    truth: share of each label in the training split; prompts: per optimizer step; of_decisions: the recorded entropy is
    that over the decisions (structured decoding); under free decoding it is one of tokens, and is not used.

    Returns `verdict`, `reasons`, `since` (step, or None), `entropy`, `zero_signal_share` (means over the last WINDOW
    steps), `n_steps`, and `labels`: for each label the columns of COLLAPSE from `label` on. A decision that is never
    right in the training split is `unneeded`.
    """
    signals = read_signals(history, truth)
    if signals is None:
        return None
    n_steps = len(signals.steps)
    valid = np.minimum(signals.shares.sum(1), 1.0) * prompts
    found: dict = {"verdict": "pass", "reasons": [], "since": None, "n_steps": n_steps}
    found |= {"entropy": last_mean(signals.entropy), "zero_signal_share": last_mean(signals.zero_signal_share)}
    trends = label_trends(signals, truth, prompts)
    found["labels"] = [label_row(label, truth[label], trend, signals.steps) for label, trend in trends.items()]
    replies = share_trend(valid, np.full(n_steps, float(prompts)), NO_VALID, LEVEL)
    if n_steps < MIN_STEPS or replies.lost:  # decisions cannot be judged
        undecided = {"fate": "unsure", "since": None, "gap_from": None, "gap_to": None}
        found["labels"] = [row | undecided for row in found["labels"]]
        if n_steps < MIN_STEPS:
            return found | {"verdict": "warn", "reasons": ["too_short"]}
        gone = {"verdict": "collapsed", "since": signals.steps[replies.since]} if replies.was_above else {}
        return found | {"verdict": "warn", "reasons": ["no_valid"]} | gone
    frozen = of_decisions and found["entropy"] is not None and found["entropy"] < FROZEN * np.log(len(truth))
    stuck = frozen or lacks_signal(signals.zero_signal_share[-WINDOW:], prompts)
    lost = [trends[row["label"]] for row in found["labels"] if row["fate"] == "lost"]
    for_good = [stuck or n_steps - trend.since >= MIN_STEPS for trend in lost]
    found["reasons"] = reasons_of(found["labels"], signals, prompts, recent=bool(lost) and not any(for_good))
    if any(for_good):
        since = max(row["since"] for row in found["labels"] if row["fate"] == "lost")
        return found | {"verdict": "collapsed", "since": since}
    return found | {"verdict": "warn" if found["reasons"] else "pass"}


def label_trends(signals: Signals, truth: dict[str, float], prompts: int) -> dict[str, ShareTrend]:
    """The trend of each label's share of the valid replies against LOST times its share of the training split."""
    level = LEVEL / max(1, sum(share > 0 for share in truth.values()))
    valid = np.minimum(signals.shares.sum(1), 1.0) * prompts
    return {
        label: share_trend(signals.shares[:, i] * prompts, valid, LOST * truth[label], level)
        for i, label in enumerate(truth)
    }


def label_row(label: str, true_share: float, trend: ShareTrend, steps: list[int]) -> dict:
    """The columns of COLLAPSE from `label` on."""
    needed = true_share > 0
    return {
        "label": label,
        "true_share": true_share,
        "share": trend.share,
        "low": trend.low,
        "high": trend.high,
        "n": trend.n,
        "fate": fate_of(trend, true_share) if needed else "unneeded",
        "since": steps[trend.since] if needed and trend.lost else None,
        "gap_from": steps[trend.gap[0]] if needed and trend.gap else None,
        "gap_to": steps[trend.gap[1]] if needed and trend.gap else None,
    }


def reasons_of(rows: list[dict], signals: Signals, prompts: int, *, recent: bool) -> list[str]:
    """Keys of REASONS that hold; rows: `label_row` of each label; recent: decisions were lost, all of them recently."""
    fates = {row["fate"] for row in rows}
    holds = {
        "recent": recent,
        **{fate: fate in fates for fate in ("absent", "rare", "unsure")},
        "recovered": any(row["gap_from"] is not None for row in rows),
        "no_signal": lacks_signal(signals.zero_signal_share[:WINDOW], prompts),
    }
    return [reason for reason, held in holds.items() if held]


def fate_of(trend: ShareTrend, true_share: float) -> str:
    """What became of a decision that is right for `true_share` of the applications."""
    if trend.lost:
        return "lost" if trend.was_above else "absent"
    if trend.high < RARE * true_share:
        return "rare"
    return "unsure" if trend.share is None or trend.share < LOST * true_share else "kept"


def lacks_signal(zero_signal: np.ndarray, prompts: int) -> bool:
    """Do hardly any groups differ in reward? Yes if the upper bound of the share that does is below NO_SIGNAL."""
    zero_signal = zero_signal[~np.isnan(zero_signal)]
    n = len(zero_signal) * prompts
    return n > 0 and bool(bounds((1 - zero_signal).sum() * prompts, n, LEVEL)[1] < NO_SIGNAL)


def judge_all(
    histories: Mapping[Run, pl.DataFrame], truth: dict[str, float], prompts: dict[str, int], of_decisions: bool = True
) -> pl.DataFrame:
    """Table COLLAPSE: `judge` of the history of each run; prompts: per optimizer step, of each condition."""
    rows = []
    for run, history in histories.items():
        found = judge(history, truth, prompts[run.condition], of_decisions)
        if found is None:
            continue
        of_training = {key: found[key] for key in ("verdict", "reasons", "n_steps", "entropy", "zero_signal_share")}
        of_training |= run.columns | {"collapsed_since": found["since"]}
        rows += [of_training | row for row in found["labels"]]
    return pl.DataFrame(rows, schema=COLLAPSE)
