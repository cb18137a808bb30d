"""What is used of the internals of TRL's trainers, and of transformers' below them; written for TRL 1.16.

Of `GRPOTrainer`, each behind a name of ours in `OpenGRPOTrainer`; to be removed when TRL lets a trainer be given its
policy, as it lets it be given its rollouts:
- `_compute_loss`, `_get_per_token_logps_and_entropies`: where the exact policy takes the place of the sampled one.
- `_prepare_inputs` (transformers'): where rollouts are made; the exact gradient needs none.
- `_get_train_sampler` (transformers'): the order of rows. To be removed when a sampler is an argument.
- `_metrics`: what `log` averages. To be removed when a trainer can log from within a loss.
- `_entropy_bonus_enabled`: whether the loss has an entropy bonus.
Of `RLOOTrainer`, in `OpenRLOOTrainer`: `_get_train_sampler`.
- `rollout_func`: documented, but experimental; TRL says so at every start unless it is silenced.

- `_total_train_tokens` of both trainers: the tokens that a resumed training counts on from (`TOKEN_COUNTER`). To be
  removed when a checkpoint holds them.
- `FusedCausalLMOutput`: what a model returns that was asked for `fused_lm_head`; our own forward pass answers the same
  question. To be removed when TRL documents the call.
"""

import os

import torch

from hidden_rule.core.versions import check_version

check_version("trl")
check_version("transformers")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` is pinned with TRL itself

from trl import GRPOTrainer, RLOOTrainer  # noqa: E402
from trl.trainer.utils import FusedCausalLMOutput  # noqa: E402

__all__ = ["TOKEN_COUNTER", "FusedCausalLMOutput", "OpenGRPOTrainer", "OpenRLOOTrainer"]

TOKEN_COUNTER = "_total_train_tokens"


class OpenGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` whose hooks have names of ours; each does what TRL's does until a subclass says otherwise."""

    @property
    def train_metrics(self) -> dict[str, list]:
        """What is averaged and logged after a step, by name."""
        return self._metrics["train"]

    @property
    def has_entropy_bonus(self) -> bool:
        return self._entropy_bonus_enabled

    def train_sampler(self, dataset=None):
        """The sampler of row numbers of the training data."""
        return super()._get_train_sampler(dataset)

    def prepare_batch(self, rows: list[dict]):
        """What the loss of a micro-batch is computed from: rows of the data set, with rollouts."""
        return super()._prepare_inputs(rows)

    def micro_batch_loss(self, model, inputs) -> torch.Tensor:
        """The loss of a micro-batch, a scalar, divided by the micro-batches of a step."""
        return super()._compute_loss(model, inputs)

    def token_log_probs(self, model, ids: torch.Tensor, mask: torch.Tensor, n_tokens: int, **options):
        """Log-probabilities, entropies and a third that is not used here, each (B, n_tokens), of the last tokens."""
        return super()._get_per_token_logps_and_entropies(model, ids, mask, n_tokens, **options)

    def _get_train_sampler(self, dataset=None):
        return self.train_sampler(dataset)

    def _prepare_inputs(self, generation_batch):
        return self.prepare_batch(generation_batch)

    def _compute_loss(self, model, inputs):
        return self.micro_batch_loss(model, inputs)

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, **options):
        return self.token_log_probs(model, input_ids, attention_mask, logits_to_keep, **options)


class OpenRLOOTrainer(RLOOTrainer):
    """`RLOOTrainer` whose order of rows has a name of ours."""

    def train_sampler(self, dataset=None):
        """The sampler of row numbers of the training data."""
        return super()._get_train_sampler(dataset)

    def _get_train_sampler(self, dataset=None):
        return self.train_sampler(dataset)
