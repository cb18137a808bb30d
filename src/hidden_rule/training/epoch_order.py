"""GRPO whose order of prompts depends on the seed and the epoch alone."""

from torch.utils.data import Sampler
from trl import GRPOTrainer


class EpochOrderedGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` that shuffles each epoch anew from seed + epoch, or takes the orders (epochs, N) that it is given.

    TRL's sampler draws every epoch's order from one generator, so that a resumed training would meet the first epoch's
    order again.
    """

    def __init__(self, *args, orders=None, **kwargs):
        self.orders = orders
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, dataset=None):
        sampler = super()._get_train_sampler(dataset)
        if self.orders is not None:
            sampler.shuffle = False
            return OrderedSampler(sampler, self.orders)
        sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(sampler.seed + epoch)
        return sampler


class OrderedSampler(Sampler):
    """What `positions`, a sampler, goes through, in the order (epochs, N) of the epoch that `set_epoch` named last."""

    def __init__(self, positions: Sampler, orders):
        self.positions, self.orders, self.epoch = positions, orders, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        order = self.orders[self.epoch].tolist()
        return (order[position] for position in self.positions)

    def __len__(self) -> int:
        return len(self.positions)
