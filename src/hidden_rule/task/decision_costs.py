"""What mistakes cost: a matrix of right and given decisions, in points or money.

A right decision costs 0, a wrong one what the matrix says, 1 where it says nothing; a reply that is no valid decision
costs as much as the worst decision for that case unless said otherwise. As a reward the matrix pays minus the cost.
"""

from collections.abc import Iterable

import numpy as np

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
