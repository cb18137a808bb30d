"""GRPO whose order of prompts depends on the seed and the epoch alone."""

import torch
from torch.utils.data import Sampler

from hidden_rule.training.compat_trl import OpenGRPOTrainer
from hidden_rule.training.time_limit import ClockedSchedule


class EpochOrderedGRPOTrainer(ClockedSchedule, OpenGRPOTrainer):
    """`GRPOTrainer` that shuffles each epoch anew from seed + epoch, or takes the orders (epochs, N) that it is given.

    TRL's sampler draws every epoch's order from one generator, so that a resumed training would meet the first epoch's
    order again. Here it goes through the rows as they stand (`shuffle_dataset=False`), and `OrderedSampler` says which
    row stands where.
    """

    def __init__(self, *args, orders=None, **kwargs):
        self.orders = orders
        super().__init__(*args, **kwargs)
        if self.shuffle_dataset:
            raise ValueError("shuffle_dataset must be False: the order of rows is this trainer's own")

    def train_sampler(self, dataset=None) -> "OrderedSampler":
        n_rows = len(self.train_dataset if dataset is None else dataset)
        return OrderedSampler(super().train_sampler(dataset), n_rows, self.args.seed, self.orders)


class OrderedSampler(Sampler):
    """What `positions`, a sampler, goes through, in the order of the epoch that `set_epoch` named last.

    The order is that row of `orders` (epochs, N), or, without them, a permutation of the N rows from seed + epoch.
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
