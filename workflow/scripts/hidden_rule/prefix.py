"""Compute what rows share once: the forward pass behind SFT, GRPO and evaluation.

Rows of a batch start with the same tokens (the system text), and rows of a group share a whole prompt. A shared
prefix is computed once with gradients, and its keys and values are handed on to what follows; vocabulary logits are
taken only where a token is scored. The result is the plain computation's, up to the order of floating-point sums.

Where that would not be exact the plain computation runs instead, and the log says so in one line (`sharing_fault`).
"""

import logging
import types
from dataclasses import dataclass

import torch
from transformers import DynamicCache
from trl.trainer.utils import FusedCausalLMOutput

log = logging.getLogger(__name__)

MIN_SHARED = 8  # below this many tokens a second forward pass costs more than it saves
SCALED_LOGITS = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def sharing_fault(model) -> str | None:
    """Why prefixes cannot be shared exactly in this causal model, or None if they can."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if foreign := kinds - {"full_attention", "sliding_attention"}:
        return f"layers of the kind {', '.join(sorted(foreign))} keep other state than keys and values"
    if getattr(config, "num_kv_shared_layers", 0):
        return "layers share their keys and values"
    if getattr(config, "output_router_logits", False):
        return "the load-balancing loss of a mixture of experts counts every token"
    if model.training and model.is_activation_checkpointing:
        return "gradient checkpointing and the cache of keys and values exclude each other"
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


def run_segments(model, segments: list[Segment]) -> torch.Tensor:
    """Last hidden states (N, T, H) of the last level of a prefix tree, each level computed once.

    Gradients flow back through the keys and values of every level above. Positions count real tokens only, so padding
    in the middle of a path shifts nothing.
    """
    device = model.get_input_embeddings().weight.device
    cache = DynamicCache() if len(segments) > 1 else None
    past_mask = None
    for segment in segments:
        ids, mask = pad_right(segment.rows, device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        if past_mask is not None:
            parent = torch.tensor(segment.parent, device=device)
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[parent], layer.values[parent]
            past_mask = past_mask[parent]
            positions = positions + past_mask.sum(1, keepdim=True)
            mask = torch.cat([past_mask, mask], dim=1)
        output = model.base_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        past_mask = mask
    return output.last_hidden_state


def has_short_window(model, length: int) -> bool:
    """Whether some layer's sliding window is shorter than a row of `length` tokens."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    window = getattr(config, "sliding_window", None)
    return "sliding_attention" in kinds and window is not None and window < length


def tail_states(model, prompts: list[list[int]], tails: list[list[int]], parent: list[int]) -> torch.Tensor:
    """Last hidden states (N, T, H) at the tokens of each tail, tail i standing after `prompts[parent[i]]`.

    Tails are of T tokens at the most; beyond a tail's end the values mean nothing. Prompts may be empty.
    """
    whole = [prompts[p] + tail for p, tail in zip(parent, tails, strict=True)]
    fault = sharing_fault(model)
    if fault is not None:
        say_once(model, fault)
    shared = 0 if fault is not None else common_prefix_length(prompts)
    if len(whole) == 1 or shared < MIN_SHARED:
        shared = 0
    segments = [Segment([prompts[0][:shared]], [0])] if shared else []
    rests = [prompt[shared:] for prompt in prompts]
    if any(rests) and all(rests) and len(tails) > len(prompts) and fault is None:
        longest = shared + max(map(len, rests)) + max(map(len, tails))  # a window counts the padding in between
        if len({len(rest) for rest in rests}) == 1 or not has_short_window(model, longest):
            segments += [Segment(rests, [0] * len(rests)), Segment(tails, parent)]
            return run_segments(model, segments)
    if not any(rests):
        return run_segments(model, [*segments, Segment(tails, [0] * len(tails))])
    rows = [row[shared:] for row in whole]
    states = run_segments(model, [*segments, Segment(rows, [0] * len(rows))])
    starts = torch.tensor([len(rests[p]) for p in parent], device=states.device)
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


def token_logits(model, hidden: torch.Tensor, tokens: list[int] | None = None) -> torch.Tensor:
    """Float32 logits (N, V) of hidden states (N, H), or (N, K) of the K `tokens` alone."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    if any(getattr(config, name, None) not in (None, 1.0) for name in SCALED_LOGITS):
        raise NotImplementedError(f"{config.model_type} scales its logits: {', '.join(SCALED_LOGITS)} are not applied")
    if tokens is None:
        logits = head(hidden).float()
    else:
        bias = None if head.bias is None else head.bias[tokens]
        logits = torch.nn.functional.linear(hidden, head.weight[tokens], bias).float()
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


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


def add_shared_prefix_forward(model, temperature: float = 1.0) -> None:
    """Put the shared-prefix computation behind the call that TRL's trainers make.

    After it, `model(input_ids, attention_mask, labels, fused_lm_head=True)` returns TRL's `FusedCausalLMOutput` with
    `log_probs`, `entropy`, `is_top1` and `label_mask`, each (B, T-1) as `trl.trainer.utils.add_fused_lm_head` gives
    them, at `temperature`. `model(label_trie=trie, prompts=rows)` returns the trie's branch log-probabilities (B, K):
    wrappers (DDP, autocast) see that call too. Every other call is the model's own.
    """
    plain_forward = model.forward

    def forward(self, *args, fused_lm_head=False, label_trie=None, prompts=None, **kwargs):
        if label_trie is not None:
            return label_trie.branch_log_probs(self, prompts, temperature)
        if not fused_lm_head:
            return plain_forward(*args, **kwargs)
        ids, labels = kwargs["input_ids"], kwargs["labels"]
        mask = kwargs.get("attention_mask")
        hidden, scored = scored_states(self, ids, torch.ones_like(ids) if mask is None else mask, labels)
        logits = token_logits(self, hidden) / temperature
        chosen = labels[:, 1:][scored]
        every = torch.log_softmax(logits, dim=-1)
        log_prob = every.gather(1, chosen.unsqueeze(1)).squeeze(1)
        entropy = -(every.exp() * every).sum(-1)
        zeros = logits.new_zeros(scored.shape)
        return FusedCausalLMOutput(
            loss=-log_prob.sum() / scored.sum().clamp(min=1),
            log_probs=zeros.masked_scatter(scored, log_prob),
            entropy=zeros.masked_scatter(scored, entropy),
            is_top1=torch.zeros_like(scored).masked_scatter(scored, logits.argmax(-1) == chosen),
            label_mask=scored,
        )

    model.forward = types.MethodType(forward, model)
