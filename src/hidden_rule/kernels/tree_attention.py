"""An attention layer over a prefix tree whose rotation, gathering and softmax are compiled functions.

`attention.py` says what a prefix tree is. There PyTorch rotates queries and keys, copies those of each stretch, adds a
mask and takes softmax, an operator at a time. Here the matrix products stay PyTorch's, and what stands between them are
`native.py`'s functions, which leave out what is masked. The arithmetic is the same.

Where a processor multiplies bfloat16 numbers, one function computes all of it and writes no scores to memory
(`FusedAttentionFunction`): products of 50 queries with 130 keys are too small for PyTorch's.
"""

import types

import torch

from hidden_rule.kernels import native
from hidden_rule.kernels.attention import PrefixTree, spread, window_of
from hidden_rule.kernels.compat_transformers import class_of
from hidden_rule.kernels.lora import products

ATTENTIONS = frozenset({"LlamaAttention", "MistralAttention", "Qwen2Attention"})
PAIRS = 32  # the compiled attention's heads have a multiple of so many numbers
MOST_KEYS = 1024  # of a path, for the compiled attention: a stretch's keys and values stay in a core's cache


def move(states: torch.Tensor, shape: tuple, moves: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rows of `states` summed into rows of a new tensor of `shape`, as `moves` (offsets, sources) says.

    Both are (N, heads, D), or in stretches (R, heads, T, D).
    """
    out = states.new_empty(shape)
    lengths = [0 if tensor.dim() == 3 else tensor.size(2) for tensor in (states, out)]
    offsets, sources = moves
    heads, width = out.size(1), out.size(-1)
    native.call("move_rows", states, lengths[0], out, lengths[1], offsets, sources, len(offsets) - 1, heads, width)
    return out


def rotate(name: str, states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, scale: float) -> torch.Tensor:
    """States (N, heads, D) rotated by their positions (`rotate`), or gradients rotated back (`rotate_backward`)."""
    out = torch.empty_like(states)
    native.call(name, states, cos, sin, float(scale), out, *states.shape)
    return out


class TreeAttentionFunction(torch.autograd.Function):
    """Attention output (M, heads, D) of `query` (M, heads, D), `key` and `value` (N, groups, D), not yet rotated.

    `angles`: cos and sin (M, D) of the queries' positions, then those (N, D) of the keys'. `window`: of keys that a
    query sees, or None.
    """

    @staticmethod
    def forward(ctx, query, key, value, angles, plan, scale, window):
        (heads, width), groups, (n_stretches, n_query, n_key) = query.shape[1:], key.size(1), plan.shape
        queries = move(rotate("rotate", query, *angles[:2], scale), (n_stretches, heads, n_query, width), plan.queries)
        keys = move(rotate("rotate", key, *angles[2:], 1.0), (n_stretches, groups, n_key, width), plan.keys)
        values = move(value, keys.shape, plan.keys)
        seen = plan.seen(window)
        rows = queries.view(n_stretches * groups, -1, width)
        weights = torch.bmm(rows, keys.flatten(0, 1).transpose(1, 2))
        native.call("softmax", weights, *seen, n_stretches, heads, n_query, n_key)
        output = torch.bmm(weights, values.flatten(0, 1)).view(queries.shape)
        ctx.save_for_backward(queries, keys, values, weights, *angles)
        ctx.plan, ctx.scale, ctx.after = plan, scale, seen[1]
        return move(output, query.shape, plan.slots)

    @staticmethod
    def backward(ctx, grad):
        queries, keys, values, weights, *angles = ctx.saved_tensors
        plan, (n_stretches, heads, n_query, width), n_key = ctx.plan, queries.shape, keys.size(2)
        whole, part = grad.shape, (len(angles[2]), keys.size(1), width)
        grad_output = move(grad.contiguous(), queries.shape, plan.slots_back).view(len(weights), -1, width)
        grad_values = torch.bmm(weights.transpose(1, 2), grad_output).view(keys.shape)
        grad_scores = torch.bmm(grad_output, values.flatten(0, 1).transpose(1, 2))
        native.call("softmax_backward", weights, grad_scores, ctx.after, n_stretches, heads, n_query, n_key)
        grad_queries = torch.bmm(grad_scores, keys.flatten(0, 1)).view(queries.shape)
        grad_keys = torch.bmm(grad_scores.transpose(1, 2), queries.view(len(weights), -1, width)).view(keys.shape)
        grad_query = rotate("rotate_backward", move(grad_queries, whole, plan.queries_back), *angles[:2], ctx.scale)
        grad_key = rotate("rotate_backward", move(grad_keys, part, plan.keys_back), *angles[2:], 1.0)
        return grad_query, grad_key, move(grad_values, part, plan.keys_back), None, None, None, None


class FusedAttentionFunction(torch.autograd.Function):
    """The same as `TreeAttentionFunction`, of bfloat16 states, with sums in float32 up to the end."""

    @staticmethod
    def forward(ctx, query, key, value, angles, plan, scale, window):
        query, key = rotate("rotate", query, *angles[:2], scale), rotate("rotate", key, *angles[2:], 1.0)
        (heads, width), groups, shape = query.shape[1:], key.size(1), plan.shape
        places = (plan.starts, plan.counts, plan.keys[1], *plan.seen(window))
        output, log_sums = torch.empty_like(query), query.new_empty((shape[0], heads, shape[1]), dtype=torch.float32)
        sizes = (len(query), *shape, heads, groups, width)
        native.call("attend", query, key, value, *places, output, log_sums, *sizes)
        ctx.save_for_backward(query, key, value, log_sums, *places, *angles)
        ctx.plan, ctx.scale, ctx.sizes = plan, scale, sizes
        return output

    @staticmethod
    def backward(ctx, grad):
        query, key, value, log_sums, *rest = ctx.saved_tensors
        places, angles = rest[:5], rest[5:]
        grad_query = torch.empty_like(query)
        grad_keys, grad_values = query.new_empty((2, ctx.plan.shape[0], key.size(1), ctx.plan.shape[2], key.size(2)))
        states, grads = (query, key, value, grad.contiguous()), (grad_query, grad_keys, grad_values)
        native.call("attend_backward", *states, *places, log_sums, *grads, *ctx.sizes)
        grad_query = rotate("rotate_backward", grad_query, *angles[:2], ctx.scale)
        grad_key = rotate("rotate_backward", move(grad_keys, key.shape, ctx.plan.keys_back), *angles[2:], 1.0)
        return grad_query, grad_key, move(grad_values, value.shape, ctx.plan.keys_back), None, None, None, None


def function_for(states: list[torch.Tensor], plan) -> type[torch.autograd.Function]:
    """The function that computes attention of these queries, keys and values fastest."""
    fits = states[0].size(2) % PAIRS == 0 and plan.shape[2] <= MOST_KEYS
    fused = fits and native.has("attend", states[0].dtype)
    return FusedAttentionFunction if fused else TreeAttentionFunction


def fused_forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
    """An attention layer's forward: by `TreeAttentionFunction` where a tree is followed, else its own."""
    tree: PrefixTree | None = kwargs.get("prefix_tree")
    drops = self.training and self.attention_dropout > 0

    def own():
        given = {"position_embeddings": position_embeddings, "attention_mask": attention_mask}
        return type(self).forward(self, hidden_states, **given, past_key_values=past_key_values, **kwargs)

    if tree is None or drops or past_key_values is not None or not native.takes(hidden_states, *position_embeddings):
        return own()
    rows = hidden_states.squeeze(0)  # not [0], whose gradient would be copied into zeros
    is_last = self.layer_idx == self.config.num_hidden_layers - 1
    read = tree.read if is_last else None  # the tokens whose queries are needed; None: all
    projected = products(rows, [self.q_proj, self.k_proj, self.v_proj]) if read is None else None
    if projected is None:  # not all have an adapter, or of a last layer's queries few are needed
        asking = rows if read is None else rows.index_select(0, read)
        projected = [self.q_proj(asking), self.k_proj(rows), self.v_proj(rows)]
    states = [part.view(len(part), -1, self.head_dim).contiguous() for part in projected]
    angles = [part[0].contiguous() for part in position_embeddings]
    angles = (*(angles if read is None else (part[read] for part in angles)), *angles)
    if not native.takes(*states, *angles):  # compiled functions read memory as one type; a layer may give another
        return own()
    tree.n_calls += 1
    plan = tree.plan if read is None else tree.plan_of_read
    attended = function_for(states, plan).apply(*states, angles, plan, self.scaling, window_of(self))
    output = self.o_proj(attended.flatten(1))
    return (output if read is None else spread(output, read, len(rows))).unsqueeze(0), None


def fuse_attentions(network) -> int:
    """Give `fused_forward` to every layer of the classes `ATTENTIONS`; returns how many.

    Every class of the list is compared with `fused_forward` in tests/kernels/test_native.py.
    """
    fused = 0
    for layer in network.modules():
        if class_of(layer) in ATTENTIONS:
            layer.forward = types.MethodType(fused_forward, layer)
            fused += 1
    return fused
