"""A curriculum: easy applications first (Bengio et al. 2009).

It changes only the order of the data: each row is still used once per epoch on average, but the first epochs consist of
easy rows alone, and later ones hold correspondingly more of the others.
"""

import math

import numpy as np

from hidden_rule.models.decoding import label_log_probs


def row_orders(start, settings: dict, seed: int) -> np.ndarray | None:
    """The order of the rows of `start.train` in each epoch (epochs, N); None where there is no curriculum."""
    curriculum = settings["curriculum"]
    if curriculum["by"] == "none":
        return None
    easy = easy_rows(start, curriculum, 4 * settings["micro_batch_size"])  # without gradients so many fit
    return epoch_orders(easy, settings["epochs"], curriculum["epochs"], seed)


def easy_rows(start, settings: dict, batch_size: int) -> np.ndarray:
    """Which rows (N,) of `start.train` count as easy, by `settings["by"]`.

    `hidden_rule`: those on which no hidden rule fires. `probability`: of each label the share `settings["share"]` to
    whose right reply the start itself (structured, at temperature 1) gives the highest probability; within labels, for
    an untrained model that prefers one label would else begin with that one alone.
    """
    if settings["by"] == "hidden_rule":
        hidden = {rule.name for rule in start.ruleset.hidden_rules}
        return np.array([name not in hidden for name in start.train.fired_rules])
    labels = np.array([start.ruleset.labels.index(label) for label in start.train.labels])
    was_training = start.model.training
    network = start.model.eval().get_base_model()
    log_probs = label_log_probs(network, start.trie, start.train.prompts, batch_size, "curriculum").numpy()
    start.model.train(was_training)
    return most_probable(log_probs[np.arange(len(labels)), labels], labels, settings["share"])


def most_probable(log_probs: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """Which rows (N,) are among the `share` of their label with the highest `log_probs` (N,); at least one a label."""
    easy = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        ranked = rows[np.argsort(-log_probs[rows], kind="stable")]
        easy[ranked[: math.ceil(share * len(rows))]] = True
    return easy


def epoch_orders(easy: np.ndarray, n_epochs: int, n_easy_epochs: int, seed: int) -> np.ndarray:
    """Row numbers (n_epochs, N) in the order of training; each of N rows occurs `n_epochs` times.

    The first `n_easy_epochs` are passes over the `easy` rows (N,), each pass in an order of its own, as long as there
    are any of their `n_epochs` times left; then every row's other times follow, spread evenly over what is left.
    """
    rng = np.random.default_rng(seed)
    rows, left = np.flatnonzero(easy), np.full(len(easy), n_epochs)
    n_first = min(n_easy_epochs * len(easy), n_epochs * len(rows))
    passes = [rng.permutation(rows) for _ in range(math.ceil(n_first / max(1, len(rows))))]
    first = np.concatenate([*passes, rows[:0]])[:n_first]
    np.subtract.at(left, first, 1)
    rest = np.repeat(np.arange(len(easy)), left)
    number = np.arange(len(rest)) - np.repeat(np.cumsum(left) - left, left)  # of a row's times: 0, 1, …
    when = (number + rng.random(len(rest))) / left[rest]
    return np.concatenate([first, rest[np.argsort(when, kind="stable")]]).reshape(n_epochs, len(easy))
