"""Put the applications of a split to a trained model and write down every reply."""

if "snakemake" in globals():  # before torch is imported
    from hidden_rule.models.devices import lease_for

    lease_for(snakemake)

import hidden_rule.models.startup  # noqa: F401, I001 - before the other libraries

import time
from pathlib import Path

import polars as pl
import torch

from hidden_rule.models import decoding
from hidden_rule.models import loading as models
from hidden_rule.training import common as training
from hidden_rule.task.dataset import read_split
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.core.errors import UserError
from hidden_rule.core.logs import logged
from hidden_rule.evaluation.predictions import named_frames, predictions_frame
from hidden_rule.task.prompts import draw_examples, render_conversations
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.core.tables import predictions_schema, write_table


def check_length(prompts, model, max_new_tokens: int, condition: str) -> None:
    """Raise a UserError if examples make a prompt, with its reply, longer than what the model was made for."""
    length = max(map(len, prompts)) + max_new_tokens
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and length > limit:
        fault = f"prompt and reply of {length:,} tokens are more than the model's {limit:,}"
        raise UserError("config.yaml", f"conditions.{condition}.prompt.examples", fault, "give fewer examples")


def evaluate(
    *,
    manifest,
    ruleset,
    splits,
    adapter,
    model_config,
    settings,
    condition,
    seed,
    predictions,
    cost,
    prompt=None,
    train=None,
) -> None:
    """Write the predictions of one condition and seed, and what they cost.

    `splits` maps a split to its parquet file, and `suites` to that of all suites; `adapter` is the adapter's folder, or
    None for the untrained model. `prompt` is the condition's, for one that says more than the ruleset's own; where it
    asks for examples, `seed` draws them from `train`, the training split's file.
    Under structured decoding the reply is the most probable of the valid ones; under free decoding it is generated
    greedily. The probabilities `p_<LABEL>` are those of structured decoding in both cases.
    """
    began = time.perf_counter()
    device = models.default_device()
    ruleset = load_ruleset(ruleset)
    tokenizer = models.load_tokenizer(manifest)
    model = models.load_policy(manifest, model_config["dtype"], device, adapter)
    labels, trie = ruleset.labels, label_trie(tokenizer, ruleset.labels)
    batch_size, frames, n_generated = settings["batch_size"], [], 0
    few_shot = isinstance(prompt, dict)
    examples = draw_examples(read_split(train, ruleset), prompt["examples"], seed) if few_shot else None
    named, prompts = named_frames(splits, ruleset), []
    for _, _, split in named:
        conversations = render_conversations(ruleset, split, prompt, examples)
        prompts.append(encode_prompts(tokenizer, conversations, model_config["chat_template_kwargs"]))
        if few_shot:
            check_length(prompts[-1], model, settings["max_new_tokens"], condition)
    together = [row for rows in prompts for row in rows]  # neighbours of all suites share what they start with
    log_probs = decoding.label_log_probs(model, trie, together, batch_size, "structured").split(list(map(len, prompts)))
    for (name, suite, split), rows, of_rows in zip(named, prompts, log_probs, strict=True):
        probabilities = of_rows.double().exp().numpy()
        if name in settings["structured"]:
            replies = [render_reply(labels[i]) for i in of_rows.argmax(1).tolist()]
            frames.append(predictions_frame(split, labels, suite, "structured", replies, probabilities))
        if name in settings["free"]:
            replies, n = decoding.generate_replies(
                model, tokenizer, rows, batch_size, settings["max_new_tokens"], f"{suite}, free"
            )
            n_generated += n
            frames.append(predictions_frame(split, labels, suite, "free", replies, probabilities))
    write_table(pl.concat(frames), predictions, predictions_schema(list(labels)))
    training.write_cost(
        cost,
        condition=condition,
        seed=seed,
        stage="evaluate",
        began=began,
        n_tokens_trained=0,
        n_tokens_generated=n_generated,
        device=device,
    )


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        evaluate(
            manifest=snakemake.input.model,
            ruleset=snakemake.input.ruleset,
            splits={Path(path).stem: path for path in snakemake.input.splits},
            adapter=snakemake.params.adapter,
            model_config=snakemake.params.model,
            settings=snakemake.params.settings,
            condition=snakemake.wildcards.condition,
            seed=int(snakemake.wildcards.seed),
            predictions=snakemake.output.predictions,
            cost=snakemake.output.cost,
            prompt=snakemake.params.prompt,
            train=next(iter(snakemake.input.examples), None),
        )
