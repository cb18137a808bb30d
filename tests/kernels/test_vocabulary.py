"""Scores of tokens over a vocabulary are PyTorch's own, and so is their gradient."""

import pytest
import torch

from hidden_rule.kernels import native
from hidden_rule.kernels.vocabulary import token_scores

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C compiler")


def by_pytorch(logits, chosen):
    every = torch.log_softmax(logits.double(), dim=-1)
    log_prob = every.gather(1, chosen.unsqueeze(1)).squeeze(1)
    return log_prob, -(every.exp() * every).sum(1), log_prob == every.amax(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "width", "spread"),
    [(1, 1, 1.0), (3, 7, 1.0), (5, 31, 30.0), (4, 49152, 5.0), (2, 151936, 0.0)],  # the last: all equally likely
)
def test_scores_and_gradients(dtype, rows, width, spread):
    generator = torch.Generator().manual_seed(rows)
    logits = (spread * torch.randn(rows, width, generator=generator)).to(dtype).requires_grad_()
    chosen = torch.randint(width, (rows,), generator=generator)
    chosen[0] = logits[0].argmax()
    weight = torch.randn(rows, generator=generator)
    expected = by_pytorch(logits, chosen)
    expected_gradient = torch.autograd.grad((weight * expected[0]).sum(), logits)[0]
    found = token_scores(logits, chosen)
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-5)
    assert found[2].tolist() == expected[2].tolist()
    gradient = torch.autograd.grad((weight * found[0]).sum(), logits)[0]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=1e-7)
    with torch.no_grad():
        assert torch.equal(token_scores(logits, chosen)[0], found[0])


def test_tokens_that_are_equally_likely_are_all_the_likeliest():
    logits = torch.tensor([[1.0, 3.0, 3.0], [1.0, 3.0, 3.0], [1.0, 3.0, 3.0]])
    assert token_scores(logits, torch.tensor([0, 1, 2]))[2].tolist() == [False, True, True]


def test_what_is_not_a_number_stays_none():
    logits = torch.tensor([[1.0, float("nan")], [0.0, 0.0]])
    log_prob, entropy, _ = token_scores(logits, torch.tensor([0, 0]))
    assert log_prob.isnan().tolist() == entropy.isnan().tolist() == [True, False]
