"""What a reply earns: the evaluator's own parser, and numbers from the config; or a function of the user's own.

A `scale` is a reward among a condition's settings: points (`correct`, `wrong`, `invalid`, `near`), or `decision_costs`,
which pays minus the cost. What depends on the decision alone is a table of right and given labels (`TableRewards`);
the user's function may depend on the case too, and is asked row by row (`OwnRewards`).
"""

from hidden_rule.task.decision_costs import cost_of
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.reward_file import TOTAL, OwnReward, plain_reply, plain_text


def reward(reply: str, label: str, labels, scale: dict) -> float:
    """Points for `reply` where `label` is right: `scale["correct"]`, `["wrong"]` or `["invalid"]`, or minus its cost.

    A wrong label that `scale["near"][label]` names earns what stands there in place of `scale["wrong"]`.
    Raises ValueError if `label` is not one of `labels`: a broken gold label must stop, not score.
    """
    if label not in labels:
        raise ValueError(f"gold label {label!r} is not one of {', '.join(labels)}")
    return points_of(parse_reply(reply, labels), label, scale)


def points_of(predicted: str | None, label: str, scale: dict) -> float:
    """Points for a reply that was read as the decision `predicted`, None for no valid one; as for `reward`."""
    if "decision_costs" in scale:
        return 0.0 - cost_of(predicted, label, scale["decision_costs"])  # never -0.0
    if predicted is None:
        return float(scale["invalid"])
    if predicted == label:
        return float(scale["correct"])
    return float(scale.get("near", {}).get(label, {}).get(predicted, scale["wrong"]))


def reward_matrix(labels, scale: dict) -> list[list[float]]:
    """Points (L, L) of each valid reply: a row a right label, a column an answered one, in the order of `labels`."""
    labels = tuple(labels)
    return [[points_of(answered, right, scale) for answered in labels] for right in labels]


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


class TableRewards:
    """The rewards of rows of which a table says all: points of each right and given label."""

    def __init__(self, labels, scale: dict):
        self.labels, self.scale = tuple(labels), scale
        self._points = dict(zip(self.labels, reward_matrix(self.labels, scale), strict=True))
        self._score = make_reward_function(self.labels, scale)

    def earned(self, texts: list[str], label: list[str], row=None) -> dict[str, list[float]]:
        """Points of replies by part, here the only one, TOTAL; `label`: the right ones."""
        return {TOTAL: self._score(texts, label)}

    def of_replies(self, label: list[str], row=None) -> dict[str, list[list[float]]]:
        """Points (B, L) by part of each valid reply where each of `label` (B,) is right."""
        return {TOTAL: [self._points[right] for right in label]}


class OwnRewards:
    """The rewards of rows by a function of the user's own; it is asked once for a reply to a row, or for equal ones."""

    def __init__(self, own: OwnReward, labels, cases: list[dict]):
        self.own, self.labels, self.cases = own, tuple(labels), cases
        self.valid = [plain_reply(label) for label in self.labels]
        self._known: dict[int, dict[str, list[float]]] = {}  # by row: points (L,) of each valid reply, by part

    def earned(self, texts: list[str], label: list[str], row: list[int]) -> dict[str, list[float]]:
        """Points of replies by part; `row`: the numbers of the rows among `cases` that they are to."""
        seen = {text: plain_text(text, self.labels) for text in dict.fromkeys(texts)}
        pairs = [(seen[text], i) for text, i in zip(texts, row, strict=True)]
        asked = list(dict.fromkeys(pairs))
        parts = self.own.score([text for text, _ in asked], [self.cases[i] for _, i in asked])
        place = {pair: i for i, pair in enumerate(asked)}
        return {name: [points[place[pair]] for pair in pairs] for name, points in parts.items()}

    def of_replies(self, label: list[str], row: list[int]) -> dict[str, list[list[float]]]:
        """Points (B, L) by part of each valid reply to each of the rows `row` (B,)."""
        for i in dict.fromkeys(row):
            if i not in self._known:
                self._known[i] = self.own.score(self.valid, [self.cases[i]] * len(self.valid))
        names = dict.fromkeys(name for i in row for name in self._known[i])
        nothing = [0.0] * len(self.valid)
        return {name: [self._known[i].get(name, nothing) for i in row] for name in names}


def added_rows(parts: dict[str, list[list[float]]]) -> list[list[float]]:
    """The sum (B, L) of the parts of `of_replies`."""
    return [[sum(values) for values in zip(*rows, strict=True)] for rows in zip(*parts.values(), strict=True)]
