"""The trie policy is the renormalised next-token distribution, exactly, and its draws follow it."""

import pytest
import torch
from scipy.stats import chisquare

from hidden_rule.models.trie import LabelTrie
from hidden_rule.training.shared_forward import add_shared_prefix_forward
from hidden_rule.training.structured_grpo import draw, uniforms
from tiny_models import DEVICE, tiny_model

PROMPTS = [[5] * 12 + [i, i + 1, 9][: 2 + i % 2] for i in range(1, 6)]
REPLIES = {
    "one branch": [[3, 4, 10, 2], [3, 4, 11, 12, 2], [3, 4, 13, 2]],
    "branches at once": [[10, 2], [11, 12, 2]],
    "shared leading tokens, branches twice": [[3, 10, 20, 2], [3, 10, 21, 2], [3, 11, 2], [3, 10, 20, 22, 2]],
    "branches in two subtrees": [[3, 10, 20, 2], [3, 10, 21, 2], [3, 11, 30, 2], [3, 11, 31, 2], [3, 11, 30, 32, 2]],
}


def brute_force(model, prompt, replies, temperature):
    """Log-probability of each reply: at every position renormalise over the tokens some reply has there."""
    result = []
    for reply in replies:
        total = 0.0
        for i, token in enumerate(reply):
            allowed = sorted({other[i] for other in replies if other[:i] == reply[:i]})
            logits = model(torch.tensor([prompt + reply[:i]], device=DEVICE)).logits[0, -1].float() / temperature
            total += float(torch.log_softmax(logits[allowed], -1)[allowed.index(token)])
        result.append(total)
    return torch.tensor(result)


@pytest.mark.parametrize("family", ["llama", "qwen", "gemma"])
@pytest.mark.parametrize("name", REPLIES)
def test_log_probs_equal_brute_force(family, name):
    model = tiny_model(family).eval()
    trie = LabelTrie(REPLIES[name])
    base = model.get_base_model()
    add_shared_prefix_forward(base, temperature=0.8)
    with torch.no_grad():
        found = trie.reply_log_probs(model(label_trie=trie, prompts=PROMPTS)).cpu()
        expected = torch.stack([brute_force(model, prompt, REPLIES[name], 0.8) for prompt in PROMPTS])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(len(PROMPTS)))


def test_tokens_of_a_reply_sum_to_its_log_probability():
    replies = REPLIES["branches in two subtrees"]
    trie = LabelTrie(replies)
    torch.manual_seed(0)
    logits = torch.randn(3, sum(len(branch.tokens) for branch in trie.branches))
    parts = logits.split([len(branch.tokens) for branch in trie.branches], dim=1)
    branch_log_probs = torch.cat([part.log_softmax(1) for part in parts], dim=1)
    rows, labels = [2, 0, 0, 1, 2], [4, 0, 2, 3, 1]
    log_probs, entropies = trie.spread(branch_log_probs, rows, labels, width=5)
    expected = trie.reply_log_probs(branch_log_probs)[rows, labels]
    torch.testing.assert_close(log_probs.sum(1), expected)
    for n, label in enumerate(labels):  # both stand at the choices and nowhere else
        at = log_probs[n].nonzero().flatten().tolist()
        assert at == trie.branch_positions(label) == entropies[n].nonzero().flatten().tolist()


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.3, 0.0, 0.2])
    for rows in ([(1, 2)] * 20_000, [(i,) for i in range(20_000)]):  # one group, and a prompt each
        draws = draw(probabilities.log().expand(20_000, -1), uniforms(rows, seed=0, step=0))
        counts = torch.bincount(draws, minlength=4)[[0, 1, 3]]
        assert counts.sum() == 20_000  # what has no probability is never drawn
        assert chisquare(counts.numpy(), (probabilities[[0, 1, 3]] * 20_000).numpy()).pvalue > 0.001


def test_draws_at_the_ends_of_the_unit_interval():
    log_probs = torch.tensor([0.0, 0.5, 0.5, 0.0]).log().repeat(3, 1)  # alike: rounding moves no end
    uniform = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert draw(log_probs, uniform).tolist() == [1, 2, 2]


def test_a_draw_depends_on_seed_step_prompt_and_place_in_the_group_alone():
    a, b = (1, 2, 3), (4, 5)
    drawn = uniforms([a, a, b, b], seed=0, step=7)
    assert torch.equal(uniforms([b, a, b, a], seed=0, step=7), drawn[[2, 0, 3, 1]])  # other micro-batches
    assert torch.equal(torch.cat([uniforms([row] * 2, seed=0, step=7) for row in (a, b)]), drawn)  # other processes
    others = [uniforms([a, a, b, b], seed, step) for seed, step in ((1, 7), (0, 8))]
    assert torch.cat([drawn, *others]).unique().numel() == 12


def test_a_position_without_a_choice_is_no_choice():
    trie = LabelTrie(REPLIES["shared leading tokens, branches twice"])
    assert [trie.branch_positions(i) for i in range(4)] == [[1, 2, 3], [1, 2], [1], [1, 2, 3]]


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([[1, 2]], "one reply is no choice"),
        ([[1, 2], [1, 2]], "the same reply twice"),
        ([[1], [1, 2]], "a prefix of another: whether to stop would be a choice that no token stands for"),
    ],
)
def test_replies_that_make_no_trie(replies, reason):
    with pytest.raises(ValueError, match="repl"):
        LabelTrie(replies)
