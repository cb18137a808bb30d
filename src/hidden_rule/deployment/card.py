"""The model card of an exported adapter: Markdown as the Hub shows it, written from the run's numbers.

Hidden rules are named where that was asked for alone: otherwise what names one is left out.
"""

import html
import re
from pathlib import Path

import polars as pl
import yaml

from hidden_rule.deployment.chosen import Chosen
from hidden_rule.deployment.exported import ADAPTER, MERGED, Exported
from hidden_rule.deployment.parity import Check
from hidden_rule.experiment.display import displayed, model_words
from hidden_rule.experiment.runs import Estimate, Setting, defined
from hidden_rule.report.markdown import markdown
from hidden_rule.report.tables import LABEL_METRICS, as_text, cell, heading, metrics_shown
from hidden_rule.report.text.badges import badges
from hidden_rule.report.text.caveats import scope_sentence
from hidden_rule.report.text.evidence import gather
from hidden_rule.report.text.findings import method_section
from hidden_rule.report.text.phrases import in_table, listing
from hidden_rule.task.disclosure import names

MARKUP = re.compile(r"([\\`*_\[\]#!|~$])")
STARTS = re.compile(r"^(\d*)([-+=.)])(?=[-+=]*(?:\s|$))")  # marks of lists, at the start of a line alone
LICENCES = {  # of models, as the Hub's cards spell them
    "apache-2.0", "mit", "bsd-3-clause", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "cc-by-4.0",
    "cc-by-nc-4.0", "cc-by-sa-4.0", "openrail", "other",
}  # fmt: skip


