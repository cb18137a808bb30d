"""The conditions of one seed of a finished run, ready to be asked: one base model in memory, an adapter a condition.

References are there too: a prompt that says more is asked of the base model, a classifier is fitted again to the
training split, which takes less than a second.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from peft import PeftModel

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.deployment.chosen import base_folder
from hidden_rule.evaluation import classifiers
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run
from hidden_rule.models.adapters import load_adapters
from hidden_rule.models.base import BaseModel
from hidden_rule.models.case_prompts import check_case_length, longest_prompt
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.prompts import draw_examples, render_prompts
from hidden_rule.task.ruleset import Ruleset


class Panel:
    """Respondents by the names of their conditions, in the order in which results show them.

    Raises UserError for an adapter or a base model that is missing or damaged.
    """

    def __init__(self, results: Results, seed: int, conditions: list[str] | None = None):
        self.results, self.seed, self.ruleset = results, seed, results.ruleset
        self.conditions = [name for name in results.conditions if conditions is None or name in conditions]
        specs = results.config["conditions"]
        self._specs: dict[str, dict] = {name: specs[name] for name in self.conditions}
        self._classifiers: dict[str, Any] = {}
        if any("reference" not in spec for spec in self._specs.values()):
            self._load()

    def _load(self) -> None:
        layout = self.results.layout
        folders = {name: layout.adapter(Run(name, self.seed)) for name, of in self._specs.items() if "method" in of}
        for folder in folders.values():
            if not (folder / "adapter_config.json").is_file():
                raise UserError(folder, None, "has no adapter", "run the experiment again to rebuild it")
        with base_of(self.results) as base:
            self._template_kwargs = base.chat_template_kwargs
            self.tokenizer = load_tokenizer(base.manifest, base.chat_template_kwargs)
            network = load_model(base.manifest, base.dtype, default_device())
        self._adapters = {name: f"adapter_{i}" for i, name in enumerate(folders)}  # PEFT takes not every name
        self._peft: PeftModel | None = None
        if folders:
            self._peft = load_adapters(network, {self._adapters[name]: folder for name, folder in folders.items()})
            network = self._peft.get_base_model()
        self._network = network.eval()

    @cached_property
    def trie(self) -> LabelTrie:
        return label_trie(self.tokenizer, self.ruleset.labels)

    @property
    def _longest_reply(self) -> int:
        return max(map(len, self.trie.replies))

    @property
    def asks_a_model(self) -> bool:
        return hasattr(self, "_network")

    def check_one(self, case: pl.DataFrame, blame: Blame) -> None:
        """Raise UserError, as `blame` says, for a case of one row that a model cannot be asked."""
        if not self.asks_a_model:
            return
        prompts = encode_prompts(
            self.tokenizer, render_prompts(self.ruleset, case), self._template_kwargs, blame.file or blame.key
        )
        check_context(self._network.config, prompts, self._longest_reply, blame)

    def check(self, cases: pl.DataFrame, ruleset: Ruleset) -> None:
        """Raise UserError for a case that a model cannot be asked: a control token in a text, a prompt too long.

        `ruleset`: the panel's, whose `source` and columns are what errors name; `application_id` is the case's row.
        """
        if not self.asks_a_model:
            return
        longest = longest_prompt(self.tokenizer, ruleset, cases, self._template_kwargs)
        check_case_length(self._network.config, longest, self._longest_reply, ruleset)

    def probabilities(self, condition: str, cases: pl.DataFrame, progress: str | None = None) -> np.ndarray:
        """Float64 probabilities (N, L) of the labels, in the ruleset's order, that a condition gives to N cases."""
        spec = self._specs[condition]
        if "reference" in spec:
            classifier = self._classifier(condition, spec["reference"])
            return classifiers.label_probabilities(classifier, self.ruleset, cases)
        prompt = spec.get("prompt")
        examples = None
        if isinstance(prompt, dict):
            examples = draw_examples(self.results.split("train"), prompt["examples"], self.seed)
        chats = render_prompts(self.ruleset, cases, prompt, examples)
        prompts = encode_prompts(self.tokenizer, chats, self._template_kwargs)
        blame = Blame(f"prompt of {condition}", "shorten the texts of the case", self.ruleset.source or "case")
        check_context(self._network.config, prompts, self._longest_reply, blame)
        with self._policy(condition) as network:
            batch_size = self.results.config["evaluation"]["batch_size"]
            log_probs = label_log_probs(network, self.trie, prompts, batch_size, progress)
        return log_probs.double().exp().numpy()

    def _classifier(self, condition: str, kind: str):
        if condition not in self._classifiers:
            train = self.results.split("train")
            self._classifiers[condition] = classifiers.fit(kind, self.ruleset, train, self.seed)
        return self._classifiers[condition]

    @contextlib.contextmanager
    def _policy(self, condition: str) -> Iterator[Any]:
        """The network with the adapter of a condition, or with none."""
        if self._peft is None:
            yield self._network
        elif condition in self._adapters:
            self._peft.set_adapter(self._adapters[condition], inference_mode=True)
            yield self._network
        else:
            with self._peft.disable_adapter():
                yield self._network


@contextlib.contextmanager
def base_of(results: Results) -> Iterator[BaseModel]:
    """The base model of a finished run, in the type in which the run computed, found also where results were moved."""
    path = results.layout.model
    manifest = read_json(path) if path.is_file() else None
    if not isinstance(manifest, dict) or not {"source", "id", "revision", "files"} <= manifest.keys():
        raise UserError(path, None, "is missing or damaged", "run the experiment again")
    dtype = manifest.get("inspection", {}).get("facts", {}).get("dtype") or results.config["model"]["dtype"]
    folder = base_folder(manifest, results.layout.folder)
    found = {"folder": str(folder.resolve())} if manifest["source"] == "package" else {}
    with tempfile.TemporaryDirectory(prefix="base-") as scratch:
        record = Path(scratch) / "model.json"
        record.write_text(json.dumps(manifest | found), encoding="utf-8")
        yield BaseModel(record, dtype, results.config["model"]["chat_template_kwargs"])
