"""How much supervision a training received: labels, optimizer steps, sampled replies, and an upper bound in bits.

A label is a message of at most log2 L bits about an application with L possible decisions. Where a share p of the
labels is wrong, each wrong one equally likely, the message has passed through a symmetric channel, whose capacity
bounds what it can still carry (Cover & Thomas 2006, section 7.2):

    C(L, p) = log2 L − h(p) − p log2(L − 1),    h(p) = −p log2 p − (1 − p) log2 (1 − p)

A reward tells whether a valid reply is correct: at most h(q) bits, where q is the share of correct ones among the valid
replies that the policy samples. An invalid reply gives no information about the label. A reward of more than two values
(decision costs, a function of the user's own) may tell the label itself: at most log2 L bits, of any reply. The rewards
of a training carry at most the sum over its replies and, whatever is sampled, no more than the labels that they are
computed from (data processing inequality, ibid., section 2.8). A label that is shown again carries no new information.

All are upper bounds on the information offered, not on what was learned.
"""

import json
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import polars as pl
from scipy.special import entr

from hidden_rule.core.tables import SUPERVISION
from hidden_rule.experiment.conditions import replies_a_prompt
from hidden_rule.experiment.runs import Run
from hidden_rule.task.training_subsets import rows_a_pass, steps_a_pass

VARIED = ("train_rows", "label_noise")


@dataclass(frozen=True)
class TrainingRecord:
    """What one training was given and what it did."""

    run: Run
    condition: dict  # its `condition_settings`
    history: pl.DataFrame  # table HISTORY
    cost: dict  # the training's row of table COSTS
    rows: pl.DataFrame  # `application_id` and `label` of the applications that it was trained on, wrong labels included


def binary_entropy(p) -> np.ndarray:
    """h(p) in bits of probabilities of any shape; 0 at 0 and 1."""
    p = np.asarray(p, dtype=float)
    return (entr(p) + entr(1 - p)) / np.log(2)


def capacity(n_labels: int, wrong: float) -> float:
    """C(L, p) in bits a label, for L = `n_labels` of which a share p = `wrong` is replaced by any other one."""
    bits = np.log2(n_labels) - binary_entropy(wrong) - wrong * np.log2(n_labels - 1)
    return max(0.0, float(bits))  # a label without information: zero up to rounding


def rows_of_steps(settings: dict, n_rows: int, n_steps: int) -> np.ndarray:
    """Rows (S,) that each of `n_steps` optimizer steps trains on; the last of a pass may have fewer than a batch."""
    batch, a_pass = settings["batch_size"], steps_a_pass(settings, n_rows)
    rows = np.full(n_steps, batch)
    rows[a_pass - 1 :: a_pass] = rows_a_pass(settings, n_rows) - (a_pass - 1) * batch
    return rows


def right_shares(history: pl.DataFrame, reward: dict) -> tuple[np.ndarray, np.ndarray]:
    """Of each recorded step, the share (S,) of valid replies, and that of right ones among those.

    Worked out from the mean reward, whose points are `reward` (correct, wrong, invalid). 0 where no reply was valid.
    """
    earned = history.filter(metric="reward").sort("step")
    shares = history.filter(metric="invalid_share").select("step", invalid="value")
    joined = earned.join(shares, on="step", how="left", maintain_order="left")
    invalid = joined["invalid"].fill_null(0.0).to_numpy()
    valid = 1 - invalid
    right = joined["value"].to_numpy() - invalid * reward["invalid"] - valid * reward["wrong"]
    right = right / (reward["correct"] - reward["wrong"])
    return valid, np.divide(right, valid, out=np.zeros_like(right), where=valid > 0).clip(0, 1)


def supervise(training: TrainingRecord, clean: pl.DataFrame, n_labels: int) -> dict:
    """The row of SUPERVISION of one training, without `curve`.

    clean: the training split with the true labels; n_labels: L.
    """
    settings = training.condition["settings"]
    truth = training.rows.select("application_id", "label").join(
        clean.select("application_id", true="label"), on="application_id", validate="1:1"
    )
    wrong = float((truth["label"] != truth["true"]).sum()) / len(truth)
    n_rows, n_steps = len(training.rows), max(training.history["step"])
    rows = rows_of_steps(settings, n_rows, n_steps)
    n_seen = min(n_rows, int(rows.sum()))
    bits_labels, bits_rewards, n_replies = n_seen * capacity(n_labels, wrong), None, 0
    if a_prompt := replies_a_prompt(settings):
        replies = a_prompt * rows
        if "rounds" in settings:  # at the start of each, to every row
            replies = np.full(training.history.filter(metric="kept").height, a_prompt * n_rows)
        n_replies = int(replies.sum())
        if "correct" in settings["reward"]:
            valid, right = right_shares(training.history, settings["reward"])
            bits_rewards = float((replies * valid * binary_entropy(right)).sum())
        else:
            bits_rewards = float(n_replies * np.log2(n_labels))
    return training.run.columns | {
        "method": training.run.method,
        "train_rows": n_rows,
        "label_noise": settings.get("label_noise", 0.0),
        "wrong_share": wrong,
        "n_steps": n_steps,
        "n_labels": n_seen,
        "n_replies": n_replies,
        "wall_s": training.cost["wall_s"],
        "n_tokens": training.cost["n_tokens_trained"],
        "bits_labels": bits_labels,
        "bits_rewards": bits_rewards,
        "bits": bits_labels if bits_rewards is None else min(bits_labels, bits_rewards),
    }


def curve_names(settings: dict[str, dict]) -> dict[str, str]:
    """The curve that each trained condition is a point of: conditions that differ in rows, noise and passes alone.

    `settings`: `condition_settings` by condition. A curve is called what its conditions' names begin with, one of a
    single condition like that; where another curve has that name, as the first of its conditions that none is called.
    """
    groups: dict[str, list[str]] = {}
    for name, of in settings.items():
        if of["method"]:
            rest = {key: value for key, value in of["settings"].items() if key not in (*VARIED, "epochs")}
            same = [of["method"], of["start_from"], of.get("engine"), rest]
            groups.setdefault(json.dumps(same, sort_keys=True), []).append(name)
    curves: dict[str, str] = {}
    for names in sorted(groups.values(), key=len):
        alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
        begins = "".join(letters[0] for letters in alike)
        begins = begins.rstrip("0123456789_") if len(names) > 1 else begins
        every = ", ".join(names)  # no name has a comma
        free = [name for name in (begins, *names, every) if name and name not in curves.values()]
        curves |= dict.fromkeys(names, free[0])
    return curves


def measure(trainings: list[TrainingRecord], clean: pl.DataFrame, n_labels: int) -> pl.DataFrame:
    """Table SUPERVISION, a row a training in their order; `clean` and `n_labels` as for `supervise`."""
    curves = curve_names({of.run.condition: of.condition for of in trainings})
    rows = [supervise(of, clean, n_labels) | {"curve": curves[of.run.condition]} for of in trainings]
    return pl.DataFrame(rows, schema=SUPERVISION)


def training_records(results) -> list[TrainingRecord]:
    """What each training of an experiment was given and did; results: `experiment.results.Results`."""
    costs = results.costs.filter(stage="train")
    return [
        TrainingRecord(
            run=run,
            condition=results.settings[run.condition],
            history=results.history(run),
            cost=costs.row(
                by_predicate=(pl.col("condition") == run.condition) & (pl.col("seed") == run.seed), named=True
            ),
            rows=results.training_rows(run.condition),
        )
        for run in results.trained
    ]
