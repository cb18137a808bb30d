"""The exact policy over a closed set of replies.

Structured decoding allows only the valid replies: at each position the next-token distribution is renormalised over
the tokens that some valid reply has there. Over a closed set that policy is exact and cheap. Put the replies' tokens
in a trie: where it does not branch the probability is 1, so a reply's log-probability is the sum over the branching
nodes on its path. Only the allowed tokens' logits are needed, and drawing a reply needs no generation.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch

from hidden_rule.kernels.shared_prefix import tail_states, token_logits


@dataclass(frozen=True)
class Branch:
    """A node of the trie with a choice: the path that leads to it, and the tokens allowed there."""

    path: tuple[int, ...]
    tokens: tuple[int, ...]


class LabelTrie:
    """The trie of the token sequences of L replies, no one of which is a prefix of another (end tokens see to it)."""

    def __init__(self, replies: list[list[int]]):
        self.replies = [tuple(reply) for reply in replies]
        if len(set(self.replies)) < max(2, len(self.replies)):
            raise ValueError("a trie needs two different replies at least")
        children: dict[tuple[int, ...], dict[int, None]] = {}
        for reply in self.replies:
            for i, token in enumerate(reply):
                children.setdefault(reply[:i], {})[token] = None
        if any(reply in children for reply in self.replies):
            raise ValueError("a reply is a prefix of another")
        self.branches = [Branch(path, tuple(tokens)) for path, tokens in children.items() if len(tokens) > 1]
        paths = [branch.path for branch in self.branches]
        longer = [any(other != path and other[: len(path)] == path for other in paths) for path in paths]
        self.paths = [path for path, inside in zip(paths, longer, strict=True) if not inside]
        self.stems = [reply[:-1] for reply in self.replies]  # what is computed to score every token of a reply

    def choices(self, reply: tuple[int, ...]) -> list[tuple[int, int]]:
        """The choices on a reply's path: (index of the branch, index of the token taken there)."""
        return [
            (b, branch.tokens.index(reply[len(branch.path)]))
            for b, branch in enumerate(self.branches)
            if reply[: len(branch.path)] == branch.path
        ]

    def branch_positions(self, label: int) -> list[int]:
        """Positions in a reply at which there is a choice."""
        return [len(self.branches[b].path) for b, _ in self.choices(self.replies[label])]

    def branch_log_probs(self, model, prompts: list[list[int]], temperature: float = 1.0) -> torch.Tensor:
        """Float32 log-probabilities (B, K) of the tokens of every branch, side by side, after each of B prompts."""
        heads = [prompt[:-1] for prompt in prompts]
        tails = [[prompt[-1], *path] for prompt in prompts for path in self.paths]
        parent = [i for i in range(len(prompts)) for _ in self.paths]
        states = tail_states(model, heads, tails, parent)
        states = states.unflatten(0, (len(prompts), len(self.paths)))  # (B, P, T, H)
        columns = []
        for branch in self.branches:
            depth = len(branch.path)
            p = next(i for i, path in enumerate(self.paths) if path[:depth] == branch.path)
            logits = token_logits(model, states[:, p, depth], list(branch.tokens)) / temperature
            columns.append(torch.log_softmax(logits, dim=-1))
        return torch.cat(columns, dim=1)

    def reply_log_probs(self, branch_log_probs: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (B, L) of each reply from those of the branches (B, K); each row's exp sums to 1."""
        by_branch = branch_log_probs.split([len(branch.tokens) for branch in self.branches], dim=1)
        columns = [sum(by_branch[b][:, k] for b, k in self.choices(reply)) for reply in self.replies]
        return torch.stack(columns, dim=1)

    def log_probs(self, model, prompts: list[list[int]], temperature: float = 1.0) -> torch.Tensor:
        """Float32 log-probabilities (B, L) of each reply after each of B prompts; each row's exp sums to 1."""
        return self.reply_log_probs(self.branch_log_probs(model, prompts, temperature))

    def spread(
        self, branch_log_probs: torch.Tensor, rows: list[int], labels: list[int], width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability and entropy in nats, both (N, width), of each token of N replies; 0 where none is chosen.

        Reply n is `labels[n]` after prompt `rows[n]` of `branch_log_probs` (B, K). Differentiable.
        """
        by_branch = branch_log_probs.split([len(branch.tokens) for branch in self.branches], dim=1)
        entropy = torch.stack([-(part.exp() * part).sum(1) for part in by_branch], dim=1)  # (B, number of branches)
        first = [0, *accumulate(len(branch.tokens) for branch in self.branches)]
        choices = [self.choices(reply) for reply in self.replies]
        taken = [  # (reply, its prompt, branch, column of the token taken, position in the reply)
            (n, row, b, first[b] + k, len(self.branches[b].path))
            for n, (row, label) in enumerate(zip(rows, labels, strict=True))
            for b, k in choices[label]
        ]
        n, row, b, column, position = torch.tensor(taken, device=branch_log_probs.device).unbind(1)
        zeros = branch_log_probs.new_zeros(len(rows), width)
        log_probs = zeros.index_put((n, position), branch_log_probs[row, column])
        return log_probs, zeros.index_put((n, position), entropy[row, b])
