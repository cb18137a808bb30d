"""A reward of the user's own, tried before anything trains: does the right reply earn most, and always the same?

Every label's reply is tried where each label is right, and beside them what a policy might find instead: no reply,
prose that names the right label, a label without its form, all labels at once.
"""

import json

import numpy as np
import polars as pl

from hidden_rule.task.reward_file import OwnReward, cases_of, of_one, plain_reply

DRAWN = 20_000  # cases of a ruleset, among which one of each label is looked for
MOST_PAIRS = 40_000  # of a reply and a case that are tried at most
ALONE = 40  # of them that are tried one at a time


def drawn_cases(ruleset) -> list[dict]:
    """A case of each label: drawn from a ruleset, or, where it hardly ever occurs or none can be drawn, made up."""
    if ruleset.is_observed:
        made_up = [{of.name: of.observed[0] if of.observed else None for of in ruleset.features}]
        cases = []
    else:
        drawn = ruleset.decide(ruleset.draw(DRAWN, np.random.default_rng(0)))
        cases = chosen_cases(drawn, ruleset, 1)
        made_up = drawn.select(ruleset.feature_names).head(1).to_dicts()
    known = {case["label"] for case in cases}
    return [*cases, *({**made_up[0], "label": label} for label in ruleset.labels if label not in known)]


def chosen_cases(frame: pl.DataFrame, ruleset, a_label: int) -> list[dict]:
    """The first `a_label` rows of each label as cases, fewer where there are so many labels that trying takes long."""
    n_labels = len(ruleset.labels)
    a_label = max(1, min(a_label, MOST_PAIRS // (n_labels * (n_labels + 6))))
    return cases_of(frame.filter(pl.int_range(pl.len()).over("label") < a_label), ruleset)


def tempting_replies(right: str, labels) -> list[str]:
    """Replies other than a valid one that must not pay where `right` is right."""
    every = [plain_reply(label) for label in labels]
    return [
        "",
        f"The decision is {right}.",
        right,
        ", ".join(labels),
        json.dumps({"decision": list(labels)}),
        "\n".join(sorted(every, key=lambda reply: reply != plain_reply(right))),  # the right one first
    ]


def try_reward(own: OwnReward, labels, cases: list[dict]) -> None:
    """Raise UserError if another reply to one of the cases earns as much as the right one, or two calls differ.

    What else the function may do wrong is found by `OwnReward.score`.
    """
    pairs = [
        (reply, case)
        for case in cases
        for reply in [*map(plain_reply, _right_first(case["label"], labels)), *tempting_replies(case["label"], labels)]
    ]
    if not pairs:
        return
    for pair in pairs[: len(pairs) // len(cases)]:  # before calls that may take minutes because they are of many
        own.check_time(*pair)
    replies, asked = [reply for reply, _ in pairs], [case for _, case in pairs]
    points = own.points(replies, asked)
    _check_order(own, pairs, points, len(cases))
    _check_same(own, pairs, points, own.points(replies, asked), "in a second call")
    turned = own.points(replies[::-1], asked[::-1])[::-1]
    _check_same(own, pairs, points, turned, "in another order of replies")
    few = pairs[:: -(-len(pairs) // ALONE)]
    alone = [own.points([reply], [case])[0] for reply, case in few]
    _check_same(own, few, points[:: -(-len(pairs) // ALONE)], alone, "alone")


def _right_first(right: str, labels) -> list[str]:
    return [right, *(label for label in labels if label != right)]


def _check_order(own: OwnReward, pairs: list[tuple[str, dict]], points: list[float], n_cases: int) -> None:
    """Of each case's replies, the first is the right one and earns most, in the 32-bit numbers of trainings."""
    earned = np.array(points, np.float32).reshape(n_cases, -1)
    a_case = earned.shape[1]
    for row, others in enumerate(earned[:, 1:] >= earned[:, :1]):
        if others.any():
            first = row * a_case
            place = first + 1 + int(others.argmax())
            fault = f"pays {points[first]:g} for the right reply, {pairs[first][0]}, and {points[place]:g} "
            raise own.error(fault + of_one(*pairs[place]), "pay most for the right reply")


def _check_same(own: OwnReward, pairs, points: list[float], again: list[float], where: str) -> None:
    for (reply, case), first, second in zip(pairs, points, again, strict=True):
        if first != second:
            fault = f"pays {first!r} and, {where}, {second!r} {of_one(reply, case)}"
            raise own.error(fault, "let points depend on the reply and its case alone")
