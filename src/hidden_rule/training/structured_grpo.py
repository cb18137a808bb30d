"""GRPO whose policy is the exact distribution over the valid replies.

Where it departs from TRL's `GRPOTrainer`:
- Rollouts are draws from the categorical distribution over the replies (`LabelTrie`), not generated token by token;
  one forward pass over the prompts serves any group size.
- Log-probabilities and entropies are those of that distribution: tokens renormalised over the ones that some valid
  reply allows. Positions without a choice carry no probability and are masked (`env_mask`) out of the loss, the
  entropy and the lengths; so sums and means over tokens run over choices.
- The rollouts' forward pass keeps its graph, and the loss of the same micro-batch uses it: no weight has changed in
  between, so a second pass would give the same numbers.
- A draw depends on the seed, the step, the prompt and the place in its group only (`uniforms`).
- A group whose completions all have the same reward has advantages of exactly 0 and no gradient. Where few groups have
  unequal rewards, gradients are computed only for those (`SIGNAL_SHARE`), and none where no group has; the sum is the
  same.
- `num_tokens` counts prompts and whole replies, not the masked tokens alone.

Advantages, clipping, loss types, KL penalty, entropy bonus and logging are TRL's.
"""

import numpy as np
import torch

from hidden_rule.core import processes
from hidden_rule.kernels.shared_prefix import tree_size
from hidden_rule.models.finite import check_numbers, dtype_of
from hidden_rule.models.free_replies import uniforms
from hidden_rule.models.trie import LabelTrie
from hidden_rule.training.epoch_order import EpochOrderedGRPOTrainer
from hidden_rule.training.shared_forward import add_shared_prefix_forward

SIGNAL_SHARE = 0.5  # of a micro-batch's tokens: below it one more forward pass, half a step, over some is the cheaper


class StructuredGRPOTrainer(EpochOrderedGRPOTrainer):
    """`GRPOTrainer` over a `LabelTrie`; completions are replies of the trie.

    `rows` are the token ids of the training prompts. The data set's column `prompt` holds places among them
    (`row_names`): TRL copies and searches a prompt once a completion, which for conversations takes its time.
    """

    def __init__(self, *args, trie: LabelTrie, rows: list[list[int]], **kwargs):
        super().__init__(*args, rollout_func=draw_rollouts, **kwargs)
        self.trie = trie
        self.rows = [tuple(row) for row in rows]
        self.reply_index = {reply: i for i, reply in enumerate(trie.replies)}
        # the row of each prompt, and the branch log-probabilities (U, K) of those rows with their graph
        self.kept_policy: tuple[dict, torch.Tensor] | None = None
        # of each completion whose loss is being computed; None: all are needed
        self.has_signal: list[bool] | None = None
        self.n_tokens_rolled_out = 0
        add_shared_prefix_forward(self.model.get_base_model(), temperature=self.temperature)

    def policy(self, model, prompts: list[tuple[int, ...]]) -> tuple[dict, torch.Tensor]:
        """The row of each distinct prompt, and the trie's branch log-probabilities (U, K) of those U prompts."""
        index = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        return index, model(label_trie=self.trie, prompts=[list(prompt) for prompt in index])

    def micro_batch_loss(self, model, inputs):
        """TRL's loss; a KL penalty or an entropy bonus needs the gradient of every group, otherwise few may suffice."""
        if self.beta == 0 and not self.has_entropy_bonus and torch.is_grad_enabled():
            self.has_signal = (inputs["advantages"] != 0).tolist()
        try:
            return super().micro_batch_loss(model, inputs)
        finally:
            self.has_signal = None

    def with_signal_alone(self, model, index: dict, branch_log_probs: torch.Tensor, prompts: list) -> torch.Tensor:
        """`branch_log_probs` (U, K) with gradients for the prompts with a signal alone, where that is cheaper."""
        signal = self.has_signal or [True] * len(prompts)
        active = dict.fromkeys(prompt for prompt, has in zip(prompts, signal, strict=True) if has)
        if not active and processes.n_processes() == 1:
            return branch_log_probs.detach() + self.without_gradient()
        active = active or dict.fromkeys(prompts[:1])  # processes meet in the backward pass, whoever has a signal
        if tree_size(active) >= SIGNAL_SHARE * tree_size(index):
            return branch_log_probs
        rows = torch.tensor([index[prompt] for prompt in active], device=branch_log_probs.device)
        return branch_log_probs.detach().index_copy(0, rows, self.policy(model, list(active))[1])

    def without_gradient(self) -> torch.Tensor:
        """A zero whose gradient in every trained weight is 0: a backward pass that computes nothing."""
        return sum((weight * 0).sum() for weight in self.model.parameters() if weight.requires_grad)

    def token_log_probs(self, model, ids, mask, n_tokens, compute_entropy=False, **options):
        """Log-probabilities and entropies (B, C) of completions under the trie policy; 0 where there is no choice."""
        split = ids.size(1) - n_tokens
        prompts = distinct_rows(ids[:, :split], mask[:, :split])
        labels = [self.reply_index[reply] for reply in distinct_rows(ids[:, split:], mask[:, split:])]
        kept, self.kept_policy = self.kept_policy, None
        if kept is not None and torch.is_grad_enabled() and kept[0].keys() >= set(prompts):
            index, branch_log_probs = kept
            branch_log_probs = self.with_signal_alone(model, index, branch_log_probs, prompts)
        else:
            self.kept_policy = kept  # a pass without gradients (reference model) leaves it to the loss
            index, branch_log_probs = self.policy(model, prompts)
        chosen = [index[prompt] for prompt in prompts]
        log_probs, entropies = self.trie.spread(branch_log_probs, chosen, labels, n_tokens)
        return log_probs, (entropies if compute_entropy else None), None

    def log(self, logs: dict, start_time: float | None = None) -> None:
        """TRL's logging, with all tokens of the rollouts counted."""
        if "num_tokens" in self.train_metrics:
            self.train_metrics["num_tokens"] = [self.n_tokens_rolled_out]
        super().log(logs, start_time)


