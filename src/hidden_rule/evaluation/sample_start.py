"""Replies of a training's start, drawn as the training's first step draws: for free exploration."""

import polars as pl
from tqdm import tqdm

from hidden_rule.core.tables import SAMPLES, write_table
from hidden_rule.evaluation.jobs import SamplingJob
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.finite import naming_run
from hidden_rule.models.free_replies import Sampling, draw_replies, uniforms
from hidden_rule.models.generation import make_neutral
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_policy, load_tokenizer
from hidden_rule.models.tokens import cut_reply, encode_prompts
from hidden_rule.task.dataset import read_split
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.ruleset import load_ruleset


@naming_run
def sample_start(job: SamplingJob) -> None:
    """Write the table SAMPLES: replies to some of a split's applications, as many of one label as of another."""
    ruleset, tokenizer = load_ruleset(job.ruleset), load_tokenizer(job.base.manifest, job.base.chat_template_kwargs)
    check_ruleset(tokenizer, job.ruleset, ruleset)
    model = load_policy(job.base, default_device(), job.adapter)
    frame = read_split(job.split, ruleset)
    turn = pl.int_range(pl.len()).over("label")  # a label's first row, then each label's second, …
    frame = frame.sort(turn, maintain_order=True).head(job.applications)
    prompts = encode_prompts(tokenizer, render_prompts(ruleset, frame), job.base.chat_template_kwargs)
    check_context(model.config, prompts, job.settings["max_new_tokens"], Blame.ruleset(job.ruleset))
    n = max(job.replies, job.settings["group_size"])
    make_neutral(model)
    sampling = Sampling.of(tokenizer, model, job.settings)
    rows = [tuple(prompt) for prompt in prompts for _ in range(n)]
    numbers, drawn = uniforms(rows, job.seed, 0, sampling.max_new_tokens), []
    batches = range(0, len(rows), job.batch_size)
    for start in tqdm(batches, desc="replies before training", unit="batch", mininterval=1.0):
        part = slice(start, start + job.batch_size)
        ids = draw_replies(model, rows[part], numbers[part], sampling)
        drawn += [cut_reply(tokenizer, reply, list(sampling.stops))[0] for reply in ids]
    table = frame.select("application_id", "label", "fired_rule").select(pl.all().repeat_by(n).explode())
    predicted = [parse_reply(reply, ruleset.labels) for reply in drawn]
    table = table.with_columns(reply=pl.Series(drawn, dtype=pl.String), predicted=pl.Series(predicted, dtype=pl.String))
    write_table(table, job.output, SAMPLES)