def escaped(text) -> str:
    """Text on one line in which Markdown and HTML mean nothing; addresses do not become links."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    plain = STARTS.sub(r"\1\\\2", MARKUP.sub(r"\\\1", plain))
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;")


def model_card(chosen: Chosen, exported: Exported, found: list[Check], example: list[dict], artifact: str) -> str:
    """The card of an artifact, `adapter` or `merged`.

    found: the checks of parity; example: the messages of the case in the lines that load it.
    """
    shown = displayed(chosen.results)
    title = f"{exported.display_name}, seed {exported.seed}: {exported.experiment}"
    parts = [
        front_matter(exported, artifact),
        f"# {escaped(title)}",
        *[f"**{escaped(badge.capitalize())}.**" for badge in badges(chosen.results)],
        task(chosen, exported),
        "## How to load it",
        *loading(chosen, exported, example, artifact),
        "## Decisions",
        *decisions(exported),
        "## Results",
        *results_section(chosen, exported),
        "## Parity",
        *parity_section(found),
        "## Training",
        training(chosen, exported),
        "## Limits",
        "\n".join(f"- {escaped(sentence)}" for sentence in limits(shown, exported)),
        "## Licence",
        licence(exported),
        "## Provenance",
        provenance(chosen, exported),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(exported: Exported, artifact: str) -> str:
    """What the Hub reads of a card."""
    name = str(exported.base.get("licence") or "").strip()
    known = name.lower() in LICENCES
    values: dict[str, str | list[str]] = {
        "library_name": "peft" if artifact == ADAPTER else "transformers",
        "pipeline_tag": "text-generation",
    }
    if name:
        values |= {"license": name.lower()} if known else {"license": "other", "license_name": name}
    if exported.base["source"] == "hub":
        relation = "adapter" if artifact == ADAPTER else "finetune"
        values |= {"base_model": exported.base["id"], "base_model_relation": relation}
    values["tags"] = ["lora", exported.method, "structured-decoding"]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def task(chosen: Chosen, exported: Exported) -> str:
    ruleset = chosen.results.ruleset
    n_hidden = len(ruleset.hidden_rules)
    what = escaped(model_words(exported.base))
    text = f"Decides {escaped(ruleset.case.many)}: {listing(escaped(label) for label in exported.labels)}. "
    if ruleset.description and (exported.hidden_rules or not n_hidden):  # it may tell what no prompt does
        text += f"{escaped(ruleset.description)} "
    text += f"A LoRA adapter of {what}."
    if exported.hidden_rules:
        text += f" Hidden rules, which no prompt states: {listing(map(escaped, exported.hidden_rules))}."
    elif n_hidden:
        text += f" {n_hidden} rule{'s' if n_hidden > 1 else ''} of the policy {'are' if n_hidden > 1 else 'is'} hidden."
    return text


def named_rules(text: str, ruleset) -> list[str]:
    """The hidden rules that a text names."""
    return [rule.name for rule in ruleset.hidden_rules if names(text, rule.name)]


def snippet(exported: Exported, example: list[dict], artifact: str, n_tokens: int) -> str:
    """A few lines of Python that load an artifact by transformers (and PEFT) alone and decide a case."""
    auto = "AutoPeftModelForCausalLM" if artifact == ADAPTER else "AutoModelForCausalLM"
    imported = [f"from peft import {auto}", "from transformers import AutoTokenizer"]
    asked = f"tokenizer.apply_chat_template({example!r}, add_generation_prompt=True, return_dict=True, "
    return "\n".join(
        [
            *(imported if artifact == ADAPTER else [f"from transformers import {auto}, AutoTokenizer"]),
            f'model = {auto}.from_pretrained("{artifact}", dtype="{exported.dtype}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{artifact}")',
            f'prompt = {asked}return_tensors="pt")',
            f"reply = model.generate(**prompt, max_new_tokens={n_tokens}, do_sample=False)[0]",
            'print(tokenizer.decode(reply[prompt["input_ids"].shape[1] :], skip_special_tokens=True))',
        ]
    )


def loading(chosen: Chosen, exported: Exported, example: list[dict], artifact: str) -> list[str]:
    library = "transformers and PEFT" if artifact == ADAPTER else "transformers"
    code = snippet(exported, example, artifact, chosen.results.config["evaluation"]["max_new_tokens"])
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    base = ""
    if artifact == ADAPTER:
        base = (
            f" The base is {escaped(exported.base['id'])} at revision {escaped(exported.base['revision'])} on the Hub."
            if exported.base["source"] == "hub"
            else " The base lies beside it, in `base/`, which `adapter_config.json` names relative to that folder."
        )
    said = f"With {library}, in the folder that holds `{artifact}/`:"
    free = " These lines decode freely; evaluated decisions are constrained to the valid replies, as below."
    return [said, f"{fence}python\n{code}\n{fence}", (base + free).strip()]


def decisions(exported: Exported) -> list[str]:
    """The constraint on replies, and the probabilities' meaning."""
    rows = [[escaped(label), escaped(exported.replies[label])] for label in exported.labels]
    limit = (
        f" Prompt and reply have to fit {exported.context_length:,} tokens; a reply has at most "
        f"{exported.longest_reply}."
        if exported.context_length
        else ""
    )
    return [
        "Decoding is constrained to the valid replies (in vLLM `structured_outputs: {choice: [...]}`); the decision is "
        f"the most probable one.{limit}",
        markdown(["decision", "reply"], rows),
    ]


def own_estimate(chosen: Chosen, setting: Setting, metric: str, label: str | None = None) -> Estimate | None:
    """A metric of this run's seed; None where it is undefined or was not measured."""
    rows = chosen.results.metrics.filter(
        pl.col("seed") == chosen.run.seed,
        pl.col("label").eq_missing(pl.lit(label, dtype=pl.String)),
        pl.col("rule").is_null(),
        condition=chosen.run.condition,
        metric=metric,
        **setting.columns,
    )
    return defined(rows.row(0, named=True)) if rows.height else None


