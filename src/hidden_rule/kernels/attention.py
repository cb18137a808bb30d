"""Attention over a prefix tree, and the computation of attention on a CPU.

A batch whose rows start alike is packed into one row: what several rows start with stands in it once, and no row is
padded. All of a model's layers work on tokens one by one, save attention, which is given the tree and lets each token
see the tokens of its own path alone. No cache of keys and values is involved, so gradients,
gradient checkpointing and wrappers behave as they do for any forward pass.

On a CPU PyTorch's fused kernel is slow with a mask and in the backward pass, and transformers' eager computation copies
keys and values once for each query head of a group and takes softmax through a float32 copy of the scores. Here the
query heads of a group stand side by side as rows of one product, and softmax stays in the type of the scores (PyTorch's
kernel sums in float32 all the same).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from hidden_rule.kernels.compat_transformers import register_attention, sdpa_attention_forward

CPU, GPU = "prefix_tree_eager", "prefix_tree_sdpa"
KEYS = 8  # compiled functions see a multiple of so many keys: rows of bfloat16 scores begin at multiples of 16 bytes
FOREIGN = ("position_bias", "sinks", "indices", "block_indices")  # arguments that single families give attention


@dataclass
class PrefixTree:
    """How attention reads a packed row of N tokens: as R stretches of W queries, each with the S keys of its path.

    A stretch are tokens that follow one another on one path. `queries` (R, W) and `keys` (R, S) are places in the
    packed row; a path's stand in the order of their positions, from 0 on. Past its end a stretch repeats its last
    token, and a path holds places that no query's position reaches. `slots` (N,): where in R x W each token's query is.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    slots: torch.Tensor
    positions: torch.Tensor  # (N,)
    n_calls: int = 0  # attention layers that followed the tree
    read: torch.Tensor | None = None  # (M,) places whose last states are read; None: all
    masks: dict = field(default_factory=dict)

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """The additive mask (R, 1, W, S); made once for all layers that see as far."""
        if window not in self.masks:
            query = self.positions[self.queries].unsqueeze(2)
            key = torch.arange(self.keys.size(1), device=query.device)
            seen = key <= query
            if window is not None:
                seen &= key > query - window
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            self.masks[window] = mask.masked_fill_(~seen, torch.finfo(dtype).min).unsqueeze(1)
        return self.masks[window]

    @functools.cached_property
    def plan(self) -> "TreePlan":
        """The same for compiled functions."""
        return TreePlan.of(self, len(self.positions))

    @functools.cached_property
    def plan_of_read(self) -> "TreePlan":
        """The same with the queries that are read alone: M queries, N keys."""
        width = self.queries.size(1)
        slots = self.slots[self.read]  # ascending, as places are
        stretches, counts = torch.unique_consecutive(slots // width, return_counts=True)
        starts = counts.cumsum(0) - counts
        column = torch.arange(len(slots)) - starts.repeat_interleave(counts)
        n_wide = int(counts.max())
        row = torch.arange(len(counts)).repeat_interleave(counts)
        queries = starts.unsqueeze(1) + torch.minimum(torch.arange(n_wide), (counts - 1).unsqueeze(1))
        read = PrefixTree(queries, self.keys[stretches], row * n_wide + column, self.positions[self.read])
        return TreePlan.of(read, len(self.positions))


Moves = tuple[torch.Tensor, torch.Tensor]  # of row i to be: those of sources[offsets[i]] to sources[offsets[i + 1] - 1]


def moves_of(sources: torch.Tensor, n: int) -> tuple[Moves, Moves]:
    """How rows of a tensor of `n` rows are taken, `sources` (M,) naming each, and how their gradients come back."""
    there = torch.arange(len(sources) + 1), sources
    ends = torch.bincount(sources, minlength=n).cumsum(0)
    return there, (torch.cat([ends.new_zeros(1), ends]), sources.argsort(stable=True))


@dataclass
class TreePlan:
    """A prefix tree as `tree_attention.py` moves rows along it: to stretches and paths, and back."""

    shape: tuple[int, int, int]  # stretches, queries of each, keys of each
    queries: Moves
    queries_back: Moves
    keys: Moves
    keys_back: Moves
    slots: Moves
    slots_back: Moves
    positions: torch.Tensor  # (R, W) of the queries
    counts: torch.Tensor  # (R,) queries of each stretch, without those that fill it up

    @classmethod
    def of(cls, tree: PrefixTree, n_keys: int) -> "TreePlan":
        """The plan of a tree, whose keys are places among `n_keys`; none that no query sees, but up to KEYS - 1."""
        keys = tree.keys[:, : -(-(int(tree.positions.max()) + 1) // KEYS) * KEYS]
        return cls(
            (*tree.queries.shape, keys.size(1)),
            *moves_of(tree.queries.flatten(), len(tree.positions)),
            *moves_of(keys.flatten(), n_keys),
            *moves_of(tree.slots, tree.queries.numel()),
            tree.positions[tree.queries],
            torch.bincount(tree.slots.unique() // tree.queries.size(1), minlength=len(tree.queries)),
        )

    @functools.cached_property
    def starts(self) -> torch.Tensor:
        """The first token (R,) of each stretch, whose tokens follow one another."""
        return self.counts.cumsum(0) - self.counts

    def seen(self, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each query (R, W) the first key that it sees, and the one after the last."""
        after = self.positions + 1
        return torch.zeros_like(after) if window is None else (after - window).clamp(min=0), after


def take(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Of states (1, heads, N, D) those of the places `index` (R, T), as (R, heads, T, D)."""
    return states[0].transpose(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def of_read(function: Callable, states: torch.Tensor, read: torch.Tensor | None) -> torch.Tensor:
    """`function` of each of N states (…, N, H) that is `read`, places (M,), and zero for the others; None: of all."""
    if read is None:
        return function(states)
    rows = states.flatten(0, -2)
    return spread(function(rows.index_select(0, read)), read, len(rows)).view(*states.shape[:-1], -1)


def spread(found: torch.Tensor, read: torch.Tensor, n: int) -> torch.Tensor:
    """Rows (n, H) that are `found` (M, H) at the places `read` (M,), and zero elsewhere."""
    return found.new_zeros(n, found.shape[-1]).index_copy(0, read, found)


def window_of(module) -> int | None:
    """The sliding window of an attention layer in tokens, or None where it sees everything."""
    kinds = getattr(module.config, "layer_types", None)
    slides = kinds is None or kinds[module.layer_idx] == "sliding_attention"
    return getattr(module.config, "sliding_window", None) if slides else None


def refuse(arguments: dict, *names: str) -> None:
    """Raise NotImplementedError if one of `names` is given: it would change what attention computes."""
    if given := [name for name in names if arguments.get(name) is not None]:
        raise NotImplementedError(f"attention with {', '.join(given)}")


def grouped_attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, softcap=None, **kwargs):
    """Attention output (B, T, heads, D) and None; `query` (B, heads, T, D), `key` and `value` (B, groups, S, D).

    `attention_mask` is additive and broadcasts to (B, heads, T, S), or is None. `s_aux` (heads,), of families with
    attention sinks: scores of a place that takes its share of softmax and gives no value. transformers gives the
    signature; what else changes attention in some family raises NotImplementedError.
    """
    refuse(kwargs, *FOREIGN)
    sinks = kwargs.get("s_aux")
    batch, heads, n_query, width = query.shape
    groups, n_key = key.shape[1], key.shape[2]
    rows = query.reshape(batch, groups, -1, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.matmul(rows, key.transpose(2, 3)).view(batch, heads, n_query, n_key)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask
    if sinks is not None:
        scores = torch.cat([scores, sinks.to(scores.dtype).view(1, -1, 1, 1).expand(batch, -1, n_query, 1)], dim=-1)
    weights = torch.softmax(scores, dim=-1)
    if sinks is not None:
        weights = weights[..., :n_key].contiguous()
    weights = torch.nn.functional.dropout(weights, p=dropout, training=module.training)
    output = torch.matmul(weights.view(batch, groups, -1, n_key), value)
    return output.view(batch, heads, n_query, value.shape[-1]).transpose(1, 2).contiguous(), None


def tree_attention(attend, module, query, key, value, tree: PrefixTree, **kwargs):
    """Attention output (1, N, heads, D) and None of a packed row of N tokens; `query`, `key`, `value` (1, ·, N, D)."""
    tree.n_calls += 1
    states = (take(query, tree.queries), take(key, tree.keys), take(value, tree.keys))
    output, _ = attend(module, *states, tree.mask(window_of(module), query.dtype), **kwargs)
    return output.flatten(0, 1).index_select(0, tree.slots).unsqueeze(0), None


def fused_attention(module, query, key, value, attention_mask, **kwargs):
    """`grouped_attention` by PyTorch's fused kernel, which knows neither sinks nor a soft cap."""
    refuse(kwargs, "s_aux", "softcap", *FOREIGN)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def make_attention(attend):
    """transformers' attention function that follows a tree where one is given, and is `attend` elsewhere."""

    def attention(module, query, key, value, attention_mask, prefix_tree=None, **kwargs):
        if prefix_tree is None:
            return attend(module, query, key, value, attention_mask, **kwargs)
        return tree_attention(attend, module, query, key, value, prefix_tree, **kwargs)

    return attention


register_attention(CPU, make_attention(grouped_attention), mask="eager")
register_attention(GPU, make_attention(fused_attention), mask="sdpa")
