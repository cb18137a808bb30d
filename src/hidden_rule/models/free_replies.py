"""Replies drawn freely, token by token, each from uniform numbers of its own.

A reply depends on the model, its prompt and its row of numbers alone: up to rounding it is the same whatever is drawn
beside it, so that rows can be drawn at once or in parts. The keys and values of a prompt are computed once for all its
replies, and those of the tokens that all prompts start with once for all prompts, where that is exact
(`sharing_fault`); elsewhere every row is computed whole.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from hidden_rule.kernels.shared_prefix import sharing_fault
from hidden_rule.models.decoding import shared_cache
from hidden_rule.models.tokens import stop_tokens

ROWS = 64  # whose probabilities are summed at a time
BLOCK = 256  # tokens whose probabilities are summed in float32, before sums of blocks are in float64


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn: over the whole vocabulary at `temperature` (above 0), up to the first of `stops`."""

    max_new_tokens: int
    temperature: float
    stops: tuple[int, ...]
    pad: int  # token that fills rows up; never part of a reply unless it was drawn

    @classmethod
    def of(cls, tokenizer, network, settings: dict) -> "Sampling":
        """How a method's settings say that completions are drawn."""
        stops = tuple(stop_tokens(tokenizer, network))
        return cls(settings["max_new_tokens"], settings["temperature"], stops, tokenizer.pad_token_id)


def fall(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float) -> torch.Tensor:
    """The token (N,) that each of the numbers (N,) in [0, 1) falls on, under softmax(logits (N, V) / temperature).

    Inversion of the cumulative distribution (Devroye 1986, Non-Uniform Random Variate Generation, chapter III.2), of
    blocks of tokens first and then within one, as sums of the whole vocabulary take longer than the softmax. A token
    without a chance is never drawn.
    """
    wide = torch.float32 if logits.device.type == "mps" else torch.float64  # MPS has no float64
    tokens = []
    for part, numbers in zip(logits.split(ROWS), uniforms.split(ROWS), strict=True):
        chances = torch.softmax(part.float() / temperature, -1)
        blocks = torch.nn.functional.pad(chances, (0, -chances.size(1) % BLOCK)).unflatten(
            1, (-1, BLOCK)
        )  # (N, V/B, B)
        ends = blocks.sum(-1).to(wide).cumsum(-1)
        falls = numbers.to(part.device, wide).unsqueeze(1) * ends[:, -1:]
        falls = torch.minimum(falls, torch.nextafter(ends[:, -1:], torch.zeros_like(falls)))
        block = torch.searchsorted(ends, falls, right=True)  # the first that ends behind: with chances in it
        begins = torch.nn.functional.pad(ends, (1, 0)).gather(1, block)
        within = blocks[torch.arange(len(part), device=part.device), block.squeeze(1)]
        place = torch.searchsorted(within.to(wide).cumsum(-1), falls - begins, right=True)
        last = BLOCK - 1 - (within > 0).flip(1).int().argmax(1, keepdim=True)  # that has a chance
        tokens.append((BLOCK * block + torch.minimum(place, last)).squeeze(1))
    return torch.cat(tokens)


class _Drawn(LogitsProcessor):
    """Leaves greedy decoding no token but the one that a row's number for this place falls on.

    uniforms: (N, T), a column a token; width: tokens of a row before the first of them.
    """

    def __init__(self, uniforms: torch.Tensor, temperature: float, width: int):
        self.uniforms, self.temperature, self.width = uniforms, temperature, width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = fall(scores, self.uniforms[:, input_ids.size(1) - self.width], self.temperature)
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens.unsqueeze(1), 0.0)


