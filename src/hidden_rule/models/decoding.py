"""A model's decisions: structured (the exact policy over the valid replies) or free (generation)."""

from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import DynamicCache

from hidden_rule.kernels.meter import lap
from hidden_rule.kernels.shared_prefix import common_prefix_length, sharing_fault
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
def generate_replies(
    model, tokenizer, prompts: list[list[int]], generation: Generation, progress: str | None = None
) -> tuple[list[str], int]:
    """A reply to each prompt and the number of tokens generated; a batch ends once all of it has."""
    device = model.get_input_embeddings().weight.device
    make_neutral(model)  # also of a model that `load_model` did not load
    stops = stop_tokens(tokenizer, model)
    replies, n_generated = [""] * len(prompts), 0
    batches = batches_by(len, prompts, generation.batch_size)  # of like lengths, so that little is padded
    for batch in tqdm(batches, desc=progress, unit="batch", disable=progress is None, mininterval=1.0):
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
