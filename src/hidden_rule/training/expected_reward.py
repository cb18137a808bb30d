"""The exact gradient of the expected reward: what GRPO's samples estimate, without sampling.

Over a closed set of L replies the policy π is a known distribution (`LabelTrie`), so the expected reward of a prompt x,
J(x) = Σ_l π(l|x) r(l, x), and its gradient Σ_l r(l, x) ∇π(l|x) are computed, not estimated: REINFORCE (Williams 1992)
summed over all actions. The only difference from GRPO is that nothing is sampled: rare replies are
always included, and every prompt has a gradient.

Where it departs from `StructuredGRPOTrainer`, whose model, data order, optimizer, history and checkpoints it shares:
- Nothing is drawn; each prompt is computed once, whatever the group size.
- `scale_rewards` divides by the standard deviation of the reward under the policy itself (`group`: of the prompt,
  `batch`: of the micro-batch), held fixed in the gradient: the limit of GRPO's estimate as the group grows. In groups
  of G, GRPO's expected gradient without scaling is (G − 1)/G of this one, for the group's mean holds the reply itself.
- The entropy bonus is over the label set, in nats: the expected sum of the entropies at a reply's choices.
- `loss_type` averages over tokens and has nothing to average here.
- The history's share of groups with equal rewards is its expectation at `group_size`, Σ_v P(reward = v)^G.
"""

import torch

from hidden_rule.core import processes
from hidden_rule.models.finite import check_numbers, dtype_of
from hidden_rule.task.reward_file import TOTAL
from hidden_rule.task.rewards import OwnRewards, TableRewards, added_rows
from hidden_rule.training.structured_grpo import StructuredGRPOTrainer
from hidden_rule.training.watcher import PART_PREFIX, SHARE_PREFIX

EPSILON = 1e-4  # TRL's, added to a standard deviation


class ExpectedRewardTrainer(StructuredGRPOTrainer):
    """Maximises the exact expected reward; `rewards` are those of each reply to a row, in the order of `labels`."""

    def __init__(self, *args, labels, rewards: TableRewards | OwnRewards, **kwargs):
        super().__init__(*args, **kwargs)
        self.labels = tuple(labels)
        self.rewards = rewards

    def prepare_batch(self, rows: list[dict]) -> list[dict]:
        """One row a prompt of those that TRL's sampler repeats for their group."""
        return rows[:: self.num_generations]

    def tokens_of(self, inputs: list[dict]) -> list[tuple[int, ...]]:
        """Token ids of the prompts of rows of the data set."""
        return [self.rows[int(row["prompt"])] for row in inputs]

    def micro_batch_loss(self, model, inputs: list[dict]) -> torch.Tensor:
        prompts = self.tokens_of(inputs)
        index, branch_log_probs = self.policy(model, prompts)
        log_probs = self.trie.reply_log_probs(branch_log_probs)[[index[prompt] for prompt in prompts]]
        parts = self.rewards.of_replies([row["label"] for row in inputs], [int(row["prompt"]) for row in inputs])
        rewards = torch.tensor(added_rows(parts), device=log_probs.device)
        named = {PART_PREFIX + name: torch.tensor(points) for name, points in parts.items() if name != TOTAL}
        self.write_down(log_probs.detach(), rewards, sum(map(len, prompts)), named)
        spread = reward_spread(log_probs.detach(), rewards, self.scale_rewards)
        loss = expected_reward_loss(log_probs, rewards, spread, self.entropy_coef)
        return loss / self.current_gradient_accumulation_steps

    def write_down(self, log_probs: torch.Tensor, rewards: torch.Tensor, n_tokens: int, parts: dict) -> None:
        """Add a micro-batch's expectations, over all processes, to what is logged; parts: of the rewards, by name."""
        probabilities = log_probs.exp()
        per_prompt = {
            "reward": (probabilities * rewards).sum(1),
            "label_entropy": entropy(log_probs),
            "frac_reward_zero_std": same_reward_chance(probabilities, rewards, self.num_generations),
            "invalid_share": torch.zeros(len(rewards)),
            **{SHARE_PREFIX + label: probabilities[:, i] for i, label in enumerate(self.labels)},
            **{name: (probabilities * part.to(probabilities)).sum(1) for name, part in parts.items()},
        }
        sums = [float(values.double().sum()) for values in per_prompt.values()]
        *sums, n, all_tokens = processes.reduced([*sums, len(rewards), n_tokens])
        of_replies = {"the expected reward": sums[0], "the entropy of the replies": sums[1]}
        check_numbers(of_replies, dtype_of(self.model), self.state.global_step + 1)
        for name, total in zip(per_prompt, sums, strict=True):
            self.train_metrics[name].append(total / n)
        self.n_tokens_rolled_out += int(all_tokens)
        self.train_metrics["num_tokens"] = [self.n_tokens_rolled_out]


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """Entropy (B,) in nats of each row of log-probabilities (B, L)."""
    return -(log_probs.exp() * log_probs).sum(1)


def same_reward_chance(probabilities: torch.Tensor, rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """Probability (B,) that all of a group drawn from `probabilities` (B, L) have the same of `rewards` (B, L)."""
    alike = (rewards.unsqueeze(2) == rewards.unsqueeze(1)).to(probabilities.dtype)  # (B, L, L)
    as_much = (alike @ probabilities.unsqueeze(2)).squeeze(2)  # of a reply that earns what reply l earns
    return (probabilities * as_much ** (group_size - 1)).sum(1)


def reward_spread(log_probs: torch.Tensor, rewards: torch.Tensor, scale_rewards: str) -> torch.Tensor:
    """What rewards (B, L) are divided by under the policy `log_probs` (B, L): (B, 1), or (1, 1) for a whole batch."""
    if scale_rewards == "none":
        return torch.ones(1, 1, device=rewards.device)
    probabilities = log_probs.exp()
    centre = (probabilities * rewards).sum(1, keepdim=True)
    if scale_rewards == "batch":
        total, n = processes.reduced([float(centre.sum()), len(centre)])
        centre = torch.full_like(centre, total / n)
    variance = (probabilities * (rewards - centre) ** 2).sum(1, keepdim=True)
    if scale_rewards == "batch":
        total, n = processes.reduced([float(variance.sum()), len(variance)])
        variance = torch.full_like(variance[:1], total / n)
    return variance.sqrt() + EPSILON


def expected_reward_loss(log_probs, rewards, spread, entropy_coef: float) -> torch.Tensor:
    """A loss whose gradient is that of −mean_x (J(x) / spread(x) + entropy_coef · H(π(·|x))); `spread` is a constant.

    log_probs: (B, L) with a graph; rewards: (B, L); spread: (B, 1) or (1, 1). Its value is that of the entropy bonus
    alone: rewards count from their mean, which changes no gradient, as Σ_l ∇π(l|x) = 0, and keeps it accurate.
    """
    probabilities = log_probs.exp()
    fixed = probabilities.detach()
    advantages = (rewards - (fixed * rewards).sum(1, keepdim=True)) / spread
    loss = -(probabilities * advantages).sum(1).mean()
    return loss - entropy_coef * entropy(log_probs).mean() if entropy_coef else loss