@dataclass
class _Rows:
    """Rows to go on from: token ids and mask (N, W), padded, and the keys and values of what is computed already."""

    ids: torch.Tensor
    mask: torch.Tensor
    cache: object | None = None

    @classmethod
    def padded(cls, rows: list[list[int]], pad: int, device, cache=None, shared: int = 0) -> "_Rows":
        """Rows filled up between the `shared` tokens that a cache holds and the rest, or on the left."""
        width = max(map(len, rows))
        gaps = [[pad] * (width - len(row)) for row in rows]
        ids = [row[:shared] + gap + row[shared:] for row, gap in zip(rows, gaps, strict=True)]
        mask = [[1] * shared + [0] * len(gap) + [1] * (len(row) - shared) for row, gap in zip(rows, gaps, strict=True)]
        return cls(torch.tensor(ids, device=device), torch.tensor(mask, device=device), cache)

    def generate(self, model, sampling: Sampling, n: int, **options):
        """transformers' `generate` of up to `n` tokens, greedily."""
        return model.generate(
            input_ids=self.ids,
            attention_mask=self.mask,
            past_key_values=self.cache,
            max_new_tokens=n,
            do_sample=False,
            pad_token_id=sampling.pad,
            eos_token_id=list(sampling.stops),
            **options,
        )

    def continued(self, model, uniforms: torch.Tensor, sampling: Sampling) -> list[list[int]]:
        """What follows each row, drawn with `uniforms` (N, T); with more behind its end."""
        width, n = self.ids.size(1), uniforms.size(1)
        drawn = LogitsProcessorList([_Drawn(uniforms, sampling.temperature, width)])
        return self.generate(model, sampling, n, logits_processor=drawn)[:, width:].tolist()


@torch.no_grad()
def draw_replies(
    model, prompts: Sequence[Sequence[int]], uniforms: torch.Tensor, sampling: Sampling
) -> list[list[int]]:
    """Token ids of a reply to each of N prompts, the token that ends it included; `model` is in evaluation mode.

    uniforms: (N, max_new_tokens) in [0, 1). The same prompt may stand there many times. The model's own generation
    settings are taken to be neutral (`make_neutral`).
    """
    device = model.get_input_embeddings().weight.device
    uniforms = uniforms[:, : sampling.max_new_tokens].to(device, torch.float32 if device.type == "mps" else None)
    if sharing_fault(model) is None:
        replies = _draw_from_shared(model, prompts, uniforms, sampling)
    else:
        replies = _Rows.padded(list(map(list, prompts)), sampling.pad, device).continued(model, uniforms, sampling)
    return [until_stop(reply, sampling.stops) for reply in replies]


def _draw_from_shared(model, prompts: Sequence, uniforms: torch.Tensor, sampling: Sampling) -> list[list[int]]:
    """The replies, a prompt's keys and values computed once; each with more behind its end."""
    device = uniforms.device
    index = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    distinct = [list(prompt) for prompt in index]
    start = _Rows.padded(distinct, sampling.pad, device, *shared_cache(model, distinct))
    first = start.generate(model, sampling, 1, output_logits=True, return_dict_in_generate=True)
    of_prompt = torch.tensor([index[tuple(prompt)] for prompt in prompts], device=device)
    tokens = fall(first.logits[0][of_prompt], uniforms[:, 0], sampling.temperature)
    replies = [[token] for token in tokens.tolist()]
    going = [i for i, (token,) in enumerate(replies) if token not in sampling.stops]
    if not going or sampling.max_new_tokens == 1:
        return replies
    chosen = of_prompt[going]
    ids = torch.cat([start.ids[chosen], tokens[going].unsqueeze(1)], 1)
    mask = torch.cat([start.mask[chosen], torch.ones_like(ids[:, :1])], 1)
    first.past_key_values.batch_select_indices(chosen)
    rest = _Rows(ids, mask, first.past_key_values).continued(model, uniforms[going, 1:], sampling)
    for i, more in zip(going, rest, strict=True):
        replies[i] += more
    return replies


def uniforms(rows: list[tuple[int, ...]], seed: int, step: int, *shape: int) -> torch.Tensor:
    """Uniform numbers (N, *shape) in [0, 1) for each row: of its tokens, `seed`, `step` and how often it came before.

    So a group explores alike whatever the micro-batches, the number of processes and the step a training resumed at.
    """
    result = torch.empty(len(rows), *shape, dtype=torch.float64)
    places: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row, []).append(i)
    for row, where in places.items():
        key = int.from_bytes(hashlib.sha256(repr((seed, step, row)).encode()).digest()[:16])
        result[where] = torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).random((len(where), *shape)))
    return result


def until_stop(ids: list[int], stops) -> list[int]:
    """A reply's tokens up to the first of `stops`, that one included."""
    return ids[: next((i + 1 for i, token in enumerate(ids) if token in stops), len(ids))]
