"""Log-probabilities and entropies of tokens over a vocabulary, by one compiled pass over their logits.

PyTorch's operators copy bfloat16 logits to float32 and write log-probabilities and probabilities of the whole
vocabulary; here neither is written, and the gradient of the logits is made from these again.
"""

import torch

from hidden_rule.kernels import native, without_gradients


class TokenScoresFunction(torch.autograd.Function):
    """Of logits (N, V) and a token for each row: its log-probability, the entropy in nats, whether it is the likeliest.

    All (N,), the first two in float32. The log-probabilities alone have a gradient: in logit v it is 1 if v is the
    token, else 0, minus v's probability.
    """

    @staticmethod
    def forward(ctx, logits, chosen):
        rows = len(logits)
        log_prob, entropy, log_sum = (logits.new_empty(rows, dtype=torch.float32) for _ in range(3))
        is_top = torch.empty(rows, dtype=torch.bool)
        native.call("score_tokens", logits, chosen, log_prob, entropy, is_top, log_sum, *logits.shape)
        ctx.save_for_backward(logits, chosen, log_sum)
        ctx.mark_non_differentiable(entropy, is_top)
        return log_prob, entropy, is_top

    @staticmethod
    def backward(ctx, grad, *others):
        logits, chosen, log_sum = ctx.saved_tensors
        out = torch.empty_like(logits)
        native.call("score_tokens_backward", logits, chosen, log_sum, grad.contiguous(), out, *logits.shape)
        return out, None


def token_scores(logits: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`TokenScoresFunction` of contiguous logits (N, V) and int64 tokens (N,)."""
    return without_gradients.call(TokenScoresFunction, logits, chosen)
