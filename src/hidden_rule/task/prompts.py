"""Prompts that say more than the ruleset's own: every rule (`oracle`), or labelled applications (few-shot)."""

import numpy as np
import polars as pl

from hidden_rule.task.dataset import fill_equally
from hidden_rule.task.replies import render_reply


def draw_examples(train: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """`n` rows of the training split, labels as equally as it has them, in random order; the same for the same seed."""
    rng = np.random.default_rng(seed)
    shuffled = train[rng.permutation(len(train))]
    counts = sorted(shuffled["label"].value_counts().iter_rows())
    order = rng.permutation(len(counts))  # chance decides which labels get one more
    quota = fill_equally(n, {(int(place), label): count for place, (label, count) in zip(order, counts, strict=True)})
    chosen = [shuffled.filter(label=label).head(k) for (_, label), k in quota.items()]
    return pl.concat(chosen)[rng.permutation(n)]


def render_conversations(ruleset, frame: pl.DataFrame, prompt=None, examples: pl.DataFrame | None = None) -> list:
    """Chat messages for each row of `frame`, as `Ruleset.render_prompts` makes them, and what `prompt` adds.

    prompt: a condition's: None; `oracle`, for the whole rule text; or {examples: k}, for a turn of user and assistant
    with the right reply for each row of `examples`, between the system's message and the application.
    """
    conversations = ruleset.render_prompts(frame, tell_all=prompt == "oracle")
    if examples is None:
        return conversations
    turns = [
        message
        for (_, user), label in zip(ruleset.render_prompts(examples), examples["label"], strict=True)
        for message in (user, {"role": "assistant", "content": render_reply(label)})
    ]
    return [[system, *turns, user] for system, user in conversations]
