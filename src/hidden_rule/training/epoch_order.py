"""GRPO and RLOO whose order of prompts depends only on the seed and the epoch."""

from typing import Any

import torch
from torch.utils.data import Sampler

from hidden_rule.training.compat_trl import OpenGRPOTrainer, OpenRLOOTrainer
from hidden_rule.training.time_limit import ClockedSchedule


class EpochOrder(ClockedSchedule):
    """Mixin before a trainer of TRL's: shuffles each epoch with seed + epoch, or uses given orders (epochs, N).

    TRL's sampler draws every epoch's order from one generator, so that a resumed training would repeat the first
    epoch's order. Here TRL does not shuffle (`shuffle_dataset=False`), and `OrderedSampler` maps positions to rows.
    """

    shuffle_dataset: bool  # the trainer's
    train_dataset: Any

    def __init__(self, *args, orders=None, **kwargs):
        self.orders = orders
        super().__init__(*args, **kwargs)
        if self.shuffle_dataset:
            raise ValueError("shuffle_dataset must be False: the order of rows is this trainer's own")

    def train_sampler(self, dataset=None) -> "OrderedSampler":
        n_rows = len(self.train_dataset if dataset is None else dataset)
        positions = super().train_sampler(dataset)  # type: ignore[misc]
        return OrderedSampler(positions, n_rows, self.args.seed, self.orders)


class EpochOrderedGRPOTrainer(EpochOrder, OpenGRPOTrainer):
    """`GRPOTrainer` in this order."""


class EpochOrderedRLOOTrainer(EpochOrder, OpenRLOOTrainer):
    """`RLOOTrainer` in this order."""


class OrderedSampler(Sampler):
    """The positions that a sampler yields, mapped to rows by the current epoch's order.

    The order is the epoch's row of `orders` (epochs, N), or, without them, a permutation of the N rows drawn with
    seed + epoch. `set_epoch` sets the epoch.
    """

    def __init__(self, positions: Sampler, n_rows: int, seed: int, orders=None):
        self.positions, self.n_rows, self.seed, self.orders = positions, n_rows, seed, orders
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def order(self) -> list[int]:
        """Row numbers (N,) of this epoch."""
        if self.orders is not None:
            return self.orders[self.epoch].tolist()
        return torch.randperm(self.n_rows, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()

    def __iter__(self):
        order = self.order()
        return (order[position] for position in self.positions)

    def __len__(self) -> int:
        return len(self.positions)
