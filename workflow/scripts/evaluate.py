"""Put the applications of a split to a trained model and write down every reply."""

if "snakemake" in globals():  # before torch is imported
    from hidden_rule.devices import lease_for

    lease_for(snakemake)

import hidden_rule.startup  # noqa: F401, I001 - before the other libraries

import time
from pathlib import Path

import polars as pl
import torch

from hidden_rule import decoding, models, training
from hidden_rule.dataset import read_split, read_suites
from hidden_rule.encoding import encode_prompts, label_trie
from hidden_rule.logs import logged
from hidden_rule.replies import parse_reply, render_reply
from hidden_rule.ruleset import load_ruleset
from hidden_rule.tables import predictions_schema, write_table


def predictions_frame(split: pl.DataFrame, labels, suite, mode, replies, log_probs) -> pl.DataFrame:
    """A row an application in the predictions' schema, from its reply and the replies' log-probabilities (N, L)."""
    predicted = [parse_reply(reply, labels) for reply in replies]
    probabilities = log_probs.double().exp()
    return split.select(
        "application_id",
        pl.lit(suite).alias("suite"),
        pl.lit(mode).alias("decoding"),
        "label",
        "fired_rule",
        "label_without_hidden",
        pl.Series("reply", replies, dtype=pl.String),
        pl.Series("predicted", predicted, dtype=pl.String),
        pl.Series("is_valid", [label is not None for label in predicted], dtype=pl.Boolean),
        *(pl.Series(f"p_{label}", probabilities[:, i].numpy()) for i, label in enumerate(labels)),
    )


def named_frames(splits, ruleset) -> list[tuple[str, str, pl.DataFrame]]:
    """Name in the settings, suite and applications of each split, and of each suite in the table of suites."""
    frames = []
    for name, path in splits.items():
        if name == "suites":
            by_suite = read_suites(path, ruleset).partition_by("suite", maintain_order=True)
            frames += [(name, frame["suite"][0], frame) for frame in by_suite]
        else:
            frames.append((name, name, read_split(path, ruleset)))
    return frames


def evaluate(*, manifest, ruleset, splits, adapter, model_config, settings, condition, seed, predictions, cost) -> None:
    """Write the predictions of one condition and seed, and what they cost.

    `splits` maps a split to its parquet file, and `suites` to that of all suites; `adapter` is the adapter's folder, or
    None for the untrained model.
    Under structured decoding the reply is the most probable of the valid ones; under free decoding it is generated
    greedily. The probabilities `p_<LABEL>` are those of structured decoding in both cases.
    """
    began = time.perf_counter()
    device = models.default_device()
    ruleset = load_ruleset(ruleset)
    tokenizer = models.load_tokenizer(manifest)
    model = models.load_model(manifest, model_config["dtype"], device)
    if adapter:  # not merged: in bfloat16 that would round the adapter's part away
        model = models.load_adapter(model, adapter, trainable=False).get_base_model().eval()
    labels, trie = ruleset.labels, label_trie(tokenizer, ruleset.labels)
    batch_size, frames, n_generated = settings["batch_size"], [], 0
    for name, suite, split in named_frames(splits, ruleset):
        prompts = encode_prompts(tokenizer, ruleset.render_prompts(split), model_config["chat_template_kwargs"])
        log_probs = decoding.label_log_probs(model, trie, prompts, batch_size, f"{suite}, structured")
        if name in settings["structured"]:
            replies = [render_reply(labels[i]) for i in log_probs.argmax(1).tolist()]
            frames.append(predictions_frame(split, labels, suite, "structured", replies, log_probs))
        if name in settings["free"]:
            replies, n = decoding.generate_replies(
                model, tokenizer, prompts, batch_size, settings["max_new_tokens"], f"{suite}, free"
            )
            n_generated += n
            frames.append(predictions_frame(split, labels, suite, "free", replies, log_probs))
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
        )
