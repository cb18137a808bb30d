"""How much a training was told: labels, optimizer steps, sampled replies, and bits of supervision at most.

A label is a message of at most log2 L bits about an application of L possible decisions. Where a share p of the labels
is wrong, each wrong one equally likely, it has passed through a symmetric channel, whose capacity is what it can still
say (Cover & Thomas 2006, section 7.2):

    C(L, p) = log2 L − h(p) − p log2(L − 1),    h(p) = −p log2 p − (1 − p) log2 (1 − p)

A reward says whether a valid reply is right: at most h(q) bits, q the share of right ones among the valid replies that
the policy samples. That a reply is invalid says nothing of the label. The rewards of all replies of a training say at
most their sum; and, whatever is sampled, no more than the labels that they are computed from (data processing
inequality, ibid., section 2.8). A label that is shown again says nothing new.

All are upper bounds: of what was offered, not of what was learnt.
"""

import json
from itertools import takewhile

import numpy as np
import polars as pl
from scipy.special import entr

from hidden_rule.core.tables import SUPERVISION
from hidden_rule.task.training_subsets import rows_a_pass, steps_a_pass

VARIED = ("train_rows", "label_noise")


def binary_entropy(p) -> np.ndarray:
    """h(p) in bits of probabilities of any shape; 0 at 0 and 1."""
    p = np.asarray(p, dtype=float)
    return (entr(p) + entr(1 - p)) / np.log(2)


def capacity(n_labels: int, wrong: float) -> float:
    """C(L, p) in bits a label, for L = `n_labels` of which a share p = `wrong` is replaced by any other one."""
    bits = np.log2(n_labels) - binary_entropy(wrong) - wrong * np.log2(n_labels - 1)
    return max(0.0, float(bits))  # zero but for rounding where a label says nothing


def rows_of_steps(method: str, settings: dict, n_rows: int, n_steps: int) -> np.ndarray:
    """Rows (S,) that each of `n_steps` optimizer steps trains on; the last of a pass may have fewer than a batch."""
    batch, a_pass = settings["batch_size"], steps_a_pass(method, settings, n_rows)
    rows = np.full(n_steps, batch)
    rows[a_pass - 1 :: a_pass] = rows_a_pass(method, settings, n_rows) - (a_pass - 1) * batch
    return rows


def right_shares(history: pl.DataFrame, reward: dict) -> tuple[np.ndarray, np.ndarray]:
    """Of each recorded step, the share (S,) of valid replies, and that of right ones among those.

    Worked out from the mean reward, whose points are `reward` (correct, wrong, invalid). 0 where no reply was valid.
    """
    earned = history.filter(metric="reward").sort("step")
    invalid = history.filter(metric="invalid_share").select("step", invalid="value")
    joined = earned.join(invalid, on="step", how="left", maintain_order="left")
    invalid = joined["invalid"].fill_null(0.0).to_numpy()
    valid = 1 - invalid
    right = joined["value"].to_numpy() - invalid * reward["invalid"] - valid * reward["wrong"]
    right = right / (reward["correct"] - reward["wrong"])
    shares = np.divide(right, valid, out=np.zeros_like(right), where=valid > 0)
    return valid, shares.clip(0, 1)


def supervise(
    history: pl.DataFrame, cost: dict, clean: pl.DataFrame, own: pl.DataFrame, trained: dict, n_labels
) -> dict:
    """One training's row of SUPERVISION but for who it was.

    `history`: its table; `cost`: its row of COSTS; `clean` and `own`: the training split, and what it read of it;
    `trained`: its `condition_settings`; `n_labels`: L.
    """
    method, settings = trained["method"], trained["settings"]
    truth = own.select("application_id", "label").join(
        clean.select("application_id", true="label"), on="application_id", validate="1:1"
    )
    wrong = (truth["label"] != truth["true"]).mean()
    n_steps = int(history["step"].max())
    rows = rows_of_steps(method, settings, len(own), n_steps)
    n_seen = min(len(own), int(rows.sum()))
    of_labels, of_rewards, n_replies = n_seen * capacity(n_labels, wrong), None, 0
    if method == "grpo":
        valid, right = right_shares(history, settings["reward"])
        replies = settings["group_size"] * rows
        n_replies = int(replies.sum())
        of_rewards = float((replies * valid * binary_entropy(right)).sum())
    return {
        "train_rows": len(own),
        "label_noise": settings.get("label_noise", 0.0),
        "wrong_share": wrong,
        "n_steps": n_steps,
        "n_labels": n_seen,
        "n_replies": n_replies,
        "wall_s": cost["wall_s"],
        "n_tokens": cost["n_tokens_trained"],
        "bits_labels": of_labels,
        "bits_rewards": of_rewards,
        "bits": of_labels if of_rewards is None else min(of_labels, of_rewards),
    }


def curve_names(settings: dict[str, dict]) -> dict[str, str]:
    """The curve that each trained condition is a point of: conditions that differ in rows, noise and passes alone.

    `settings`: `condition_settings` by condition. A curve is called what its conditions' names begin with, one of a
    single condition like that.
    """
    groups: dict[str, list[str]] = {}
    for name, of in settings.items():
        if of["method"]:
            rest = {key: value for key, value in of["settings"].items() if key not in (*VARIED, "epochs")}
            groups.setdefault(json.dumps([of["method"], of["start_from"], rest], sort_keys=True), []).append(name)
    curves: dict[str, str] = {}
    for names in sorted(groups.values(), key=len):
        alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
        begins = "".join(letters[0] for letters in alike)
        begins = begins.rstrip("0123456789_") if len(names) > 1 else begins
        taken = not begins or begins in curves.values()
        curves |= dict.fromkeys(names, names[0] if taken else begins)
    return curves


def measure(histories, costs, clean, own, trained, settings, n_labels) -> pl.DataFrame:
    """Table SUPERVISION of trainings `trained` ([condition, seed, method] of each), in their order.

    `histories`, `own`: frames, one a training; `costs`: table COSTS; the others as for `supervise` and `curve_names`.
    """
    curves = curve_names(settings)
    rows = []
    for history, read, (condition, seed, method) in zip(histories, own, trained, strict=True):
        cost = costs.row(by_predicate=(pl.col("condition") == condition) & (pl.col("seed") == seed), named=True)
        who = {"condition": condition, "seed": seed, "method": method, "curve": curves[condition]}
        rows.append(who | supervise(history, cost, clean, read, settings[condition], n_labels))
    return pl.DataFrame(rows, schema=SUPERVISION)
