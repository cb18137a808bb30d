"""Compute what rows share once: the forward pass behind SFT, GRPO and evaluation.

Rows of a batch start with the same tokens (the system text), and rows of a group share a whole prompt. A shared
prefix is computed once, with gradients, in the same forward pass as what follows it (`attention.py`); vocabulary logits
are taken only where a token is scored. The result is the plain computation's, up to the order of floating-point sums.

Where that would not be exact the plain computation runs instead, and the log says so in one line (`sharing_fault`).
"""

import functools
import itertools
import logging
import types
from dataclasses import dataclass

import torch
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import FusedCausalLMOutput

from . import attention

log = logging.getLogger(__name__)

VOCABULARY_TILE = 32768  # columns of the output layer computed at a time on a GPU, TRL's own choice
MIN_SHARED = 8  # below this many tokens a level of its own costs more than it saves
SCALED_LOGITS = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def sharing_fault(model) -> str | None:
    """Why prefixes cannot be shared exactly in this causal model, or None if they can."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if foreign := kinds - {"full_attention", "sliding_attention"}:
        return f"layers of the kind {', '.join(sorted(foreign))} keep other state than keys and values"
    if config._attn_implementation not in (attention.CPU, attention.GPU):
        return f"attention is computed by {config._attn_implementation}, which knows no prefix tree"
    if getattr(config, "num_kv_shared_layers", 0):
        return "layers share their keys and values"
    if getattr(config, "output_router_logits", False):
        return "the load-balancing loss of a mixture of experts counts every token"
    return None


def common_prefix_length(rows: list[list[int]]) -> int:
    """Number of leading tokens that all rows have in common."""
    first, last = min(rows), max(rows)  # what the two extremes in lexicographic order share, all share
    length = min(len(first), len(last))
    return next((i for i in range(length) if first[i] != last[i]), length)


@dataclass
class Segment:
    """One level of a prefix tree: rows of token ids, and for each row its parent's index one level up."""

    rows: list[list[int]]
    parent: list[int]


