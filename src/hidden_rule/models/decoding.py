"""A model's decisions: structured (the exact policy over the valid replies) or free (generation).

Greedy generation may be given a draft of each reply, which one forward pass confirms or not, as speculative decoding
does with a small model's tokens (Leviathan et al. 2023, arXiv 2211.17192, with temperature 0): a reply is kept if each
of its tokens is the likeliest after those before it. So it is the reply that generation gives, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import DynamicCache

from hidden_rule.kernels.head import logit_form
from hidden_rule.kernels.meter import lap
from hidden_rule.kernels.shared_prefix import common_prefix_length, sharing_fault, tail_states
from hidden_rule.models.finite import check_values, dtype_of
from hidden_rule.models.generation import make_neutral
from hidden_rule.models.tokens import cut_reply, stop_tokens
from hidden_rule.models.trie import LabelTrie

MIN_SHARED = 8  # tokens: a cache of fewer costs more than it saves


def batches_by(key, rows: list[list[int]], batch_size: int) -> list[list[int]]:
    """Indices of rows in batches of neighbours by `key` of a row."""
    order = sorted(range(len(rows)), key=lambda i: (key(rows[i]), i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


@torch.no_grad()
def label_log_probs(
    model,
    trie: LabelTrie,
    prompts: list[list[int]],
    batch_size: int,
    progress: str | None = None,
    wrapped: bool = False,
) -> torch.Tensor:
    """Float32 log-probabilities (N, L) of each reply after each prompt, on the CPU; `model` is in evaluation mode.

    `wrapped`: a trainer's model, asked through the call of `add_shared_prefix_forward`, which brings together
    the weights that processes share.
    """
    result = torch.empty(len(prompts), len(trie.replies))
    batches = batches_by(list, prompts, batch_size)  # by their tokens: neighbours share the most
    for batch in tqdm(batches, desc=progress, unit="batch", disable=progress is None, mininterval=1.0):
        rows = [prompts[i] for i in batch]
        with lap(model, "structured", by="positions"):
            branches = model(label_trie=trie, prompts=rows, at=1.0) if wrapped else trie.branch_log_probs(model, rows)
            result[batch] = trie.reply_log_probs(branches).cpu()
        check_values(result[batch], "a log-probability of a reply", dtype_of(model))
    return result


def shared_cache(model, rows: list[list[int]]) -> tuple[DynamicCache | None, int]:
    """A cache of the keys and values of the rows' common start, for each row, and its length; None and 0 without one.

    None too where it would not be exact: where layers keep other state than keys and values, and where a sliding
    window would count the padding that stands between start and rest.
    """
    shared = min(common_prefix_length(rows), min(map(len, rows)) - 1)
    config = model.config.get_text_config()
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    slides = slides and getattr(config, "sliding_window", None) is not None
    if shared < MIN_SHARED or len(rows) == 1 or slides or sharing_fault(model) is not None:
        return None, 0
    cache = DynamicCache(config=config)
    device = model.get_input_embeddings().weight.device
    model.base_model(input_ids=torch.tensor([rows[0][:shared]], device=device), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(rows))
    return cache, shared


@dataclass(frozen=True)
class Generation:
    """How replies are generated.

    Greedy at temperature 0; at another drawn from the whole vocabulary, as GRPO's completions are, whatever the model's
    own generation settings say, with torch's global random generator.
    """

    batch_size: int  # prompts at a time
    max_new_tokens: int
    temperature: float = 0.0

    def arguments(self) -> dict:
        """transformers' arguments of `generate`."""
        if not self.temperature:
            return {"max_new_tokens": self.max_new_tokens, "do_sample": False}
        drawn = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        return {"max_new_tokens": self.max_new_tokens, "repetition_penalty": 1.0, **drawn}


@torch.no_grad()
def are_greedy(model, prompts: list[list[int]], drafts: Sequence[Sequence[int]]) -> list[bool]:
    """Whether greedy decoding writes each draft after its prompt: each token is the likeliest of the vocabulary."""
    tails = [[prompt[-1], *draft[:-1]] for prompt, draft in zip(prompts, drafts, strict=True)]
    states = tail_states(model, [prompt[:-1] for prompt in prompts], tails, list(range(len(prompts))))
    picked = [(i, place) for i, draft in enumerate(drafts) for place in range(len(draft))]
    hidden = states[tuple(torch.tensor(picked, device=states.device).unbind(1))]
    logits = logit_form(model).of(model.get_output_embeddings()(hidden).float())
    likeliest = logits.argmax(-1).cpu().split([len(draft) for draft in drafts])
    return [found.tolist() == list(draft) for found, draft in zip(likeliest, drafts, strict=True)]


def confirmed(model, prompts: list[list[int]], drafts: Sequence[Sequence[int]], batch_size: int) -> list[int]:
    """Indices of the prompts to which greedy decoding writes the draft.

    A batch of which most are something else is the last one looked at: generation takes as long for a part of a batch.
    """
    found: list[int] = []
    for batch in batches_by(list, prompts, batch_size):
        with lap(model, "draft", by="positions"):
            greedy = are_greedy(model, [prompts[i] for i in batch], [drafts[i] for i in batch])
        found += [i for i, is_greedy in zip(batch, greedy, strict=True) if is_greedy]
        if 2 * sum(greedy) < len(batch):
            break
    return found


@torch.no_grad()
def generate_replies(
    model,
    tokenizer,
    prompts: list[list[int]],
    generation: Generation,
    progress: str | None = None,
    drafts: Sequence[Sequence[int]] | None = None,
) -> tuple[list[str], int]:
    """A reply to each prompt and the number of tokens generated; a batch ends once all of it has.

    `drafts`: of each reply, as token ids, for greedy decoding: those that it confirms are not generated. A draft that
    does not end, or is longer than replies may be, is left.
    """
    device = model.get_input_embeddings().weight.device
    make_neutral(model)  # also of a model that `load_model` did not load
    stops = stop_tokens(tokenizer, model)
    replies, n_generated, left = [""] * len(prompts), 0, list(range(len(prompts)))
    if drafts is not None and not generation.temperature:
        fit = [i for i in left if drafts[i][-1] in stops and len(drafts[i]) <= generation.max_new_tokens]
        places = confirmed(model, [prompts[i] for i in fit], [drafts[i] for i in fit], generation.batch_size)
        for i in (fit[place] for place in places):
            replies[i], n_tokens = cut_reply(tokenizer, list(drafts[i]), stops)
            n_generated += n_tokens
            left.remove(i)
    batches = batches_by(len, [prompts[i] for i in left], generation.batch_size)  # of like lengths, so little is padded
    for places in tqdm(batches, desc=progress, unit="batch", disable=progress is None, mininterval=1.0):
        batch = [left[place] for place in places]
        rows = [prompts[i] for i in batch]
        cache, shared = shared_cache(model, rows)
        width = max(map(len, rows))
        gaps = [[0] * (width - len(row)) for row in rows]  # between what is shared and the rest, or on the left
        ids = [
            row[:shared] + [tokenizer.pad_token_id] * len(gap) + row[shared:]
            for row, gap in zip(rows, gaps, strict=True)
        ]
        mask = [[1] * shared + gap + [1] * (len(row) - shared) for row, gap in zip(rows, gaps, strict=True)]
        with lap(model, "free", by="calls"):
            tokens = model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                past_key_values=cache,
                **generation.arguments(),
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=stops,
            )[:, width:].tolist()
        for i, row in zip(batch, tokens, strict=True):
            replies[i], n_tokens = cut_reply(tokenizer, row, stops)
            n_generated += n_tokens
    return replies, n_generated
