"""What a reply earns: the evaluator's own parser, and three numbers from the config."""

from .replies import parse_reply


def reward(reply: str, label: str, labels, scale: dict) -> float:
    """Points for `reply` where `label` is right: `scale["correct"]`, `["wrong"]` or `["invalid"]`.

    Raises ValueError if `label` is not one of `labels`: a broken gold label must stop, not score.
    """
    if label not in labels:
        raise ValueError(f"gold label {label!r} is not one of {', '.join(labels)}")
    predicted = parse_reply(reply, labels)
    if predicted is None:
        return float(scale["invalid"])
    return float(scale["correct" if predicted == label else "wrong"])


def reply_texts(completions) -> list[str]:
    """The replies in TRL's completions: texts, or chats of which each one's last message is the reply."""
    return [completion if isinstance(completion, str) else completion[-1]["content"] for completion in completions]


def make_reward_function(labels, scale: dict):
    """A reward function as TRL calls it."""
    labels = tuple(labels)

    def decision_reward(completions, label, **kwargs) -> list[float]:
        """One reward a completion; `label` is the data set's column, one a completion."""
        pairs = list(zip(reply_texts(completions), label, strict=True))
        points = {pair: reward(*pair, labels, scale) for pair in dict.fromkeys(pairs)}
        return [points[pair] for pair in pairs]

    return decision_reward
