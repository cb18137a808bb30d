"""The layers below every trained one: what they make of known rows is computed once, and not again in each step.

With adapters in a model's last layers alone (`lora.last_layers`) the states that enter the first of these never change,
whatever is learnt. They are kept here of the rows that a training comes back to; its steps begin at that layer, and
autograd, which finds nothing to train below it, ends there too. States are computed in batches that depend on the rows
alone: a resumed training computes with the same bits.

Where it would not be exact nothing is kept, and every layer computes every row.
"""

import contextlib
import functools
import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import torch

from hidden_rule.core import processes
from hidden_rule.kernels import shared_prefix
from hidden_rule.kernels.shared_prefix import body, follow, pack, run_packed, sharing_fault, tree_size

log = logging.getLogger(__name__)

BATCH = 128  # rows that are computed at a time
MOST_BYTES = 2**30  # of states that are kept
ROUNDING = 0.02  # of the norm of states, by which bfloat16 moves them where rows are computed beside others


def layers_of(network) -> torch.nn.ModuleList | None:
    """The layers of a body, one after the other, or None where it has no list of as many as its configuration says."""
    n = getattr(network.config.get_text_config(), "num_hidden_layers", None)
    lists = (child for child in network.children() if isinstance(child, torch.nn.ModuleList))
    return next((layers for layers in lists if len(layers) == n), None)


def n_frozen(network) -> int:
    """How many layers of a body are below the first that has a weight to train; 0 where that cannot be told."""
    layers = layers_of(network)
    if layers is None:
        return 0
    trained = [any(weight.requires_grad for weight in layer.parameters()) for layer in layers]
    n = trained.index(True) if True in trained else 0
    inside = {id(weight) for layer in layers for weight in layer.parameters()}
    outside = any(weight.requires_grad for weight in network.parameters() if id(weight) not in inside)
    return 0 if outside else n


def share_frozen(network) -> float:
    """Of a body's layers, the share below the first that has a weight to train."""
    layers = layers_of(network)
    return 0.0 if layers is None else n_frozen(network) / len(layers)


def drops_at_random(network) -> bool:
    """Whether a configuration has its model set states to zero at random while it is trained."""
    values = network.config.get_text_config().to_dict()
    return any("drop" in name and isinstance(value, float) and value > 0 for name, value in values.items())


class FrozenLayers:
    """The first `n` layers of a body, which nothing trains, and the states that they made of rows."""

    def __init__(self, layers: torch.nn.ModuleList, n: int):
        self.layers, self.n = layers, n
        self.part: str | None = None  # of the layers that computes now: below, above, or None: all
        self.entry: torch.Tensor | None = None  # states (1, N, H) that enter the layers above
        self.rows: list[tuple[int, ...]] = []  # known ones, in order
        self.places: list[torch.Tensor] = []  # of each known row: where in `states` its tokens' are
        self.states: torch.Tensor | None = None  # (N, H)
        for i, layer in enumerate(layers):
            layer.forward = functools.partial(self.run, i, layer.forward)

    def remove(self) -> None:
        """Give the layers their own forwards again."""
        for layer in self.layers:
            layer.forward = layer.forward.args[1]

    def run(self, i: int, forward, *args, **kwargs):
        """The forward of layer `i`; one that is left out gives the states that enter the layers above."""
        if self.part is not None and (i < self.n) == (self.part == "above"):
            return self.entry
        output = forward(*args, **kwargs)
        if self.part == "below" and i == self.n - 1:
            if not isinstance(output, torch.Tensor):
                raise TypeError(f"{type(self.layers[i]).__name__} gives more than states")
            self.entry = output
        return output

    @contextlib.contextmanager
    def only(self, part: str, entry: torch.Tensor | None = None) -> Iterator[None]:
        """Let one part of the layers compute, `above` from the states that enter it."""
        self.part, self.entry = part, entry
        try:
            yield
        finally:
            self.part = self.entry = None

    @property
    def share(self) -> float:
        """Of the layers, those that compute now."""
        below = self.n / len(self.layers)
        return {"below": below, "above": 1 - below}.get(self.part or "", 1.0)

    def before(self, model, ids: torch.Tensor, tree) -> torch.Tensor:
        """The states (1, N, H) of a tree's tokens that enter the layers above."""
        with self.only("below"):
            follow(model, ids, tree, self.n)
            entry = self.entry
        if entry is None:
            raise RuntimeError("layers were not called one after the other")
        return entry

    def after(self, model, entry: torch.Tensor, ids: torch.Tensor, tree) -> torch.Tensor:
        """Last hidden states (N, H) of a tree's tokens, from the states that enter the layers above."""
        with self.only("above", entry):
            return follow(model, ids, tree, len(self.layers) - self.n)

    @torch.no_grad()
    def keep(self, model, rows: list[list[int]]) -> None:
        """Compute and keep the states of rows, in their order."""
        device, found, n = model.get_input_embeddings().weight.device, [], 0
        self.rows = sorted(dict.fromkeys(map(tuple, rows)))
        for i in range(0, len(self.rows), BATCH):
            ids, tree, paths = pack([list(row) for row in self.rows[i : i + BATCH]], device)
            found.append(self.before(model, ids, tree)[0])
            self.places += [torch.tensor(path) + n for path in paths]
            n += len(ids)
        self.states = torch.cat(found)

    def place(self, row: list[int]) -> torch.Tensor | None:
        """Where the states of a row's tokens are, if it is known or begins one that is."""
        key = tuple(row)
        i = bisect_left(self.rows, key)
        return self.places[i] if i < len(self.rows) and self.rows[i][: len(key)] == key else None

    def share_of(self, rows: Sequence[list[int]]) -> float:
        """Of the known tokens, each of a prefix tree once, the share in rows that are known."""
        places = [(self.place(row), len(row)) for row in rows]
        used = torch.cat([place[:length] for place, length in places if place is not None]).unique()
        return len(used) / len(torch.cat(self.places).unique())

    def tensors(self) -> dict[str, torch.Tensor]:
        """The known rows and their states, as `take_states` reads them: states (N, H), and integers (M,) and (R,)."""
        flat = [token for row in self.rows for token in row]
        return {
            "states": self.states,
            "tokens": torch.tensor(flat, dtype=torch.int32),
            "places": torch.cat(self.places).to(torch.int32),
            "lengths": torch.tensor([len(row) for row in self.rows], dtype=torch.int32),
        }

    def take(self, tensors: dict[str, torch.Tensor], device) -> None:
        """Know the rows that `tensors` gave, and their states."""
        lengths = tensors["lengths"].tolist()
        self.rows = [tuple(row.tolist()) for row in tensors["tokens"].split(lengths)]
        self.places = list(tensors["places"].long().split(lengths))
        self.states = tensors["states"].to(device)

    def known(self, rows: list[list[int]], paths: list[list[int]], n: int) -> torch.Tensor | None:
        """The states (1, n, H) that enter the layers above, of a prefix tree of rows; None if one is not known.

        `paths`: of each row the places of its tokens in the tree, past whose end the last one stands again.
        """
        if self.states is None:
            return None
        sources, end = torch.zeros(n, dtype=torch.long), 0
        for row, path in zip(rows, paths, strict=True):
            places = self.place(row)
            if places is None:
                return None
            sources[torch.tensor(path)] = places[: len(path)]
            end = max(end, max(path) + 1)
        sources[end:] = sources[end - 1]
        return self.states.index_select(0, sources.to(self.states.device)).unsqueeze(0)


