"""Compute what rows share once: the forward pass behind SFT, GRPO and evaluation.

Rows of a batch start with the same tokens (the system text), and rows of a group share a whole prompt. What any of
them start with in common is computed once, with gradients, in the same forward pass as what follows it
(`attention.py`); vocabulary logits are taken only where a token is scored. The result is the plain computation's, up to
the order of floating-point sums.

Where that would not be exact the plain computation runs instead, and the log says so in one line (`sharing_fault`).
"""

import functools
import inspect
import logging
import math
import weakref

import numpy as np
import torch

from hidden_rule.kernels import attention, native
from hidden_rule.kernels.compat_transformers import attention_name
from hidden_rule.kernels.compat_trl import ChunkedLogProbFunction
from hidden_rule.kernels.head import LogitForm, logit_form
from hidden_rule.kernels.vocabulary import token_scores

log = logging.getLogger(__name__)

VOCABULARY_TILE = 32768  # columns of the output layer computed at a time on a GPU, TRL's own choice
KEYS_COST = 16  # queries for which scores cost about as much as the copy of a path's keys and values
ROWS = 8  # tokens: matrix products over 834 rows take as long as over 848
VECTOR = 32  # keys: bfloat16 numbers of an AVX-512 register; softmax over 127 takes four times as long as over 128
logged_faults: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # by model
LENGTH_ROPES = ("longrope", "dynamic")  # rotary embeddings that depend on the longest row
probed_faults: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # by model: what its loading found, or None
frozen_parts: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # by body: FrozenLayers (frozen_layers.py)
narrow: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # by body: share of its weights (last_layer.py)


def body(model):
    """The part of a causal model that makes hidden states of tokens: of a multimodal one its text tower alone."""
    if model.config.get_text_config() is not model.config:
        return model.get_decoder()
    if model.base_model is not model:
        return model.base_model
    return next(child for child in model.children() if hasattr(child, "config"))  # Llama 4's has another name


@functools.cache
def argument_names(forward) -> frozenset[str] | None:
    """The names of a forward pass's arguments; None where it hides them, as a wrapper does."""
    names = frozenset(inspect.signature(forward).parameters)
    return names if "input_ids" in names else None


def last_states(model, **arguments) -> torch.Tensor:
    """Last hidden states (B, T, H) of a causal model's body, given what it takes of the arguments.

    Families without positions of their own (ALiBi, recurrent ones) take no `position_ids`.
    """
    network = body(model)
    names = argument_names(getattr(type(network), "forward"))  # noqa: B009 - the class's, which is the cache's key
    taken = {name: value for name, value in arguments.items() if names is None or name in names}
    return network(**taken).last_hidden_state


def sharing_fault(model) -> str | None:
    """Why prefixes cannot be shared exactly in this causal model, or None if they can.

    What its configuration tells, then what a comparison found when it was loaded (`install.py`).
    """
    return declared_fault(model.config.get_text_config()) or probed_faults.get(model)


def declared_fault(config) -> str | None:
    """Why a text configuration says that prefixes cannot be shared, or None."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if foreign := kinds - {"full_attention", "sliding_attention"}:
        return f"layers of the kind {', '.join(sorted(foreign))} keep other state than keys and values"
    if attention_name(config) not in (attention.CPU, attention.GPU):
        return f"attention is computed by {attention_name(config)}, which knows no prefix tree"
    if getattr(config, "num_kv_shared_layers", 0):
        return "layers share their keys and values"
    if getattr(config, "output_router_logits", False):
        return "the load-balancing loss of a mixture of experts counts every token"
    return None


def rope_limit(config) -> float:
    """Tokens beyond which a row's own length changes how all its positions are rotated (LongRoPE, dynamic NTK)."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]  # one for each kind of layer, or one
    limits = [kind.get("original_max_position_embeddings") for kind in kinds if kind.get("rope_type") in LENGTH_ROPES]
    return min((limit for limit in limits if limit), default=math.inf)


def common_prefix_length(rows: list[list[int]]) -> int:
    """Number of leading tokens that all rows have in common."""
    first, last = min(rows), max(rows)  # what the two extremes in lexicographic order share, all share
    length = min(len(first), len(last))
    return next((i for i in range(length) if first[i] != last[i]), length)


def tree_size(rows) -> int:
    """Tokens of the prefix tree of rows, each once."""
    ordered = sorted(map(list, rows))
    pairs = zip(ordered, [[], *ordered], strict=False)
    return sum(len(row) - common_prefix_length([row, before]) for row, before in pairs)


