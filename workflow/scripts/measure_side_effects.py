"""What an adapter changes beside the policy: ordinary text, and what it tells of the hidden rules."""

if "snakemake" in globals():  # before torch is imported
    from hidden_rule.models.devices import lease_for

    lease_for(snakemake)

import hidden_rule.models.startup  # noqa: F401, I001 - before the other libraries

import polars as pl
import torch

from hidden_rule.evaluation import leakage as leak
from hidden_rule.models import loading as models
from hidden_rule.evaluation import side_effects
from hidden_rule.core.logs import logged
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.core.tables import LEAKS, SIDE_EFFECTS, write_table
from hidden_rule.task.ordinary_text import load_texts


def measure_side_effects(
    *, manifest, ruleset, texts, adapter, model_config, batch_size, condition, seed, effects_path, leaks_path
) -> None:
    """Write the tables SIDE_EFFECTS and LEAKS of one trained condition and seed.

    `adapter` is the folder of its adapter; `batch_size` texts or prompts are computed at a time.
    """
    texts, ruleset = load_texts(texts), load_ruleset(ruleset)
    tokenizer = models.load_tokenizer(manifest)
    model = models.load_model(manifest, model_config["dtype"], models.default_device())
    model = models.load_adapter(model, adapter, trainable=False).eval()  # its adapter can be switched off
    template_kwargs = model_config["chat_template_kwargs"]
    items = side_effects.encode_items(tokenizer, texts, template_kwargs)
    effects = side_effects.compare(model, items, batch_size, "texts")
    leaks = leak.probe(model, tokenizer, ruleset, batch_size, template_kwargs)
    run = [pl.lit(condition).alias("condition"), pl.lit(seed, dtype=pl.Int64).alias("seed")]
    write_table(effects.select(*run, pl.all()), effects_path, SIDE_EFFECTS)
    write_table(leaks.select(*run, pl.all()), leaks_path, LEAKS)


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        measure_side_effects(
            manifest=snakemake.input.model,
            ruleset=snakemake.input.ruleset,
            texts=snakemake.input.texts,
            adapter=snakemake.params.adapter,
            model_config=snakemake.params.model,
            batch_size=snakemake.params.batch_size,
            condition=snakemake.wildcards.condition,
            seed=int(snakemake.wildcards.seed),
            effects_path=snakemake.output.side_effects,
            leaks_path=snakemake.output.leaks,
        )