def pad_right(rows: list[list[int]], device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, both (N, T), of rows padded on the right."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def run_whole(model, rows: list[list[int]]) -> torch.Tensor:
    """Last hidden states (N, T, H) of rows that share nothing: the model's own forward pass."""
    ids, mask = pad_right(rows, model.get_input_embeddings().weight.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return model.base_model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state


def run_segments(model, segments: list[Segment]) -> torch.Tensor:
    """Last hidden states (N, T, H) of the last level of a prefix tree, each level computed once, in one forward pass.

    Gradients flow back to every level above. Positions count real tokens only, so padding in the middle of a path
    shifts nothing, and sliding windows are exact. Raises RuntimeError if a layer did not follow the tree.
    """
    if len(segments) == 1:
        return run_whole(model, segments[0].rows)
    device = model.get_input_embeddings().weight.device
    packed, levels, length = [], [], None
    for segment in segments:
        ids, mask = pad_right(segment.rows, device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        parent = None
        if length is not None:
            parent = torch.tensor(segment.parent, device=device)
            positions = positions + length[parent]
        length = positions[:, -1:] + 1
        packed.append(ids.flatten())
        levels.append(attention.Level(positions, mask.bool(), parent))
    tree = attention.PrefixTree(levels)
    output = model.base_model(
        input_ids=torch.cat(packed).unsqueeze(0),
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),  # four dimensions: transformers makes none of its own
        position_ids=torch.cat([level.positions.flatten() for level in levels]).unsqueeze(0),
        use_cache=False,
        prefix_tree=tree,
    )
    if tree.n_calls != model.config.get_text_config().num_hidden_layers:
        raise RuntimeError(f"{tree.n_calls} layers of {model.config.model_type} followed the prefix tree, not all")
    return output.last_hidden_state[0, -levels[-1].positions.numel() :].unflatten(0, levels[-1].positions.shape)


def group_depth(rows: list[list[int]], shared: int, limit: int) -> int:
    """The depth, `shared` to `limit` tokens, at which grouping rows by what they start with computes least positions.

    `shared` itself where no grouping saves a thirtieth of them: a level more has a price too.
    """
    ordered = sorted(rows)
    agreeing = [common_prefix_length([a, b]) for a, b in itertools.pairwise(ordered)]
    longest = max(map(len, rows))

    def positions(depth: int) -> int:
        groups = 1 + sum(length < depth for length in agreeing)
        return shared + groups * (depth - shared) + len(rows) * (longest - depth)

    best = min(range(shared, limit + 1), key=positions, default=shared)
    return best if positions(best) * 30 <= positions(shared) * 29 else shared


def prefix_levels(rows: list[list[int]], shared: int, limit: int) -> tuple[list[Segment], int]:
    """The levels of a prefix tree over `rows`, and the depth at which the last one, a rest for each row, begins.

    The first `shared` tokens are the same in all rows; `limit` is the greatest depth.
    """
    depth = group_depth(rows, shared, limit)
    segments = [Segment([rows[0][:shared]], [0])] if shared else []
    parent = [0] * len(rows)
    if depth > shared:
        starts = [tuple(row[shared:depth]) for row in rows]
        groups = {start: i for i, start in enumerate(dict.fromkeys(starts))}
        segments.append(Segment([list(start) for start in groups], [0] * len(groups)))
        parent = [groups[start] for start in starts]
    return [*segments, Segment([row[depth:] for row in rows], parent)], depth


def tail_states(model, prompts: list[list[int]], tails: list[list[int]], parent: list[int]) -> torch.Tensor:
    """Last hidden states (N, T, H) at the tokens of each tail, tail i standing after `prompts[parent[i]]`.

    Tails are of T tokens at the most; beyond a tail's end the values mean nothing. Prompts may be empty.
    """
    whole = [prompts[p] + tail for p, tail in zip(parent, tails, strict=True)]
    fault = sharing_fault(model)
    if fault is not None:
        say_once(model, fault)
    if fault is not None or len(whole) == 1:
        states, depth = run_whole(model, whole), 0
    else:
        shortest, shared = min(map(len, prompts)), common_prefix_length(prompts)
        if shared < MIN_SHARED:
            shared = 0
        if max(map(len, prompts)) == shared:  # the prompts are one
            return run_segments(
                model, [*prefix_levels(prompts, shared, shared)[0][:-1], Segment(tails, [0] * len(tails))]
            )
        if len(tails) > len(prompts) and shortest > shared:
            segments, _ = prefix_levels(prompts, shared, shortest - 1)
            return run_segments(model, [*segments, Segment(tails, parent)])
        segments, depth = prefix_levels(whole, shared, shortest)
        states = run_segments(model, segments)
    starts = torch.tensor([len(prompts[p]) - depth for p in parent], device=states.device)
    return windows(states, starts, max(map(len, tails)))


def windows(states: torch.Tensor, starts: torch.Tensor, width: int) -> torch.Tensor:
    """From states (N, T, H) the `width` ones from each row's start on, (N, width, H); past the end the last repeats."""
    index = starts.unsqueeze(1) + torch.arange(width, device=states.device)
    index = index.clamp(max=states.size(1) - 1).unsqueeze(-1).expand(-1, -1, states.size(-1))
    return states.gather(1, index)


def say_once(model, fault: str) -> None:
    """Log, once a model, why the plain computation runs."""
    if getattr(model, "_sharing_fault_said", None) != fault:
        log.warning("prefixes are not shared: %s; every row is computed whole", fault)
        model._sharing_fault_said = fault


def check_unscaled(config) -> None:
    """Raise NotImplementedError for a model that multiplies its logits by a constant."""
    if any(getattr(config, name, None) not in (None, 1.0) for name in SCALED_LOGITS):
        raise NotImplementedError(f"{config.model_type} scales its logits: {', '.join(SCALED_LOGITS)} are not applied")


def token_logits(model, hidden: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Float32 logits (N, K) of the K `tokens` alone, of hidden states (N, H)."""
    config = model.config.get_text_config()
    check_unscaled(config)
    head = model.get_output_embeddings()
    bias = None if head.bias is None else head.bias[tokens]
    logits = torch.nn.functional.linear(hidden, head.weight[tokens], bias).float()
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def score_tokens(model, hidden: torch.Tensor, chosen: torch.Tensor, temperature: float, entropy_gradient: bool):
    """Log-probabilities of the `chosen` tokens (N,), entropies in nats, whether each is the likeliest, all (N,).

    From hidden states (N, H), in float32. On a GPU by TRL's kernel, which holds a tile of the vocabulary at a time; on
    a CPU, where that recomputes and multiplies in float32, at once.
    """
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    check_unscaled(config)
    cap = getattr(config, "final_logit_softcapping", None)
    if hidden.is_cuda:
        outputs = ("entropy", "is_top1")
        log_prob, entropy, _, _, is_top1 = ChunkedLogProbFunction.apply(
            hidden, head.weight, head.bias, chosen, temperature, VOCABULARY_TILE, cap, 1.0, outputs
        )
        return log_prob, entropy, is_top1
    logits = head(hidden).float()
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    every = torch.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)
    log_prob = every.gather(1, chosen.unsqueeze(1)).squeeze(1)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = -torch.einsum("nv,nv->n", every.exp(), every)  # a product of matrices, where vecdot is slow
    return log_prob, entropy, log_prob.detach() == every.detach().amax(1)


def scored_states(model, ids, mask, labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (N, H) that predict the scored labels, in row order, and the mask (B, T-1) of where they stand.

    `ids`, `mask`, `labels` are (B, T), rows padded on either side; labels are -100 where nothing is scored.
    """
    scored = labels[:, 1:] != -100
    prompts, tails, picks = [], [], []
    for row, real, label in zip(ids.tolist(), mask.tolist(), labels.tolist(), strict=True):
        row, label = zip(*((token, y) for token, m, y in zip(row, real, label, strict=True) if m), strict=True)
        predictors = [t - 1 for t in range(1, len(row)) if label[t] != -100]
        if not predictors:  # an empty tail is none: the row's first token stands in, and nothing is picked
            prompts.append(()), tails.append(row[:1]), picks.append([])
            continue
        start = predictors[0]
        prompts.append(row[:start])
        tails.append(row[start : predictors[-1] + 1])
        picks.append([t - start for t in predictors])
    unique = list(dict.fromkeys(prompts))
    index = {prompt: i for i, prompt in enumerate(unique)}
    states = tail_states(
        model, [list(p) for p in unique], [list(t) for t in tails], [index[prompt] for prompt in prompts]
    )
    picked = torch.zeros(states.shape[:2], dtype=torch.bool)
    for i, columns in enumerate(picks):
        picked[i, columns] = True
    return states[picked.to(states.device)], scored


def add_shared_prefix_forward(model, temperature: float = 1.0, entropy_gradient: bool = False) -> None:
    """Put the shared-prefix computation behind the call that TRL's trainers make.

    After it, `model(input_ids, attention_mask, labels, fused_lm_head=True)` returns TRL's `FusedCausalLMOutput` with
    `log_probs`, `entropy`, `is_top1` and `label_mask`, each (B, T-1) as `trl.trainer.utils.add_fused_lm_head` gives
    them, at `temperature`; the entropy has a gradient if asked for. `model(label_trie=trie, prompts=rows)` returns the
    trie's branch log-probabilities (B, K), at temperature `at` if given: wrappers (DDP, FSDP, autocast) see that call
    too. Every other call is the model's.
    """
    plain_forward = model.forward

    @functools.wraps(type(model).forward)  # `generate` looks at the signature
    def forward(self, *args, fused_lm_head=False, label_trie=None, prompts=None, at=temperature, **kwargs):
        if label_trie is not None:
            return label_trie.branch_log_probs(self, prompts, at)
        if not fused_lm_head:
            return plain_forward(*args, **kwargs)
        ids, labels = kwargs["input_ids"], kwargs["labels"]
        mask = kwargs.get("attention_mask")
        hidden, scored = scored_states(self, ids, torch.ones_like(ids) if mask is None else mask, labels)
        chosen = labels[:, 1:][scored]
        log_prob, entropy, is_top1 = score_tokens(self, hidden, chosen, temperature, entropy_gradient)
        zeros = log_prob.new_zeros(scored.shape)
        return FusedCausalLMOutput(
            loss=-log_prob.sum() / scored.sum().clamp(min=1),
            log_probs=zeros.masked_scatter(scored, log_prob),
            entropy=zeros.masked_scatter(scored, entropy),
            is_top1=torch.zeros_like(scored).masked_scatter(scored, is_top1),
            label_mask=scored,
        )

    model.forward = types.MethodType(forward, model)
