"""Replies drawn from uniform numbers are those of the plain computation, whatever is drawn beside them."""

import random

import pytest
import torch

from hidden_rule.models import free_replies
from hidden_rule.models.free_replies import Sampling, draw_replies, fall, until_stop
from hidden_rule.models.generation import make_neutral
from tiny_models import DEVICE, tiny_model

N_NEW, GROUP = 6, 3


def test_numbers_fall_on_tokens_by_hand():
    logits = torch.tensor([0.0, 0.1, 0.2, 0.0, 0.7]).log()
    numbers = torch.tensor([0.0, 0.0999, 0.1001, 0.2999, 0.3001, 1 - 2**-40], dtype=torch.float64)
    assert fall(logits.expand(6, 5), numbers, 1.0).tolist() == [1, 1, 2, 2, 4, 4]  # never one without a chance
    halves = torch.tensor([1.0, 4.0]).log().expand(2, 2)  # at a temperature of 2 as 1 to 2
    assert fall(halves, torch.tensor([0.332, 0.335]), 2.0).tolist() == [0, 1]


@pytest.mark.parametrize("size", [7, 256, 257, 1000])
def test_tokens_are_as_frequent_as_they_are_probable(size):
    """By evenly spread numbers: each token's count is its share of them, to within one at either end."""
    torch.manual_seed(0)
    logits, n = 2 * torch.randn(size), 2000
    logits[torch.rand(size) < 0.3] = float("-inf")
    numbers = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    tokens = fall(logits.expand(n, size), numbers, 0.8)
    assert torch.equal(tokens, tokens.sort().values)
    expected = n * torch.softmax(logits.double() / 0.8, 0)
    found = tokens.bincount(minlength=size)
    assert torch.all((found - expected).abs() <= 1.01)
    assert not found[logits == -torch.inf].any()
    ends = fall(logits.expand(2, size), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), 0.8).tolist()
    possible = (logits > -torch.inf).nonzero()
    assert ends == [int(possible[0]), int(possible[-1])]


@pytest.mark.parametrize(("ids", "kept"), [([5, 2, 7, 2], [5, 2]), ([5, 6], [5, 6]), ([3], [3]), ([], [])])
def test_a_reply_ends_with_its_first_stop(ids, kept):
    assert until_stop(ids, (2, 3)) == kept


def prompts_of(lengths, shared):
    """A prompt of each length, which all start with the same tokens, each GROUP times; and their numbers."""
    rng = random.Random(0)
    start = [rng.randrange(4, 97) for _ in range(shared)]
    prompts = [start + [rng.randrange(4, 97) for _ in range(length)] for length in lengths]
    rows = [prompt for prompt in prompts for _ in range(GROUP)]
    return rows, torch.rand(len(rows), N_NEW, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def plainly(network, prompts, numbers, sampling):
    """Each reply alone, every token from the whole row's own logits."""
    replies = []
    for prompt, of_row in zip(prompts, numbers.tolist(), strict=True):
        reply = []
        while len(reply) < sampling.max_new_tokens and not set(reply) & set(sampling.stops):
            logits = network(torch.tensor([prompt + reply], device=DEVICE)).logits[0, -1].double()
            shares = torch.softmax(logits / sampling.temperature, 0).cumsum(0)
            reply.append(int((shares <= of_row[len(reply)] * shares[-1]).sum()))
        replies.append(reply)
    return replies


@pytest.fixture
def network():
    def make(family, window=None):
        model = tiny_model(family, window=window).get_base_model().eval()
        make_neutral(model)
        return model

    return make


SAMPLING = Sampling(N_NEW, 0.7, tuple(range(0, 97, 6)), 0)  # of six tokens one ends a reply, so that lengths differ


@pytest.mark.parametrize(
    ("family", "window", "shared"),
    [("llama", None, 10), ("llama", None, 0), ("qwen", None, 10), ("qwen", 8, 10), ("gemma", None, 10)],
)
@torch.no_grad()
def test_replies_are_those_of_each_row_alone(network, family, window, shared):
    model = network(family, window)
    prompts, numbers = prompts_of([4, 1, 7, 3], shared)
    expected = plainly(model, prompts, numbers, SAMPLING)
    assert draw_replies(model, prompts, numbers, SAMPLING) == expected
    assert {len(reply) for reply in expected} > {1, N_NEW}  # some end at once, some never
    order = [7, 0, 11, 4, 1, 2]  # other rows beside it, parts of groups, another order
    found = draw_replies(model, [prompts[i] for i in order], numbers[order], SAMPLING)
    assert found == [expected[i] for i in order]


def test_each_prompt_is_computed_once(network):
    """Positions of the forward passes: what all start with, each prompt's rest, then a token a row."""
    model, seen = network("llama"), []
    model.model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape), with_kwargs=True)
    prompts, numbers = prompts_of([4, 1, 7], 10)
    draw_replies(model, prompts, numbers, Sampling(3, 1.0, (1000,), 0))
    assert [tuple(shape) for shape in seen] == [(1, 10), (3, 7), (9, 1), (9, 1)]


def test_networks_that_share_no_prefixes_compute_whole_rows(network, monkeypatch):
    model = network("llama")
    prompts, numbers = prompts_of([4, 1, 7, 3], 10)
    expected = draw_replies(model, prompts, numbers, SAMPLING)
    monkeypatch.setattr(free_replies, "sharing_fault", lambda model: "says so")
    monkeypatch.setattr(free_replies, "_draw_from_shared", None)
    assert draw_replies(model, prompts, numbers, SAMPLING) == expected
    assert draw_replies(model, [tuple(prompt) for prompt in prompts], numbers, SAMPLING) == expected


def test_a_single_token_and_replies_that_all_end_at_once(network):
    model = network("llama")
    prompts, numbers = prompts_of([4, 1], 10)
    one = draw_replies(model, prompts, numbers, Sampling(1, 0.7, (1000,), 0))
    assert [len(reply) for reply in one] == [1] * 6
    assert draw_replies(model, prompts, numbers, Sampling(N_NEW, 0.7, tuple(range(97)), 0)) == one
