"""The last layer, computed where its states are read alone.

Of a packed row last hidden states are read of few tokens: those that predict a reply. The last layer's keys and values
are needed of every token, its queries, their product and its MLP only where a state is read. What the layer gives for
other tokens means nothing.
"""

import torch

from hidden_rule.kernels import shared_prefix
from hidden_rule.kernels.attention import PrefixTree, of_read
from hidden_rule.kernels.compat_transformers import class_of
from hidden_rule.kernels.frozen_layers import layers_of
from hidden_rule.kernels.mlp import MLPS
from hidden_rule.kernels.shared_prefix import body
from hidden_rule.kernels.tree_attention import ATTENTIONS


class NarrowMLP:
    """Gives a layer's MLP a forward that computes what is read of the tree that its attention was given before."""

    def __init__(self, attention: torch.nn.Module, mlp: torch.nn.Module):
        self.mlp, self.own = mlp, mlp.forward
        self.read: torch.Tensor | None = None
        mlp.forward = self.forward
        self.hook = attention.register_forward_pre_hook(self.begin, with_kwargs=True)  # also where it is computed again

    def begin(self, attention, args, kwargs) -> None:
        """Read as the tree says that attention is called with."""
        tree: PrefixTree | None = kwargs.get("prefix_tree")
        self.read = None if tree is None else tree.read

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The MLP's output (1, N, H)."""
        read, self.read = self.read, None
        return of_read(self.own, states, read)

    def remove(self) -> None:
        """Give the MLP its own forward again."""
        self.mlp.forward = self.own
        self.hook.remove()


def narrow_last_layer(network) -> NarrowMLP | None:
    """Let a causal model's last layer compute where its states are read alone; None if it has no MLP of ours."""
    layers = layers_of(body(network))
    attention, mlp = (getattr(layers[-1], name, None) for name in ("self_attn", "mlp")) if layers else (None, None)
    if attention is None or mlp is None or not is_ours(mlp, MLPS):
        return None
    parts = [mlp, attention.q_proj, attention.o_proj] if is_ours(attention, ATTENTIONS) else [mlp]
    left_out = sum(weight.numel() for part in parts for weight in part.parameters())
    every = sum(weight.numel() for name, weight in body(network).named_parameters() if "embed" not in name)
    shared_prefix.narrow[body(network)] = left_out / every
    return NarrowMLP(attention, mlp)


def is_ours(part, classes: frozenset[str]) -> bool:
    """Whether a part of a layer is of one of these classes, and has a forward of ours."""
    return class_of(part) in classes and "forward" in vars(part)


def widen_last_layer(network, mlp: NarrowMLP) -> None:
    """Let it compute everything again."""
    mlp.remove()
    del shared_prefix.narrow[body(network)]
