"""Prompts of the cases of a file, before anything trains: each is plain text to the model, and short enough."""

import polars as pl

from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.control_tokens import check_text, control_pattern
from hidden_rule.models.tokens import encode_prompts
from hidden_rule.task.dataset import read_split
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import Ruleset

LONG = "cut texts (data.cut_texts), leave columns out (data.features), or take a model with a longer context"
BATCH = 10_000  # prompts whose tokens are held at a time


def read_cases(splits, ruleset: Ruleset) -> pl.DataFrame:
    """The cases of all splits of a file."""
    return pl.concat([read_split(path, ruleset) for path in splits])


def longest_prompt(tokenizer, ruleset: Ruleset, cases: pl.DataFrame, template_kwargs: dict) -> tuple[int, int]:
    """Tokens of the longest prompt, and the row of its case in the file.

    Raises UserError, with file, row and column, for a text that holds a control token of the model.
    """
    pattern, found = control_pattern(tokenizer), (0, 0)
    for batch in cases.iter_slices(BATCH):
        for feature in ruleset.features:
            if feature.kind == "number":
                continue
            for row, text in batch.select("application_id", feature.name).iter_rows():
                if text is not None:
                    check_text(pattern, text, ruleset.source, f"row {row}, column {feature.column}")
        prompts = encode_prompts(tokenizer, render_prompts(ruleset, batch), template_kwargs, ruleset.source)
        n, place = max((len(prompt), -place) for place, prompt in enumerate(prompts))
        if n > found[0]:
            found = (n, batch["application_id"][-place])
    return found


def check_case_length(config, longest: tuple[int, int], n_reply: int, ruleset: Ruleset) -> None:
    """Raise UserError, with file and row, if the longest prompt and a reply exceed the model's context."""
    n, row = longest
    check_context(config, [[0] * n], n_reply, Blame(f"row {row}", LONG, ruleset.source))
