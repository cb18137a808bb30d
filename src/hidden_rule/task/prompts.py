"""Prompts: the chat messages that put a case to a model, made from the ruleset's templates.

A condition may ask for more than the ruleset's own words: every rule (`oracle`), or labelled cases (few-shot).
"""

import re

import numpy as np
import polars as pl

from hidden_rule.task.dataset import fill_equally
from hidden_rule.task.replies import plain_text, render_reply, reply_words

PLACES = re.compile(r"\{([^{}]+)\}")  # labels, rules, features, or a column of a file; other braces stay


def render_prompts(ruleset, frame: pl.DataFrame, prompt=None, examples: pl.DataFrame | None = None) -> list[list[dict]]:
    """Chat messages for each row of `frame`: the system's, turns of examples if there are any, the user's.

    prompt: a condition's own: None; `oracle`, for the text of all rules; or {examples: k}, for a turn of user and
    assistant with the right reply for each row of `examples`, between the system's message and the case.
    """
    chats = _plain_prompts(ruleset, frame, all_rules=prompt == "oracle")
    if examples is None:
        return chats
    turns = [
        message
        for (_, user), label in zip(render_prompts(ruleset, examples), examples["label"], strict=True)
        for message in (user, {"role": "assistant", "content": render_reply(label, ruleset.labels)})
    ]
    return [[system, *turns, user] for system, user in chats]


def draw_examples(train: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """`n` rows of the training split, labels as equally as it has them, in random order; the same for the same seed."""
    rng = np.random.default_rng(seed)
    shuffled = train[rng.permutation(len(train))]
    counts = sorted(shuffled["label"].value_counts().iter_rows())
    order = rng.permutation(len(counts))  # chance decides which labels get one more
    quota = fill_equally(n, {(int(place), label): count for place, (label, count) in zip(order, counts, strict=True)})
    chosen = [shuffled.filter(label=label).head(k) for (_, label), k in quota.items()]
    return pl.concat(chosen)[rng.permutation(n)]


def rules_text(ruleset, all_rules: bool) -> str:
    """The rules in words: those that are not hidden as a list, or all of them by priority; each has to have `says`."""
    words = reply_words(ruleset.labels)
    otherwise = [] if ruleset.default is None else [f"{words[ruleset.default]}: otherwise"]
    if not all_rules:
        visible = [f"{words[rule.label]}: {rule.says}" for rule in ruleset.rules if not rule.hidden]
        return "\n".join(f"- {line}" for line in [*visible, *otherwise])
    decisions = [*(f"{words[rule.label]}: {rule.says}" for rule in ruleset.rules), *otherwise]
    numbered = [f"{i}. {decision}" for i, decision in enumerate(decisions, 1)]
    return "\n".join(["The first of these rules that holds decides:", *numbered])


def labels_shown(labels) -> list[str]:
    """The words for labels in alphabetical order, not by priority, which would give away which rule comes first.

    A word that does not spell its label is followed by what of it can be shown, in brackets.
    """
    words = reply_words(labels)
    return sorted(
        word if word == label or not (shown := plain_text(label)) else f"{word} ({shown})"
        for label, word in words.items()
    )


def _plain_prompts(ruleset, frame: pl.DataFrame, all_rules: bool) -> list[list[dict]]:
    """Messages (system, user) for each row of `frame`.

    `all_rules`: hidden rules are stated too: where the templates have {rules}, or else at the end of the system's
    message. In a suite's frame `shown_text` replaces the value of `shown_feature`, and the features stand in
    `field_order`; where these are null, and in a frame without them, a row reads as declared.
    """
    parts = {
        "labels": ", ".join(labels_shown(ruleset.labels)),
        "rules": rules_text(ruleset, all_rules),
    }
    system = _fill(ruleset.system, parts)
    if all_rules and "{rules}" not in ruleset.system + ruleset.user:
        system = f"{system}\n\n{parts['rules']}"
    named = _named_columns(ruleset, frame)
    return [
        [
            {"role": "system", "content": system},
            {"role": "user", "content": _fill(ruleset.user, {**parts, "features": "\n".join(lines)} | columns)},
        ]
        for lines, columns in zip(_feature_lines(ruleset, frame), named, strict=True)
    ]


def _named_columns(ruleset, frame: pl.DataFrame) -> list[dict[str, str]]:
    """For each row the texts of the columns that the user's template names; of drawn cases there are none."""
    found: list[dict[str, str]] = [{} for _ in range(len(frame))]
    if ruleset.is_observed:
        named = {*PLACES.findall(ruleset.user)} - {"labels", "rules", "features"}
        for feature in ruleset.features:
            if (name := feature.column) in named:
                for texts, value in zip(found, frame[feature.name], strict=True):
                    texts[name] = feature.as_text(value)
    return found


def _feature_lines(ruleset, frame: pl.DataFrame) -> list[list[str]]:
    """The features' lines in the prompt, in their order, for each row of `frame`."""
    lines = {feature.name: feature.render(frame[feature.name]) for feature in ruleset.features}
    if "shown_text" in frame.columns:
        templates = {feature.name: feature.text for feature in ruleset.features}
        for row, (name, text) in enumerate(frame.select("shown_feature", "shown_text").iter_rows()):
            if name is not None:
                lines[name][row] = templates[name].replace("{value}", text)
    orders = frame["field_order"].to_list() if "field_order" in frame.columns else [None] * len(frame)
    return [[lines[name][row] for name in order or ruleset.feature_names] for row, order in enumerate(orders)]


def _fill(template: str, parts: dict[str, str]) -> str:
    """Replace the known placeholders in one pass, so that nothing inside a value is taken for a placeholder."""
    return PLACES.sub(lambda match: parts.get(match[1], match[0]), template)
