"""Metrics of each condition on a suite, with intervals that are clustered by family.

The first row of a family (its lowest identifier) is the reference; each other row makes a pair with it.

    flip_rate         of the pairs with different true decisions, the share in which both answers are correct: the
                      answer changes as the rules require
    false_flip_rate   of the pairs with the same true decision, the share in which the answers differ (an invalid reply
                      differs from every decision, and not from another invalid one)
    accuracy, invalid_rate, hidden_recall, hidden_precision, conflict_recall
                      as in `metrics`, over the rows whose role is not `original`: an original is an ordinary
                      application, which the splits measure, and stands there to be compared with

Where there are several hidden rules, each has its own flip rate (over pairs in one of which it fires), recalls and
precision (`rule`).

`n` counts pairs or rows. A constant answer has a flip rate of 0 and a false flip rate of 0: look at both, and accuracy.
Intervals are Wilson's at 95% for the effective number of rows of `intervals.share_interval`, clustered by family and,
pooled over seeds, by seed (clustered standard errors for related questions: Miller 2024, arXiv 2411.00640).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.statistics.intervals import share_interval

OF_ROWS = ("accuracy", "invalid_rate", "hidden_recall", "hidden_precision", "conflict_recall")


@dataclass(frozen=True)
class Families:
    """How the N rows of a suite form F families."""

    starts: np.ndarray  # (F,) row number of each family's first row
    reference: np.ndarray  # (N,) that of a row's own family
    changed: np.ndarray  # (N,) whether the row is something other than an original


def estimate_suite(outcomes, members: pl.DataFrame, proportions) -> list[dict]:
    """Rows of METRICS without suite and decoding: each condition, each seed and pooled.

    outcomes: `Outcomes` of the suite; members: its rows of the table of suites; proportions: those of
    `metrics.proportions` for the outcomes' cells.
    """
    rows = []
    families = families_of(outcomes, members)
    for condition, by_seed in outcomes.codes.items():
        groups = [(seed, [codes]) for seed, codes in by_seed.items()] + [(None, list(by_seed.values()))]
        for seed, columns in groups:
            codes = np.stack(columns, axis=1)  # (N, S)
            for (metric, rule), (hits, counted) in masks_of(outcomes.cells, codes, families, proportions).items():
                at = {"condition": condition, "seed": seed, "metric": metric, "label": None, "rule": rule}
                rows.append(at | share_of_families(hits, counted, families.starts))
    return rows


def families_of(outcomes, members: pl.DataFrame) -> Families:
    """How the answered applications form families; if they are not those of `members` it is a UserError."""
    members = members.sort("application_id")
    if not np.array_equal(members["application_id"].to_numpy(), outcomes.ids):
        fault = f"the cases answered are not those of the table of suites ({len(outcomes.ids)}, {len(members)})"
        raise UserError("predictions", ", ".join(outcomes.setting), fault, "delete them and run again")
    starts = np.flatnonzero(members["family"].to_numpy() == members["application_id"].to_numpy())
    reference = np.repeat(starts, np.diff([*starts, len(members)]))
    return Families(starts, reference, (members["role"] != "original").to_numpy())


Masks = dict[tuple[str, str | None], tuple[np.ndarray, np.ndarray]]


def masks_of(cells, codes: np.ndarray, families: Families, proportions) -> Masks:
    """By metric and hidden rule (None: all): hits and counted, zeros and ones (N, S); `codes` are rows of `cells`."""
    of_rows = [of for of in proportions if of.metric in OF_ROWS]
    changed = families.changed[:, None]
    masks = {(of.metric, of.rule): (of.hits[codes], of.counted[codes] * changed) for of in of_rows}
    rules = [of.rule for of in of_rows if of.metric == "hidden_recall" and of.rule is not None]
    masks |= flips(cells, codes, families.reference, rules)
    return {key: (hits * counted, counted) for key, (hits, counted) in masks.items()}


def flips(cells: pl.DataFrame, codes: np.ndarray, reference: np.ndarray, rules=()) -> Masks:
    """By kind of flip and hidden rule (each of `rules`, and None): hits and counted, zeros and ones (N, S).

    A row stands for its pair; a pair is a rule's if it fires in one of both rows.
    """
    truth = cells["label"].rank("dense").to_numpy()[codes]
    predicted = cells["predicted"].rank("dense").fill_null(0).to_numpy()[codes]
    right = (cells["label"] == cells["predicted"]).fill_null(False).to_numpy()[codes]
    is_pair = (np.arange(len(codes)) != reference)[:, None]
    moves = truth != truth[reference]
    both_right, flipped = (right & right[reference]).astype(int), is_pair & moves
    masks: Masks = {
        ("flip_rate", None): (both_right, flipped.astype(int)),
        ("false_flip_rate", None): ((predicted != predicted[reference]).astype(int), (is_pair & ~moves).astype(int)),
    }
    for rule in rules:
        fires = (cells["fired_rule"] == rule).fill_null(False).to_numpy()[codes]
        masks["flip_rate", rule] = (both_right, (flipped & (fires ^ fires[reference])).astype(int))
    return masks


def share_of_families(hits: np.ndarray, counted: np.ndarray, starts: np.ndarray) -> dict:
    """Share of (N, S) zeros and ones, with an interval clustered by the families that begin at the rows `starts`."""
    hits, counted = np.add.reduceat(hits, starts), np.add.reduceat(counted, starts)  # (F, S)
    n = int(counted.sum())
    if not n:
        return {"value": None, "ci_low": None, "ci_high": None, "n": 0}
    value, low, high = share_interval(hits, counted, np.ones(len(starts), int))
    return {"value": value, "ci_low": low, "ci_high": high, "n": n}
