"""Ask a model for decisions: structured (the exact policy over the valid replies) and free (greedy generation)."""

import torch
from tqdm import tqdm

from .trie import LabelTrie


def by_length(rows: list[list[int]], batch_size: int) -> list[list[int]]:
    """Indices of rows in batches of like lengths, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


@torch.no_grad()
def label_log_probs(
    model, trie: LabelTrie, prompts: list[list[int]], batch_size: int, progress: str | None = None
) -> torch.Tensor:
    """Float32 log-probabilities (N, L) of each reply after each prompt, on the CPU; `model` is in evaluation mode."""
    result = torch.empty(len(prompts), len(trie.replies))
    batches = by_length(prompts, batch_size)
    for batch in tqdm(batches, desc=progress, unit="batch", disable=progress is None, mininterval=1.0):
        result[batch] = trie.log_probs(model, [prompts[i] for i in batch]).cpu()
    return result


@torch.no_grad()
def generate_replies(
    model, tokenizer, prompts: list[list[int]], batch_size: int, max_new_tokens: int, progress: str | None = None
) -> tuple[list[str], int]:
    """Greedy replies to each prompt and the number of tokens generated; a batch ends once all of it has."""
    device = model.get_input_embeddings().weight.device
    replies, n_generated = [""] * len(prompts), 0
    batches = by_length(prompts, batch_size)
    for batch in tqdm(batches, desc=progress, unit="batch", disable=progress is None, mininterval=1.0):
        width = max(len(prompts[i]) for i in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]) :] = 1
        tokens = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )[:, width:].tolist()
        for i, row in zip(batch, tokens, strict=True):
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            n_generated += end
            replies[i] = tokenizer.decode(row[:end], skip_special_tokens=True)
    return replies, n_generated
