"""RLOO whose policy is the exact distribution over the valid replies.

Rollouts, log-probabilities, data order and history are those of `structured_grpo.py`. What is RLOO's (Ahmadian et al.
2024), as TRL's `RLOOTrainer` has it:
- The advantage of a reply is its reward less the mean reward of the others in its group, divided by nothing.
- A KL penalty towards the start is part of the reward: less `beta` times log π(y|x) − log π_start(y|x).
- The loss is one of whole replies, −mean(A log π(y|x)): a mean over replies, not over tokens.

Rollouts are drawn from the policy that is trained, so that nothing is clipped.
"""

import torch

from hidden_rule.training.structured_grpo import StructuredGRPOTrainer, distinct_rows


class StructuredRLOOTrainer(StructuredGRPOTrainer):
    """RLOO over a `LabelTrie`; its arguments have `scale_rewards="none"`: rewards less their group's mean."""

    def micro_batch_loss(self, model, inputs) -> torch.Tensor:
        """The loss of a micro-batch, which holds whole groups, divided by the micro-batches of a step."""
        if self.beta == 0 and torch.is_grad_enabled():
            self.has_signal = (inputs["advantages"] != 0).tolist()
        ids, mask = (
            torch.cat([inputs[f"prompt_{name}"], inputs[f"completion_{name}"]], dim=1) for name in ("ids", "mask")
        )
        try:
            by_token, *_ = self.token_log_probs(model, ids, mask, inputs["completion_ids"].size(1))
        finally:
            self.has_signal = None
        log_probs = by_token.sum(1)  # 0 where a reply has no choice
        advantages = leave_one_out(inputs["advantages"], self.num_generations)
        if self.beta:
            drift = log_probs.detach() - inputs["ref_per_token_logps"].sum(1)
            self.train_metrics["kl"].append(float(drift.mean()))
            prompts = distinct_rows(inputs["prompt_ids"], inputs["prompt_mask"])  # TRL shuffles a micro-batch's replies
            advantages = advantages - self.beta * less_mean_of_others(drift, prompts)
        return rloo_loss(log_probs, advantages) / self.current_gradient_accumulation_steps


def less_mean_of_others(values: torch.Tensor, groups: list) -> torch.Tensor:
    """Values (B,) less the mean of the others in their group, of at least two; groups: what (B,) each belongs to."""
    place = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    index = torch.tensor([place[group] for group in groups], device=values.device)
    sums, counts = (
        values.new_zeros(len(place)).index_add(0, index, of)[index] for of in (values, torch.ones_like(values))
    )
    return values - (sums - values) / (counts - 1)


def leave_one_out(centred: torch.Tensor, group_size: int) -> torch.Tensor:
    """The reward of each reply less the mean of the others' in its group, from rewards (B,) less their group's mean.

    r − (S − r) / (G − 1) = G / (G − 1) · (r − S / G), where S is the sum over the group.
    """
    return centred * group_size / (group_size - 1)


def rloo_loss(log_probs: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """TRL's loss of replies that the policy itself has drawn, −mean(A π(y|x) / π_old(y|x)), the ratio being 1."""
    return -(torch.exp(log_probs - log_probs.detach()) * advantages).mean()
