"""Attention over a prefix tree, and the computation of attention on a CPU.

A batch whose rows share prefixes is packed into one row: the tokens of every level of the tree, each once. All of a
model's layers work on tokens one by one, save attention, which is given the tree and lets each token see the tokens of
its own path alone. No cache of keys and values is involved, so gradients, gradient checkpointing and wrappers behave as
they do for any forward pass.

On a CPU PyTorch's fused kernel is slow with a mask and in the backward pass, and transformers' eager computation copies
keys and values once for each query head of a group and takes softmax through a float32 copy of the scores. Here the
query heads of a group stand side by side as rows of one product, and softmax stays in the type of the scores (PyTorch's
kernel sums in float32 all the same).
"""

from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

CPU, GPU = "prefix_tree_eager", "prefix_tree_sdpa"
NO_TOKEN = torch.iinfo(torch.int64).max  # the position of padding as a key: after everything


@dataclass
class Level:
    """One level of a prefix tree: B rows of T tokens, padded on the right; `parent` (B,) are rows one level up."""

    positions: torch.Tensor  # (B, T); padding repeats the row's last
    is_token: torch.Tensor  # (B, T), false for padding
    parent: torch.Tensor | None


@dataclass
class PrefixTree:
    """The levels of a batch, the root's first, and what its layers share."""

    levels: list[Level]
    n_calls: int = 0  # attention layers that followed the tree
    masks: dict = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """Tokens of each level in the packed row, padding included."""
        return [level.positions.numel() for level in self.levels]

    def mask(self, i: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """The additive mask (B, 1, T, S) of level i over the S keys of its path; made once for all layers."""
        if (i, window) not in self.masks:
            keys = None
            for level in self.levels[: i + 1]:
                own = level.positions.masked_fill(~level.is_token, NO_TOKEN)
                keys = own if keys is None else torch.cat([take_rows(keys, level.parent), own], dim=1)
            query = self.levels[i].positions.unsqueeze(2)
            seen = keys.unsqueeze(1) <= query
            if window is not None:
                seen &= keys.unsqueeze(1) > query - window
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            self.masks[i, window] = mask.masked_fill_(~seen, torch.finfo(dtype).min).unsqueeze(1)
        return self.masks[i, window]


def take_rows(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`rows[index]` along the first dimension; a view where there is one row to take."""
    return rows.expand(len(index), *rows.shape[1:]) if rows.size(0) == 1 else rows[index]


def window_of(module) -> int | None:
    """The sliding window of an attention layer in tokens, or None where it sees everything."""
    kinds = getattr(module.config, "layer_types", None)
    slides = kinds is None or kinds[module.layer_idx] == "sliding_attention"
    return getattr(module.config, "sliding_window", None) if slides else None


def grouped_attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, softcap=None, **kwargs):
    """Attention output (B, T, heads, D) and None; `query` (B, heads, T, D), `key` and `value` (B, groups, S, D).

    `attention_mask` is additive and broadcasts to (B, heads, T, S), or is None. transformers gives the signature.
    """
    if kwargs.get("s_aux") is not None:
        raise NotImplementedError("attention sinks: load the model with attn_implementation='eager'")
    batch, heads, n_query, width = query.shape
    groups, n_key = key.shape[1], key.shape[2]
    rows = query.reshape(batch, groups, -1, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.matmul(rows, key.transpose(2, 3)).view(batch, heads, n_query, n_key)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1)
    weights = torch.nn.functional.dropout(weights, p=dropout, training=module.training)
    output = torch.matmul(weights.view(batch, groups, -1, n_key), value)
    return output.view(batch, heads, n_query, width).transpose(1, 2).contiguous(), None


def tree_attention(attend, module, query, key, value, tree: PrefixTree, **kwargs):
    """Attention output (1, N, heads, D) and None of a packed row of N tokens; `query`, `key`, `value` (1, ·, N, D)."""
    tree.n_calls += 1
    window, outputs, path = window_of(module), [], ()
    parts = zip(*(states.split(tree.sizes, dim=2) for states in (query, key, value)), strict=True)
    for i, (level, states) in enumerate(zip(tree.levels, parts, strict=True)):
        rows, width = level.positions.shape
        own_query, *own = (part[0].unflatten(1, (rows, width)).transpose(0, 1) for part in states)
        if path:
            own = [torch.cat([take_rows(a, level.parent), b], dim=2) for a, b in zip(path, own, strict=True)]
        path = own
        output, _ = attend(module, own_query, *own, tree.mask(i, window, query.dtype), **kwargs)
        outputs.append(output.reshape(1, rows * width, *output.shape[2:]))
    return torch.cat(outputs, dim=1), None


def make_attention(attend):
    """transformers' attention function that follows a tree where one is given, and is `attend` elsewhere."""

    def attention(module, query, key, value, attention_mask, prefix_tree=None, **kwargs):
        if prefix_tree is None:
            return attend(module, query, key, value, attention_mask, **kwargs)
        return tree_attention(attend, module, query, key, value, prefix_tree, **kwargs)

    return attention


AttentionInterface.register(CPU, make_attention(grouped_attention))
AttentionMaskInterface.register(CPU, eager_mask)
AttentionInterface.register(GPU, make_attention(sdpa_attention_forward))
AttentionMaskInterface.register(GPU, sdpa_mask)
