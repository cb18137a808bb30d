"""What a reply earns: the evaluator's own parser, and numbers from the config."""

from hidden_rule.task.replies import parse_reply, render_reply


def reward(reply: str, label: str, labels, scale: dict) -> float:
    """Points for `reply` where `label` is right: `scale["correct"]`, `["wrong"]` or `["invalid"]`.

    A wrong label that `scale["near"][label]` names earns what stands there in place of `scale["wrong"]`.
    Raises ValueError if `label` is not one of `labels`: a broken gold label must stop, not score.
    """
    if label not in labels:
        raise ValueError(f"gold label {label!r} is not one of {', '.join(labels)}")
    return points_of(parse_reply(reply, labels), label, scale)


def points_of(predicted: str | None, label: str, scale: dict) -> float:
    """Points for a reply that was read as the decision `predicted`, None for no valid one; as for `reward`."""
    if predicted is None:
        return float(scale["invalid"])
    if predicted == label:
        return float(scale["correct"])
    return float(scale.get("near", {}).get(label, {}).get(predicted, scale["wrong"]))


def reward_matrix(labels, scale: dict) -> list[list[float]]:
    """Points (L, L) of each valid reply: a row a right label, a column an answered one, in the order of `labels`."""
    labels = tuple(labels)
    return [[reward(render_reply(answered), right, labels, scale) for answered in labels] for right in labels]


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
