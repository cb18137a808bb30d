"""GRPO whose order of prompts depends on the seed and the epoch alone."""

from trl import GRPOTrainer


class EpochOrderedGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` that shuffles each epoch anew from seed + epoch.

    TRL's sampler draws every epoch's order from one generator, so that a resumed training would meet the first epoch's
    order again.
    """

    def _get_train_sampler(self, dataset=None):
        sampler = super()._get_train_sampler(dataset)
        sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(sampler.seed + epoch)
        return sampler
