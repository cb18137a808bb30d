"""Whether a computation of ours gives what the model's own does, found by computing a few tokens both ways.

A list of families that are known to work would be wrong about every new one. Two short rows that start alike are
computed by transformers alone, with its plain attention, and by each kernel; where they differ by more than rounding
does the kernel steps aside. How much rounding does is measured, for it depends on model and machine: in bfloat16 one
last digit in an early layer moves some models' logits by a tenth of their spread. The sliding windows of a model are
set to a few tokens meanwhile, so that rows as short as these leave them.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

import torch

PREFIX, TAILS = 6, (3, 5)  # tokens that both rows start with, and those that follow in each
WINDOW = 4  # tokens of a sliding window while a model is probed
TOLERANCE = {torch.float32: 2e-3, torch.float16: 2e-2}  # share of the logits' spread over the vocabulary
COARSE = 8e-2  # of other types: bfloat16 has 8 binary digits
ROUNDINGS, TIMES = 3, 3.0  # passes that round otherwise; how often what they differ by, if that is more, is tolerated


def special_ids(config) -> set[int]:
    """Token ids that a configuration names: an image's or padding's place in a text may be computed otherwise."""
    found: set[int] = set()

    def collect(value, named: bool) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                collect(below, "token" in str(key))
        elif isinstance(value, list | tuple):
            for below in value:
                collect(below, named)
        elif named and isinstance(value, int) and not isinstance(value, bool):
            found.add(value)

    collect(config.to_dict(), named=False)
    return found


def probe_rows(network) -> list[list[int]]:
    """Two rows of token ids that start alike and differ after it; ordinary tokens from all over the vocabulary."""
    size, special = network.get_input_embeddings().weight.shape[0], special_ids(network.config)
    ordinary = [token for token in range(1, size) if token not in special] or [0]
    tokens = [ordinary[(7 + 7919 * i) % len(ordinary)] for i in range(PREFIX + sum(TAILS))]
    start, first, second = tokens[:PREFIX], tokens[PREFIX : PREFIX + TAILS[0]], tokens[PREFIX + TAILS[0] :]
    return [start + first, start + second]


@contextlib.contextmanager
def short_windows(config) -> Iterator[None]:
    """Within it the sliding window of a text configuration, if it has one, is `WINDOW` tokens."""
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or window <= WINDOW:
        yield
        return
    config.sliding_window = WINDOW
    try:
        yield
    finally:
        config.sliding_window = window


def own_logits(network, rows: list[list[int]]) -> list[torch.Tensor]:
    """Float32 logits (T, V) of each row by the network's own forward pass, padded on the right."""
    width, device = max(map(len, rows)), network.get_input_embeddings().weight.device
    ids = torch.tensor([row + [row[-1]] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return [logits[i, : len(row)].float() for i, row in enumerate(rows)]


@contextlib.contextmanager
def rounded_otherwise(network, seed: int) -> Iterator[None]:
    """Within it outputs of linear layers and embeddings are moved at random, by half a step of their type at most."""
    generator = torch.Generator().manual_seed(seed)

    def moved(module, inputs, output):
        if not isinstance(output, torch.Tensor):
            return None  # of a family's own kind of layer: it stays as it is
        shares = torch.rand(output.shape, generator=generator).sub_(0.5).to(output.device)
        return output.float().mul_(1 + torch.finfo(output.dtype).eps * shares).to(output.dtype)

    layers = (torch.nn.Linear, torch.nn.Embedding)
    hooks = [layer.register_forward_hook(moved) for layer in network.modules() if isinstance(layer, layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far logits (T, V) lie from what they should be: the median over positions of |found - expected|.

    As a share of the spread over the vocabulary. A median, since a token that a mixture of experts sends elsewhere for
    a last binary digit is no fault.
    """
    if found.shape != expected.shape or not found.isfinite().all():
        return float("inf")
    spread = (expected - expected.mean(-1, keepdim=True)).norm(dim=-1).clamp(min=1e-6)
    return float(((found - expected).norm(dim=-1) / spread).quantile(0.5))


@dataclass(frozen=True)
class Probe:
    """Rows, and the logits (T, V) of each as the network's own computation gives them."""

    rows: list[list[int]]
    expected: list[torch.Tensor]
    tolerance: float

    def worst(self, found: list[torch.Tensor]) -> float:
        """The largest `difference` of the start of the rows and of what follows it in each."""
        pairs = list(zip(found, self.expected, strict=True))
        starts = [difference(ours[:PREFIX], own[:PREFIX]) for ours, own in pairs]
        return max(*starts, *(difference(ours[PREFIX:], own[PREFIX:]) for ours, own in pairs))

    def is_finite(self) -> bool:
        return all(bool(logits.isfinite().all()) for logits in self.expected)

    def is_causal(self) -> bool:
        """Whether what follows changes nothing before it, as the start that both rows share tells."""
        first, second = (logits[:PREFIX] for logits in self.expected)
        return difference(first, second) <= self.tolerance

    def fault(self, compute: Callable[[list[list[int]]], list[torch.Tensor]]) -> str | None:
        """Why `compute`, which gives the logits (T, V) of each row, is not exact; None if it is.

        A kernel that raises an error does not apply either, whatever the error is.
        """
        try:
            worst = self.worst(compute(self.rows))
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            return f"{type(error).__name__}: {lines[0]}"[:200]
        return None if worst <= self.tolerance else f"logits differ from the model's own by {100 * worst:.2g}%"


@torch.no_grad()
def probe(network) -> Probe:
    """The probe of a causal model in evaluation mode, computed as the network is."""
    rows = probe_rows(network)
    dtype = network.get_input_embeddings().weight.dtype
    found = Probe(rows, own_logits(network, rows), TOLERANCE.get(dtype, COARSE))
    if not found.is_finite():
        return found
    return replace(found, tolerance=max(found.tolerance, TIMES * rounding(network, found)))


def rounding(network, expected: Probe) -> float:
    """How far a network's logits are from those of its probe where it rounds otherwise: the median of a few passes.

    0 where those overflow, as in float16 at its limit.
    """
    differences = []
    for seed in range(ROUNDINGS):
        with rounded_otherwise(network, seed):
            differences.append(expected.worst(own_logits(network, expected.rows)))
    middle = median(differences)
    return middle if math.isfinite(middle) else 0.0
