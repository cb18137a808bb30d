"""The evaluated policy of an exported adapter, ready to be asked: prompts of messages, log-probabilities of replies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.deployment.asked_cases import case_of
from hidden_rule.deployment.chat_replies import Vocabulary
from hidden_rule.deployment.chat_requests import RequestError
from hidden_rule.deployment.exported import AGAIN, RECORD, Exported
from hidden_rule.deployment.vllm_scores import VllmScores
from hidden_rule.evaluation.jobs import TRANSFORMERS
from hidden_rule.models.base import BaseModel
from hidden_rule.models.context import context_length
from hidden_rule.models.files import model_folder
from hidden_rule.models.finite import check_values, dtype_of
from hidden_rule.models.hardware import compute_dtype, default_device
from hidden_rule.models.loading import load_policy, load_tokenizer
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import Ruleset, load_ruleset


class Scores(Protocol):
    """What scores replies."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def is_alive(self) -> bool:
        """Whether prompts can be scored."""

    def __call__(self, prompts: list[list[int]]) -> torch.Tensor:
        """Log-probabilities (N, K) of the tokens of every branch of a trie."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class LoadedScores:
    """`Scores` by a model of this process, in evaluation mode."""

    model: Any
    trie: LabelTrie
    is_alive = True

    @property
    def dtype(self) -> torch.dtype:
        return dtype_of(self.model)

    @torch.no_grad()
    def __call__(self, prompts: list[list[int]]) -> torch.Tensor:
        return self.trie.branch_log_probs(self.model, prompts)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class ServedPolicy:
    """What scores replies, and what decisions are written in."""

    name: str  # by which clients ask for it
    scores: Scores
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

    def branch_log_probs(self, prompts: list[tuple[int, ...]]) -> torch.Tensor:
        """Float32 log-probabilities (N, K) of the tokens of every branch of the trie, on the CPU."""
        found = self.scores([list(prompt) for prompt in prompts]).cpu()
        check_values(found, "a log-probability of a reply", self.scores.dtype)
        return found


def vocabulary_of(tokenizer, labels: tuple[str, ...]) -> Vocabulary:
    """What decisions among labels are written in."""
    trie = label_trie(tokenizer, labels)
    texts = {token: tokenizer.decode([token]) for reply in trie.replies for token in reply}
    return Vocabulary(labels, tuple(render_reply(label, labels) for label in labels), trie, texts)


def load_served(exported: Exported, engine: str = TRANSFORMERS) -> ServedPolicy:
    """The policy of an export; raises UserError where its replies are not those that were evaluated.

    engine: transformers, of base and adapter | vllm, of the merged weights.
    """
    base = BaseModel(exported.manifest, exported.dtype, exported.chat_template_kwargs)
    tokenizer = load_tokenizer(base.manifest, base.chat_template_kwargs)
    vocabulary = vocabulary_of(tokenizer, exported.labels)
    for label, reply in zip(vocabulary.labels, vocabulary.trie.replies, strict=True):
        if list(reply) != list(exported.reply_tokens.get(label, ())):
            fault = f"the reply for {label} has other tokens than when it was exported"
            raise UserError(exported.folder / RECORD, "reply_tokens", fault, AGAIN)
    context = exported.context_length or context_of(base.manifest)
    return ServedPolicy(
        name=exported.name,
        scores=scores_of(exported, base, engine, vocabulary.trie, context),
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        template_kwargs=exported.chat_template_kwargs,
        batch_size=exported.batch_size,
        context=context,
        fingerprint=f"fp_{exported.files['adapter/adapter_model.safetensors']['sha256'][:12]}",
        ruleset=load_ruleset(exported.ruleset),
    )


def scores_of(exported: Exported, base: BaseModel, engine: str, trie: LabelTrie, context: int | None) -> Scores:
    """What scores the replies of an export."""
    device = default_device()
    if engine == TRANSFORMERS:
        return LoadedScores(load_policy(base, device, exported.adapter), trie)
    dtype = compute_dtype(exported.dtype, device)
    return VllmScores(exported.merged, dtype, trie, exported.batch_size, context)


def context_of(manifest: Path) -> int | None:
    """Tokens that the model of a manifest allows; None: no limit."""
    folder = model_folder(read_json(manifest), manifest)
    return context_length(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True))
