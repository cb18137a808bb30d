"""What mistakes cost: a matrix of right and given decisions, in points or money.

A right decision costs 0, a wrong one what the matrix says, 1 where it says nothing; a reply that is no valid decision
costs as much as the worst decision for that case unless said otherwise. As a reward the matrix pays minus the cost.
"""

from collections.abc import Iterable

import numpy as np

DRAWN = 200_000  # cases that a ruleset's natural frequencies are counted in: shares to 0.1 points
USUAL = 1.0  # cost of a wrong decision that the matrix does not name


def cost_of(predicted: str | None, label: str, costs: dict) -> float:
    """Cost of the decision `predicted`, None for no valid one, where `label` is right.

    costs: `costs` by right and given decision, and `invalid` by right one, as `completed` returns them.
    """
    if predicted is None:
        return float(costs["invalid"][label])
    return 0.0 if predicted == label else float(costs["costs"].get(label, {}).get(predicted, USUAL))


def worst_cost(label: str, labels: Iterable[str], matrix: dict) -> float:
    """The highest cost of a wrong decision where `label` is right; matrix: by right and given decision."""
    return max(float(matrix.get(label, {}).get(other, USUAL)) for other in labels if other != label)


def completed(given: dict, labels: Iterable[str]) -> dict:
    """Decision costs with `invalid` for each label: what is given, for all or for each, or the highest of its row."""
    labels = tuple(labels)
    matrix = {right: {other: float(cost) for other, cost in row.items()} for right, row in given["costs"].items()}
    named = given.get("invalid", {})
    by_label = named if isinstance(named, dict) else dict.fromkeys(labels, named)
    invalid = {label: float(by_label.get(label, worst_cost(label, labels, matrix))) for label in labels}
    return {**given, "costs": matrix, "invalid": invalid}


def cost_matrix(labels: Iterable[str], costs: dict) -> np.ndarray:
    """Costs (L, L + 1): a row a right label, a column a given one, in the order of `labels`; the last: no valid one."""
    labels = tuple(labels)
    return np.array([[cost_of(given, right, costs) for given in (*labels, None)] for right in labels])


def natural_frequencies(ruleset) -> dict[str, float] | None:
    """How often each label is right among cases drawn from a ruleset's own distributions; always the same.

    Its splits are balanced. None for a file of past decisions, whose splits have frequencies of their own.
    """
    if ruleset.is_observed:
        return None
    drawn = ruleset.decide(ruleset.draw(DRAWN, np.random.default_rng(0)))["label"]
    return {label: float((drawn == label).mean()) for label in ruleset.labels}


def with_named(named: dict[str, float], natural: dict[str, float]) -> dict[str, float]:
    """The `natural` shares of labels with those `named` in their place, the others scaled to what these leave.

    Where the others have no natural share, they get equal ones. The sum is 1.
    """
    others = {label: share for label, share in natural.items() if label not in named}
    left, among = max(0.0, 1 - sum(named.values())), sum(others.values())
    scaled = {label: left * (share / among if among else 1 / len(others)) for label, share in others.items()}
    shares = {label: {**named, **scaled}[label] for label in natural}
    return {label: share / sum(shares.values()) for label, share in shares.items()}
