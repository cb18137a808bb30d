"""The start of a training: model, adapter, tokens and data, the same for every method."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from hidden_rule.core.usage import Snapshot
from hidden_rule.models.adapters import add_adapter, load_adapter
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.dataset import read_split
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import Ruleset, load_ruleset
from hidden_rule.training.job import TrainingJob


@dataclass(frozen=True)
class Split:
    """A split of the data as a trainer needs it; each of its columns has an entry a row."""

    labels: list[str]
    conversations: list[list[dict]]
    prompts: list[list[int]]  # token ids
    fired_rules: list[str] = field(default_factory=list)  # that decides, `default` where none does

    def head(self, n: int) -> "Split":
        """The first `n` rows."""
        return Split(self.labels[:n], self.conversations[:n], self.prompts[:n], self.fired_rules[:n])


@dataclass(frozen=True)
class Start:
    """A model with a trainable adapter, and the data as all methods use it."""

    model: torch.nn.Module
    tokenizer: object
    ruleset: Ruleset
    trie: LabelTrie
    train: Split
    validation: Split
    device: torch.device
    begun: Snapshot = field(default_factory=Snapshot)  # when its loading began
    states: Path | None = None  # of its cases, made for all trainings


def read_tokens(path, ruleset: Ruleset, tokenizer, template_kwargs: dict) -> Split:
    """The split of a parquet file, its prompts tokenized."""
    frame = read_split(path, ruleset)
    conversations = render_prompts(ruleset, frame)
    prompts = encode_prompts(tokenizer, conversations, template_kwargs)
    return Split(frame["label"].to_list(), conversations, prompts, frame["fired_rule"].to_list())


def load_start(job: TrainingJob, device: torch.device | None = None, stock: bool = False) -> Start:
    """Load model, adapter (new, or that of `job.start_from`) and data; the job's seed draws a new adapter's weights.

    `stock`: model and adapter as transformers and PEFT make them, without our kernels: for comparison.
    """
    begun, device = Snapshot(), device or default_device()
    ruleset = load_ruleset(job.data.ruleset)
    tokenizer = load_tokenizer(job.base.manifest, job.base.chat_template_kwargs)
    check_ruleset(tokenizer, job.data.ruleset, ruleset)
    network = load_model(job.base.manifest, job.base.dtype, device, stock)
    torch.manual_seed(job.seed)
    if job.start_from:
        model = load_adapter(network, job.start_from, trainable=True)
    else:
        model = add_adapter(network, job.lora, stock)
    train, validation = (
        read_tokens(path, ruleset, tokenizer, job.base.chat_template_kwargs)
        for path in (job.data.train, job.data.validation)
    )
    trie = label_trie(tokenizer, ruleset.labels)
    n_reply = job.settings["max_new_tokens"] if job.decoding == "free" else max(map(len, trie.replies))
    check_context(network.config, train.prompts + validation.prompts, n_reply, Blame.ruleset(job.data.ruleset))
    return Start(model, tokenizer, ruleset, trie, train, validation, device, begun, job.data.states)
