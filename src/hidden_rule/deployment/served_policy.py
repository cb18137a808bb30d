"""The evaluated policy of an exported adapter, ready to be asked: prompts of messages, log-probabilities of replies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.deployment.asked_cases import case_of
from hidden_rule.deployment.chat_replies import Vocabulary
from hidden_rule.deployment.chat_requests import RequestError
from hidden_rule.deployment.exported import AGAIN, RECORD, Exported
from hidden_rule.models.base import BaseModel
from hidden_rule.models.context import context_length
from hidden_rule.models.files import model_folder
from hidden_rule.models.finite import check_values, dtype_of
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_policy, load_tokenizer
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import Ruleset, load_ruleset


@dataclass(frozen=True)
class ServedPolicy:
    """A model in evaluation mode, and what its decisions are written in."""

    name: str  # by which clients ask for it
    model: Any
    tokenizer: Any
    vocabulary: Vocabulary
    template_kwargs: dict
    batch_size: int
    context: int | None  # tokens of prompt and reply; None: no limit
    fingerprint: str
    ruleset: Ruleset  # to make messages of a case; it decides nothing

    @property
    def trie(self) -> LabelTrie:
        return self.vocabulary.trie

    @property
    def longest_reply(self) -> int:
        """In tokens, with the one that ends the turn."""
        return max(map(len, self.trie.replies))

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """Token ids of a conversation; raises RequestError for one that this model cannot be asked."""
        try:
            (prompt,) = encode_prompts(self.tokenizer, [messages], self.template_kwargs, "messages")
        except UserError as error:
            raise RequestError(f"{error.fault}; {error.remedy}" if error.remedy else error.fault, "messages") from None
        if self.context is not None and len(prompt) + self.longest_reply > self.context:
            n = len(prompt) + self.longest_reply
            fault = f"prompt and reply of {n:,} tokens are more than the model's {self.context:,}"
            raise RequestError(fault, "messages", "context_length_exceeded")
        return prompt

    def messages(self, case: object) -> list[dict[str, str]]:
        """The conversation that asks for a decision of a case, an object of features; RequestError for what is none."""
        if not isinstance(case, dict):
            raise RequestError("case must be an object of features", "case")
        try:
            (chat,) = render_prompts(self.ruleset, case_of(case, self.ruleset, "case"))
        except UserError as error:
            raise RequestError(str(error), "case") from None
        return chat

    @torch.no_grad()
    def branch_log_probs(self, prompts: list[tuple[int, ...]]) -> torch.Tensor:
        """Float32 log-probabilities (N, K) of the tokens of every branch of the trie, on the CPU."""
        found = self.trie.branch_log_probs(self.model, [list(prompt) for prompt in prompts]).cpu()
        check_values(found, "a log-probability of a reply", dtype_of(self.model))
        return found


def vocabulary_of(tokenizer, labels: tuple[str, ...]) -> Vocabulary:
    """What decisions among labels are written in."""
    trie = label_trie(tokenizer, labels)
    texts = {token: tokenizer.decode([token]) for reply in trie.replies for token in reply}
    return Vocabulary(labels, tuple(render_reply(label, labels) for label in labels), trie, texts)


def load_served(exported: Exported) -> ServedPolicy:
    """The policy of an export; raises UserError where its replies are not those that were evaluated."""
    base = BaseModel(exported.manifest, exported.dtype, exported.chat_template_kwargs)
    tokenizer = load_tokenizer(base.manifest, base.chat_template_kwargs)
    vocabulary = vocabulary_of(tokenizer, exported.labels)
    for label, reply in zip(vocabulary.labels, vocabulary.trie.replies, strict=True):
        if list(reply) != list(exported.reply_tokens.get(label, ())):
            fault = f"the reply for {label} has other tokens than when it was exported"
            raise UserError(exported.folder / RECORD, "reply_tokens", fault, AGAIN)
    return ServedPolicy(
        name=exported.name,
        model=load_policy(base, default_device(), exported.adapter),
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        template_kwargs=exported.chat_template_kwargs,
        batch_size=exported.batch_size,
        context=exported.context_length or context_of(base.manifest),
        fingerprint=f"fp_{exported.files['adapter/adapter_model.safetensors']['sha256'][:12]}",
        ruleset=load_ruleset(exported.ruleset),
    )


def context_of(manifest: Path) -> int | None:
    """Tokens that the model of a manifest allows; None: no limit."""
    folder = model_folder(read_json(manifest), manifest)
    return context_length(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True))
