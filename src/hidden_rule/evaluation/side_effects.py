"""What an adapter changes on ordinary text: log-likelihood, and divergence from the base model over the vocabulary.

At each scored position, with p the base model's distribution of the next token and q the trained model's,

    KL(p ‖ q) = Σ p(v) (log p(v) − log q(v)) over all tokens v of the vocabulary, in nats

Both are computed from the same loaded model, once with its adapter and once without. The network runs in its own type,
as it does wherever it is used; the output layer and log-softmax are computed in float32, since logits rounded to
bfloat16 would put a floor of some 0.001 nats under every divergence.
"""

from dataclasses import dataclass

import polars as pl
import torch
from tqdm import tqdm

from hidden_rule.core.tables import SIDE_EFFECTS
from hidden_rule.kernels.head import logit_form
from hidden_rule.kernels.shared_prefix import run_whole
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.decoding import batches_by
from hidden_rule.models.tokens import encode_answer, encode_prompts

NUMBERS = 2**24  # float32 numbers of a block of positions × vocabulary: 64 MiB


@dataclass(frozen=True)
class Item:
    """A text as tokens; those from number `start` on are scored, given all before them."""

    kind: str  # passage | instruction
    name: str
    ids: list[int]
    start: int


def encode_items(tokenizer, texts: dict, template_kwargs: dict) -> list[Item]:
    """Passages as they stand, all but their first token scored; instructions through the chat template.

    Of an instruction the answer and the end of the turn are scored. `texts` as `texts.load_texts` gives them.
    """
    items = []
    for name, text in texts["passages"].items():
        items.append(Item("passage", name, tokenizer.encode(text), 1))
    asked = [[{"role": "user", "content": item["ask"]}] for item in texts["instructions"].values()]
    prompts = encode_prompts(tokenizer, asked, template_kwargs)
    for prompt, (name, item) in zip(prompts, texts["instructions"].items(), strict=True):
        answer = encode_answer(tokenizer, item["answer"])
        items.append(Item("instruction", name, [*prompt, *answer], len(prompt)))
    return items


def vocabulary_log_probs(model, weight: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Float32 log-probabilities (N, V) of hidden states (N, H); `weight` is the output layer's in float32."""
    bias = model.get_output_embeddings().bias
    logits = torch.nn.functional.linear(hidden.float(), weight, None if bias is None else bias.float())
    return torch.log_softmax(logit_form(model).of(logits), dim=-1)


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats (N,) of log-probabilities (N, V)."""
    return torch.einsum("nv,nv->n", log_p.exp(), log_p - log_q)


def scores(model, weight: torch.Tensor, base: torch.Tensor, trained: torch.Tensor, chosen: torch.Tensor):
    """Log-probabilities of the `chosen` tokens (N,) without and with the adapter, and divergences: (3, N).

    From hidden states (N, H) without it and with it.
    """
    log_p, log_q = (vocabulary_log_probs(model, weight, hidden) for hidden in (base, trained))
    of_chosen = [log.gather(1, chosen.unsqueeze(1)).squeeze(1) for log in (log_p, log_q)]
    return torch.stack([*of_chosen, divergence(log_p, log_q)])


def check_items(model, items: list[Item], texts_path) -> None:
    """Raise UserError if a text does not fit the model's context."""
    blame = Blame("texts", "take shorter texts, or a model with a longer context", str(texts_path))
    check_context(model.config, [item.ids for item in items], 0, blame)


@torch.no_grad()
def compare(model, items: list[Item], batch_size: int, progress: str | None = None) -> pl.DataFrame:
    """A row an item: `kind`, `item`, `n_tokens`, and means a token of log-likelihoods and divergence, in nats.

    `model` is a PEFT model in evaluation mode; with its adapter disabled it is the base model.
    """
    network = model.get_base_model()
    weight = network.get_output_embeddings().weight.float()
    rows: list[dict] = [{} for _ in items]
    batches = batches_by(len, [item.ids for item in items], batch_size)  # of like lengths, so that little is padded
    for batch in tqdm(batches, desc=progress, unit="batch", disable=progress is None, mininterval=1.0):
        ids = [items[i].ids for i in batch]
        scored = [(row, t) for row, i in enumerate(batch) for t in range(items[i].start, len(items[i].ids))]
        row, position = torch.tensor(scored, device=weight.device).unbind(1)
        chosen = torch.tensor([ids[r][t] for r, t in scored], device=weight.device)
        trained = run_whole(network, ids)[row, position - 1]  # a state predicts the token after it
        with model.disable_adapter():
            base = run_whole(network, ids)[row, position - 1]
        size = max(1, NUMBERS // len(weight))
        blocks = [
            scores(network, weight, *block)
            for block in zip(base.split(size), trained.split(size), chosen.split(size), strict=True)
        ]
        values = torch.cat(blocks, dim=1).double().cpu()
        for r, i in enumerate(batch):
            log_p, log_q, kl = values[:, (row == r).cpu()].mean(1).tolist()
            rows[i] = {
                "kind": items[i].kind, "item": items[i].name, "n_tokens": len(items[i].ids) - items[i].start,
                "log_likelihood_base": log_p, "log_likelihood": log_q, "kl": max(0.0, kl),
            }  # fmt: skip
    return pl.DataFrame(rows, schema={name: SIDE_EFFECTS[name] for name in SIDE_EFFECTS if name in rows[0]})
