"""How long an experiment's prompts are, in tokens, estimated from their characters: no tokenizer is needed."""

from dataclasses import dataclass

import numpy as np

from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import load_ruleset

CHARACTERS = 2.8  # of a token: prompts of many names and digits; a digit is a token to most tokenizers
TEMPLATE = 12  # tokens of a chat template around the two messages
DRAWN = 64  # cases


@dataclass(frozen=True)
class PromptSizes:
    """Tokens of a prompt: `shared` by all cases at its start, `own` of a case; and of the longest valid `reply`."""

    shared: float
    own: float
    reply: float

    @property
    def whole(self) -> float:
        return self.shared + self.own

    def positions(self, prompts: int, replies: float = 1.0, reply: float | None = None) -> float:
        """Positions of a forward pass that computes shared prefixes once: `replies` to each of `prompts`."""
        return self.shared + prompts * (self.own + replies * (self.reply if reply is None else reply))


def common_start(a: str, b: str) -> str:
    """The characters with which two texts begin alike."""
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:n]


def prompt_sizes(config: dict) -> PromptSizes:
    """Sizes of the ruleset's own prompts, of some drawn cases; of a file of past decisions of typical ones."""
    if config["data"]["source"] == "file":
        return PromptSizes(120.0, 150.0, 8.0)
    ruleset = load_ruleset(config["ruleset"])
    chats = render_prompts(ruleset, ruleset.decide(ruleset.draw(DRAWN, np.random.default_rng(0))))
    texts = ["\n".join(message["content"] for message in chat) for chat in chats]
    shared = len(common_start(min(texts), max(texts))) / CHARACTERS  # of all, being the first and last by order
    whole = sum(map(len, texts)) / len(texts) / CHARACTERS
    reply = max(len(render_reply(label, ruleset.labels)) for label in ruleset.labels) / CHARACTERS + 2
    return PromptSizes(shared + TEMPLATE / 2, max(1.0, whole - shared) + TEMPLATE / 2, reply)
