"""What a model computes: positions, counted where its parts are called, and seconds of its batches.

A position that passes some of the layers alone counts as their share (`frozen_layers.py`); its gradient as the share of
those from the first trained one on. What the last layer leaves out of the others (`last_layer.py`) is counted apart:
operations are without it, positions and the units of laps with it.

Calls are counted by forward pre-hooks, whatever computes behind them: our kernels, a trainer's own forward pass,
generation token by token. What another program generates (vLLM) is not counted.
"""

import contextlib
from weakref import WeakKeyDictionary

import torch

from hidden_rule.core.flops import Counts, flops
from hidden_rule.core.laps import Lap, Laps
from hidden_rule.kernels.frozen_layers import share_frozen
from hidden_rule.kernels.shared_prefix import body, frozen_parts, narrow

meters: WeakKeyDictionary = WeakKeyDictionary()  # by causal model, without the adapter's wrapper


def plain(model):
    """The causal model in a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def sizes_of(model) -> dict[str, int]:
    """Weights of a causal model, with or without an adapter, as `flops` takes them."""
    network = plain(model)
    backbone = {name: _size(p) for name, p in body(network).named_parameters() if "embed" not in name}
    lora = sum(size for name, size in backbone.items() if "lora_" in name)
    head = _size(network.get_output_embeddings().weight)
    return {"n": sum(backbone.values()) - lora, "lora": lora, "head": head}


def _size(parameter) -> int:
    """Elements of a parameter; under DeepSpeed's ZeRO-3 those of all processes together."""
    return getattr(parameter, "ds_numel", parameter.numel())


class Meter:
    """Counts what a model computes from now on.

    counts: positions; left_out: what of them the last layer did not compute, as whole positions; calls: of the
    backbone; laps: seconds of its batches and steps.
    """

    def __init__(self, model):
        network = plain(model)
        self.sizes = sizes_of(model)
        self.share_with_gradient = 1 - share_frozen(body(network))
        self.counts, self.left_out, self.calls, self.laps = Counts(), Counts(), 0, Laps()
        meters[network] = self
        body(network).register_forward_pre_hook(self.on_backbone, with_kwargs=True)
        network.get_output_embeddings().register_forward_pre_hook(self.on_head)
        model.register_forward_pre_hook(self.on_fused, with_kwargs=True)

    def add(self, positions: int, projected: int, share: float = 1.0) -> None:
        """Count positions of the backbone, which passed a share of its layers, and of the output layer."""
        grad = torch.is_grad_enabled()
        with_gradient = round(positions * min(share, self.share_with_gradient))
        self.counts += Counts(round(positions * share), with_gradient * grad, projected, projected * grad)

    def on_backbone(self, module, args, kwargs) -> None:
        ids, embeddings = kwargs.get("input_ids", args[0] if args else None), kwargs.get("inputs_embeds")
        n = ids.numel() if ids is not None else embeddings.shape[0] * embeddings.shape[1]
        frozen = frozen_parts.get(module)
        self.add(n, 0, 1.0 if frozen is None else frozen.share)
        tree = kwargs.get("prefix_tree")
        if tree is not None and tree.read is not None:
            left = round((n - len(tree.read)) * narrow[module])
            self.left_out += Counts(left, left * torch.is_grad_enabled())
        self.calls += 1

    def on_head(self, module, args) -> None:
        self.add(0, args[0].numel() // args[0].shape[-1])

    def on_fused(self, module, args, kwargs) -> None:
        """On a GPU, log-probabilities are computed from the output layer's weights without calling the layer."""
        if kwargs.get("fused_lm_head") and kwargs["labels"].is_cuda:
            self.add(0, int((kwargs["labels"][:, 1:] != -100).sum()))

    def adopt(self, lap: Lap) -> None:
        """Count what another job computed for this one, as if it had done so itself; the lap's units are positions."""
        self.laps.laps.append(lap)
        self.counts += Counts(positions=round(lap.units))

    def flops(self, checkpointing: bool = False) -> int:
        """Floating-point operations so far, an estimate."""
        return flops(self.computed, **self.sizes, checkpointing=checkpointing)

    @property
    def computed(self) -> Counts:
        """The positions that were computed, as whole ones."""
        return self.counts - self.left_out


def lap(model, kind: str, by: str = "positions"):
    """A context that times a batch of a model, if a meter is on it; by: its units, `positions` or backbone `calls`."""
    meter = meters.get(plain(model))
    if meter is None:
        return contextlib.nullcontext()
    return meter.laps.within(kind, lambda: meter.calls if by == "calls" else meter.counts.positions)