def keep_frozen_states(model, given: Iterable[list[int]]) -> bool:
    """Keep what the layers below every trained one make of a training's rows; returns whether anything is kept.

    `model` is a causal one, without the adapter's wrapper. Not where processes share its weights, where rows share no
    prefixes, or where they would take more than MOST_BYTES.
    """
    network = body(model)
    n, weight = n_frozen(network), model.get_input_embeddings().weight
    if not n or network in shared_prefix.frozen_parts or drops_at_random(network):
        return False
    if processes.share_weights() or sharing_fault(model) is not None:
        return False
    rows = list(given)  # not before: where nothing is frozen they need not be made
    if tree_size(rows) * weight.shape[1] * weight.element_size() > MOST_BYTES:
        log.warning("states of frozen layers are not kept: %d rows would take too much memory", len(rows))
        return False
    frozen = FrozenLayers(layers_of(network), n)
    if fault := put_in(frozen, model, rows):
        log.warning("states of frozen layers are not kept: %s", fault)
        return False
    frozen.keep(model, rows)
    return True


def put_in(frozen: FrozenLayers, model, rows: Sequence[Sequence[int]]) -> str | None:
    """Let a causal model compute in two parts, tried with the first of `rows`; returns why it cannot, or None."""
    fault = fault_of(frozen, model, [list(row) for row in rows[:2]])
    if fault is None:
        shared_prefix.frozen_parts[body(model)] = frozen
    else:
        frozen.remove()
    return fault


@torch.no_grad()
def fault_of(frozen: FrozenLayers, model, rows: list[list[int]]) -> str | None:
    """Why layers do not compute in two parts what they do at once, or None: rows are computed both ways.

    States that are known already have to be those that the model makes of these rows, up to rounding.
    """
    ids, tree, paths = pack(rows, model.get_input_embeddings().weight.device)
    expected, _ = run_packed(model, rows)
    try:
        tree.n_calls = 0
        entry = frozen.before(model, ids, tree)
        tree.n_calls = 0
        found = frozen.after(model, entry, ids, tree)
    except Exception as error:  # whatever a model's own forward pass raises
        return str(error)
    if not torch.equal(found, expected):
        return "in two parts they compute something else"
    known = frozen.known(rows, paths, len(ids))
    if known is not None and (entry.float() - known.float()).norm() > ROUNDING * known.float().norm():
        return "they are not this model's"
    return None


def take_states(model, n: int, tensors: dict[str, torch.Tensor], rows: Sequence[list[int]] = ()) -> str | None:
    """Let a causal model take up rows behind its first `n` layers; returns why it cannot, or None.

    `tensors`: as `FrozenLayers.tensors` gave them of the same model, whose adapter is above these layers, or which has
    none. The first of their rows are computed again, and compared. `rows`: those that it has to have.
    """
    network, weight = body(model), model.get_input_embeddings().weight
    layers, states = layers_of(network), tensors["states"]
    if not len(states):
        return "none were kept"
    if fault := sharing_fault(model):
        return fault
    if layers is None or not 0 < n < len(layers):
        return f"they are of the first {n} layers of another model"
    if any("lora_" in name for layer in layers[:n] for name, _ in layer.named_parameters()):
        return f"the adapter is not above the first {n} layers alone"
    if states.dtype != weight.dtype or states.shape[1] != weight.shape[1]:
        return f"they are of {states.dtype} and width {states.shape[1]}"
    frozen = FrozenLayers(layers, n)
    frozen.take(tensors, weight.device)
    if any(frozen.place(row) is None for row in rows):
        frozen.remove()
        return "they are of other cases"
    return put_in(frozen, model, frozen.rows)
