"""Before a training that explores freely: what its start replies, drawn as the training will draw."""

if "snakemake" in globals():  # before torch is imported
    from hidden_rule.models.devices import lease_for

    lease_for(snakemake)

import hidden_rule.models.startup  # noqa: F401, I001 - before the other libraries

import polars as pl
import torch

from hidden_rule.models import decoding
from hidden_rule.models import loading as models
from hidden_rule.task.dataset import read_split
from hidden_rule.models.tokens import encode_prompts
from hidden_rule.core.logs import logged
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.core.tables import SAMPLES, write_table


def sample_start(
    *, manifest, ruleset, split, adapter, model_config, settings, applications, replies, batch_size, seed, output
) -> None:
    """Write table SAMPLES: replies to `applications` rows of a split's file, as many of one label as of another.

    `adapter` is the folder of the start's adapter, or None for the base model; `settings` are the training's
    `group_size`, `temperature` and `max_new_tokens`. Each gets `replies` of them, or as many as a group has if that is
    more; `seed` draws them.
    """
    ruleset, tokenizer = load_ruleset(ruleset), models.load_tokenizer(manifest)
    model = models.load_policy(manifest, model_config["dtype"], models.default_device(), adapter)
    frame = read_split(split, ruleset)
    turn = pl.int_range(pl.len()).over("label")  # a label's first row, then each label's second, …
    frame = frame.sort(turn, maintain_order=True).head(applications)
    conversations = ruleset.render_prompts(frame)
    prompts = encode_prompts(tokenizer, conversations, model_config["chat_template_kwargs"])
    n = max(replies, settings["group_size"])
    torch.manual_seed(seed)
    drawn, _ = decoding.generate_replies(
        model,
        tokenizer,
        [prompt for prompt in prompts for _ in range(n)],
        batch_size,
        settings["max_new_tokens"],
        "replies before training",
        settings["temperature"],
    )
    table = frame.select("application_id", "label", "fired_rule").select(pl.all().repeat_by(n).explode())
    predicted = [parse_reply(reply, ruleset.labels) for reply in drawn]
    table = table.with_columns(reply=pl.Series(drawn, dtype=pl.String), predicted=pl.Series(predicted, dtype=pl.String))
    write_table(table, output, SAMPLES)


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        sample_start(
            manifest=snakemake.input.model,
            ruleset=snakemake.input.ruleset,
            split=snakemake.input.split,
            adapter=snakemake.params.adapter,
            model_config=snakemake.params.model,
            settings=snakemake.params.settings,
            **snakemake.params.numbers,
            batch_size=snakemake.params.batch_size,
            seed=int(snakemake.wildcards.seed),
            output=snakemake.output[0],
        )