def draw_rollouts(prompts: list, trainer: StructuredGRPOTrainer) -> dict:
    """TRL's rollout function: a reply drawn for each prompt (a group's prompts are repeated in a row)."""
    rows = [trainer.rows[int(prompt)] for prompt in prompts]
    training = trainer.model.training
    with torch.set_grad_enabled(training):
        index, branch_log_probs = trainer.policy(trainer.model_wrapped if training else trainer.model, rows)
    trainer.kept_policy = (index, branch_log_probs) if training else None
    chosen = [index[row] for row in rows]
    with torch.no_grad():
        log_probs = trainer.trie.reply_log_probs(branch_log_probs.detach())
        labels = draw(log_probs[chosen], uniforms(rows, trainer.args.seed, trainer.state.global_step)).tolist()
        replies = [trainer.trie.replies[label] for label in labels]
        width = max(map(len, replies))
        token_log_probs, _ = trainer.trie.spread(branch_log_probs.detach(), chosen, labels, width)
    if training:
        entropy = -(log_probs.exp() * log_probs).sum(1).mean()
        n_tokens, entropies = processes.reduced([sum(map(len, rows)) + sum(map(len, replies)), float(entropy)])
        # not finite in any process, hence an error in all of them
        check_numbers({"the entropy of the replies": entropies}, dtype_of(trainer.model), trainer.state.global_step + 1)
        trainer.n_tokens_rolled_out += int(n_tokens)
        trainer.train_metrics["label_entropy"].append(entropies / processes.n_processes())
    choices = [set(trainer.trie.branch_positions(label)) for label in labels]
    arrays = {row: np.array(row) for row in index}  # TRL makes a tensor of each, of an array at once
    return {
        "prompt_ids": [arrays[row] for row in rows],
        "completion_ids": [list(reply) for reply in replies],
        "logprobs": [row[: len(reply)] for row, reply in zip(token_log_probs.tolist(), replies, strict=True)],
        "env_mask": [[int(i in at) for i in range(len(reply))] for reply, at in zip(replies, choices, strict=True)],
    }


def row_names(rows: list) -> list[str]:
    """The column `prompt` of a data set whose prompts are `rows`."""
    return [str(i) for i in range(len(rows))]


def distinct_rows(ids: torch.Tensor, mask: torch.Tensor) -> list[tuple[int, ...]]:
    """The real tokens of each row of (B, T); rows that are equal are read once, and are one tuple."""
    distinct, index = torch.unique(torch.where(mask.bool(), ids, -1), dim=0, return_inverse=True)
    rows = [tuple(token for token in row if token != -1) for row in distinct.tolist()]
    return [rows[i] for i in index.tolist()]


def draw(log_probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """A label (N,) for each row of log-probabilities (N, L): where a uniform number (N,) falls among them."""
    cumulative = log_probs.double().exp().cpu().cumsum(1)
    falls = torch.searchsorted(cumulative, (uniform * cumulative[:, -1]).unsqueeze(1), right=True)
    return falls.squeeze(1).clamp(max=log_probs.size(1) - 1)
