"""An adapter's side effects: changes on ordinary text, and leakage of the hidden rules."""

import polars as pl

from hidden_rule.core.tables import LEAKS, SIDE_EFFECTS, write_table
from hidden_rule.evaluation import leakage, side_effects
from hidden_rule.evaluation.jobs import SideEffectsJob
from hidden_rule.models.adapters import load_adapter
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.finite import naming_run
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.task.ordinary_text import load_texts
from hidden_rule.task.ruleset import load_ruleset


@naming_run
def measure_side_effects(job: SideEffectsJob) -> None:
    """Write the tables SIDE_EFFECTS and LEAKS of one trained condition and seed."""
    texts, ruleset = load_texts(job.texts), load_ruleset(job.ruleset)
    tokenizer = load_tokenizer(job.base.manifest, job.base.chat_template_kwargs)
    check_ruleset(tokenizer, job.ruleset, ruleset)
    network = load_model(job.base.manifest, job.base.dtype, default_device())
    model = load_adapter(network, job.adapter, trainable=False).eval()  # its adapter can be switched off
    template_kwargs = job.base.chat_template_kwargs
    items = side_effects.encode_items(tokenizer, texts, template_kwargs)
    side_effects.check_items(network, items, job.texts)
    effects = side_effects.compare(model, items, job.batch_size, "texts")
    leaks = leakage.probe(model, tokenizer, ruleset, job.batch_size, template_kwargs)
    run = [pl.lit(job.condition).alias("condition"), pl.lit(job.seed, dtype=pl.Int64).alias("seed")]
    write_table(effects.select(*run, pl.all()), job.effects, SIDE_EFFECTS)
    write_table(leaks.select(*run, pl.all()), job.leaks, LEAKS)