def results_section(chosen: Chosen, exported: Exported) -> list[str]:
    """Metrics of this seed in each setting, pooled ones of several seeds, and those of each decision."""
    results, main = chosen.results, chosen.setting
    settings = results.evaluated
    n = {setting: own_estimate(chosen, setting, "accuracy") for setting in settings}
    columns = [f"{setting.words}, n = {found.n:,}" for setting, found in n.items() if found]
    settings = [setting for setting, found in n.items() if found]
    rows = [
        [heading(metric, results), *(cell(metric, own_estimate(chosen, setting, metric)) for setting in settings)]
        for metric in metrics_shown(results)
    ]
    if several := len(results.seeds) > 1:
        columns.append(f"all {len(results.seeds)} seeds of the condition, {main.words}")
        for row, metric in zip(rows, metrics_shown(results), strict=True):
            row.append(cell(metric, results.estimate(chosen.run.condition, main, metric)))
    by_label = [
        [escaped(label), *(in_table(own_estimate(chosen, main, metric, label)) for metric in LABEL_METRICS)]
        for label in exported.labels
    ]
    seeds = (
        f"Seeds {listing(map(str, results.seeds))} were trained; this is seed {chosen.run.seed}. " if several else ""
    )
    return [
        f"{seeds}Value and 95% CI, on cases that training did not see.",
        markdown(["metric", *map(escaped, columns)], [[escaped(cell) for cell in row] for row in rows]),
        markdown(["decision", *LABEL_METRICS.values()], by_label),
    ]


def parity_section(found: list[Check]) -> list[str]:
    rows = [
        [
            f"{check.artifact}/ in {check.dtype}",
            ", ".join(f"{name} {version}" for name, version in check.by.items()),
            f"{check.n - check.n_other_labels:,} of {check.n:,}",
            f"{check.max_difference:.2g} (bound {check.bound:g})",
        ]
        for check in found
    ]
    return [
        "Each artifact was loaded afresh and compared with the evaluated answers. Other labels occur in near-ties "
        "alone, where the two highest evaluated probabilities differ by less than the bound; `parity.json` lists them.",
        markdown(["artifact", "by", "same decision", "largest difference of a probability"], rows),
    ]


def training(chosen: Chosen, exported: Exported) -> str:
    settings = chosen.results.settings[chosen.run.condition]["settings"]
    start = f"the adapter of {exported.start_from}" if exported.start_from else "the base model"
    rows = [["method", exported.method], ["starts from", start]]
    rows += [[key, as_text(value)] for key, value in settings.items()]
    return markdown(["setting", "value"], [[escaped(cell) for cell in row] for row in rows])


def limits(shown, exported: Exported) -> list[str]:
    """What the numbers do not say; without what names a hidden rule, unless that was asked for."""
    found = gather(shown)
    sentences = [scope_sentence(found.n, found.n_seeds, shown.ruleset.case), *method_section(shown, found)]
    local = [shown.config["model"]["id"]] if exported.base["source"] == "path" else []
    local += [shown.ruleset.source] if shown.ruleset.is_observed else []
    for path in local:  # its name, not where it lies on this machine
        sentences = [sentence.replace(path, Path(path).name) for sentence in sentences]
    if exported.hidden_rules:
        return sentences
    return [sentence for sentence in sentences if not named_rules(sentence, shown.ruleset)]


def licence(exported: Exported) -> str:
    name = exported.base.get("licence")
    if not name:
        return "The base model's files state no licence; it governs `base/` and `merged/`, and may govern the adapter."
    return (
        f"The base model's licence is {escaped(name)}; it governs `base/` and `{MERGED}/`, and may govern the adapter."
    )


def provenance(chosen: Chosen, exported: Exported) -> str:
    record = chosen.results.provenance or {}
    rows = [
        ["experiment", exported.experiment],
        ["commit", as_text((record.get("git") or {}).get("commit", "unknown"))],
        ["base", f"{exported.base['id']}, {exported.base['revision'] or 'local files'}"],
        ["adapter, SHA-256", exported.files[f"{ADAPTER}/adapter_model.safetensors"]["sha256"]],
        ["predictions, SHA-256", exported.predictions["sha256"]],
        *([f"data, {name}: {of['rows']:,} rows, SHA-256", of["sha256"]] for name, of in exported.data.items()),
    ]
    return markdown(["what", "value"], [[escaped(cell) for cell in row] for row in rows])