def pad_right(rows: list[list[int]], fill: int | None = None, multiple: int = 1) -> list[list[int]]:
    """Rows of one length, a multiple of `multiple`, filled up with `fill`, or with a row's own last value."""
    width = -(-max(map(len, rows)) // multiple) * multiple
    return [row + [row[-1] if fill is None else fill] * (width - len(row)) for row in rows]


def run_whole(model, rows: list[list[int]]) -> torch.Tensor:
    """Last hidden states (N, T, H) of rows that share nothing: the model's own forward pass."""
    device = model.get_input_embeddings().weight.device
    if len(rows) > 1 and max(map(len, rows)) > rope_limit(model.config.get_text_config()):
        return torch.nn.utils.rnn.pad_sequence([run_whole(model, [row])[0] for row in rows], batch_first=True)
    ids = torch.tensor(pad_right(rows, 0), device=device)
    mask = torch.tensor(pad_right([[1] * len(row) for row in rows], 0), device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return last_states(model, input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)


def stretch_width(lengths: list[int]) -> int:
    """The number of queries a stretch at which attention costs least, for parts of a tree of these lengths.

    Short stretches pad few queries, but each brings the keys and values of its whole path along (`KEYS_COST`).
    """
    length, count = np.unique(lengths, return_counts=True)
    width = np.arange(1, length.max() + 1)
    stretches = (-(-length // width[:, None]) * count).sum(1)
    return int(width[(stretches * (width + KEYS_COST)).argmin()])


def pack(rows: list[list[int]], device) -> tuple[torch.Tensor, attention.PrefixTree, list[list[int]]]:
    """Token ids (N,) of rows' prefix tree, the tree, and of each row the places of its tokens in it.

    Every token of the tree stands there once; up to ROWS - 1 copies of the last one, which nothing reads, follow.
    """
    ids: list[int] = []
    positions: list[int] = []
    paths: list[list[int]] = [[] for _ in rows]
    parts = []  # (row, how much of it came before): what each row adds to the tree
    row: list[int] = []
    path: list[int] = []
    for i in sorted(range(len(rows)), key=rows.__getitem__):  # neighbours share the most
        shared = common_prefix_length([row, rows[i]])
        row = rows[i]
        path = path[:shared] + list(range(len(ids), len(ids) + len(row) - shared))
        paths[i] = path
        if shared < len(row):
            parts.append((i, shared))
            ids += row[shared:]
            positions += range(shared, len(row))
    width = stretch_width([len(rows[i]) - shared for i, shared in parts])
    stretches = [(i, start) for i, shared in parts for start in range(shared, len(rows[i]), width)]
    queries = [paths[i][start : start + width] for i, start in stretches]
    keys = [paths[i][: start + width] for i, start in stretches]
    slots = [r * width + column for r, stretch in enumerate(queries) for column in range(len(stretch))]
    ids, slots, positions = (pad_right([numbers], multiple=ROWS)[0] for numbers in (ids, slots, positions))
    tensors = (pad_right(queries), pad_right(keys, 0, VECTOR), slots, positions)
    tree = attention.PrefixTree(*(torch.tensor(numbers, device=device) for numbers in tensors))
    return torch.tensor(ids, device=device), tree, paths


def follow(model, ids: torch.Tensor, tree: attention.PrefixTree, n_layers: int) -> torch.Tensor:
    """Last hidden states (N, H) of a prefix tree's tokens; RuntimeError unless `n_layers` layers followed the tree."""
    output = body(model)(
        input_ids=ids.unsqueeze(0),
        attention_mask=torch.zeros(1, 1, 1, 1, device=ids.device),  # four dimensions: transformers makes none itself
        position_ids=tree.positions.unsqueeze(0),
        use_cache=False,
        prefix_tree=tree,
    )
    if tree.n_calls != n_layers:
        kind = model.config.model_type
        raise RuntimeError(f"{tree.n_calls} layers of {kind} followed the prefix tree, not {n_layers}")
    return output.last_hidden_state[0]


def run_packed(model, rows: list[list[int]], starts: list[int] | None = None) -> tuple[torch.Tensor, list[list[int]]]:
    """Last hidden states (N, H) of the tokens of rows' prefix tree, and the places of each row's tokens among them.

    Each token is computed once; gradients flow back to everything that is shared. Raises RuntimeError if a layer did
    not follow the tree. Of rows whose states are kept the layers below every trained one are left out. `starts`: of
    each row the first token whose state is read, where not all are; earlier ones' states then mean nothing.
    """
    ids, tree, paths = pack(rows, model.get_input_embeddings().weight.device)
    if starts is not None and body(model) in narrow:
        read = {place for path, start in zip(paths, starts, strict=True) for place in path[start:]}
        tree.read = torch.tensor(sorted(read), device=ids.device)
    frozen = frozen_parts.get(body(model))
    if frozen is not None and (entry := frozen.known(rows, paths, len(ids))) is not None:
        return frozen.after(model, entry, ids, tree), paths
    return follow(model, ids, tree, model.config.get_text_config().num_hidden_layers), paths


def tail_states(model, prompts: list[list[int]], tails: list[list[int]], parent: list[int]) -> torch.Tensor:
    """Last hidden states (N, T, H) at the tokens of each tail, tail i standing after `prompts[parent[i]]`.

    Tails are of T tokens at the most; beyond a tail's end the values mean nothing. Prompts may be empty.

    Without gradients a row that is alone is packed too, though it shares nothing: so a prompt has the same states alone
    as in a batch, where another order of sums would move bfloat16 logits by some of their last digits. With gradients
    it is where states of frozen layers are kept, which whole rows would pass again.
    """
    whole = [[*prompts[p], *tail] for p, tail in zip(parent, tails, strict=True)]
    starts = [len(prompts[p]) for p in parent]
    fault = sharing_fault(model)
    if max(map(len, whole)) > rope_limit(model.config.get_text_config()):
        fault = fault or "a row longer than its positions were trained for has its own scale"
    if fault is not None:
        log_once(model, fault)
    alone = len(whole) == 1 and torch.is_grad_enabled() and body(model) not in frozen_parts
    if fault is not None or alone:
        states = run_whole(model, whole)
        return windows(states, torch.tensor(starts, device=states.device), max(map(len, tails)))
    states, paths = run_packed(model, whole, starts)
    places = [path[start:] for path, start in zip(paths, starts, strict=True)]
    return states[torch.tensor(pad_right(places), device=states.device)]


def windows(states: torch.Tensor, starts: torch.Tensor, width: int) -> torch.Tensor:
    """From states (N, T, H) the `width` ones from each row's start on, (N, width, H); past the end the last repeats."""
    index = starts.unsqueeze(1) + torch.arange(width, device=states.device)
    index = index.clamp(max=states.size(1) - 1).unsqueeze(-1).expand(-1, -1, states.size(-1))
    return states.gather(1, index)


def log_once(model, fault: str) -> None:
    """Log, once a model, why the plain computation runs."""
    if logged_faults.get(model) != fault:
        log.warning("prefixes are not shared: %s; every row is computed whole", fault)
        logged_faults[model] = fault


def token_logits(model, hidden: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Float32 logits (N, K) of the K `tokens` alone, of hidden states (N, H)."""
    head = model.get_output_embeddings()
    bias = None if head.bias is None else head.bias[tokens]
    return logit_form(model).of(torch.nn.functional.linear(hidden, head.weight[tokens], bias).float())


def score_tokens(model, hidden: torch.Tensor, chosen: torch.Tensor, temperature: float, entropy_gradient: bool):
    """Log-probabilities of the `chosen` tokens (N,), entropies in nats, whether each is the likeliest, all (N,).

    From hidden states (N, H), in float32. On a GPU by TRL's kernel, which holds a tile of the vocabulary at a time; on
    a CPU, where that recomputes and multiplies in float32, at once: compiled (`vocabulary.py`) where logits are the
    output layer's own and no entropy needs a gradient.
    """
    form, head = logit_form(model), model.get_output_embeddings()
    if hidden.is_cuda:
        outputs = ("entropy", "is_top1")
        log_prob, entropy, _, _, is_top1 = ChunkedLogProbFunction.apply(
            hidden, head.weight, head.bias, chosen, temperature, VOCABULARY_TILE, form.cap, form.scale, outputs
        )
        return log_prob, entropy, is_top1
    logits = head(hidden)
    if form == LogitForm() and temperature == 1 and not entropy_gradient and native.takes(logits):
        return token_scores(logits, chosen)
    logits = form.of(logits.float())
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
    prompts: list[tuple[int, ...]] = []
    tails: list[tuple[int, ...]] = []
    picks: list[list[int]] = []
    for row, real, label in zip(ids.tolist(), mask.tolist(), labels.tolist(), strict=True):
        row, label = zip(*((token, y) for token, m, y in zip(row, real, label, strict=True) if m), strict=True)
        predictors = [t - 1 for t in range(1, len(row)) if label[t] != -100]
        if not predictors:  # an empty tail is none: the row's first token stands in, and nothing is picked
            prompts.append(())
            tails.append(row[:1])
            picks.append([])
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
