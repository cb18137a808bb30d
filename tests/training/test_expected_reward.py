"""The exact gradient of the expected reward: plain autograd's, and what GRPO's samples estimate."""

import itertools

import polars as pl
import pytest
import torch

from hidden_rule.core.tables import HISTORY
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.rewards import reward_matrix
from hidden_rule.training import grpo, structured_grpo
from hidden_rule.training.expected_reward import entropy, expected_reward_loss, reward_spread, same_reward_chance
from hidden_rule.training.shared_forward import add_shared_prefix_forward
from hidden_rule.training.start import load_start
from hidden_rule.training.watcher import Watcher
from tiny_models import DEVICE, tiny_model

SHAPED = {"correct": 100, "wrong": -50, "invalid": -100, "near": {"REJECT_RISK": {"MANUAL_REVIEW": 20}}}
REPLIES = [[3, 10, 20, 2], [3, 10, 21, 2], [3, 11, 2], [3, 10, 20, 22, 2]]  # branches at three places


@pytest.mark.parametrize("coef", [0.0, 0.3])
def test_gradient_is_that_of_plain_autograd(coef):
    """Against every reply's probability from the whole model's own logits, token by token."""
    prompts = [[5] * 12 + [7, 9], [5] * 12 + [8]]
    rewards = torch.tensor([[1.0, 0, -0.5, 0.2], [0.3, -1, 0.3, 2]], device=DEVICE)
    trie, model = LabelTrie(REPLIES), tiny_model("llama")
    plain = []
    for prompt in prompts:
        chances = []
        for reply in REPLIES:
            total = 0.0
            for i, token in enumerate(reply):
                allowed = sorted({other[i] for other in REPLIES if other[:i] == reply[:i]})
                logits = model(torch.tensor([prompt + reply[:i]], device=DEVICE)).logits[0, -1, allowed]
                total = total + torch.log_softmax(logits, -1)[allowed.index(token)]
            chances.append(total)
        plain.append(torch.stack(chances))
    plain = torch.stack(plain)
    objective = (plain.exp() * rewards).sum(1).mean() - coef * (plain.exp() * plain).sum(1).mean()
    expected = torch.autograd.grad(-objective, adapters(model))
    add_shared_prefix_forward(model.get_base_model())
    log_probs = trie.reply_log_probs(model(label_trie=trie, prompts=prompts))
    loss = expected_reward_loss(log_probs, rewards, reward_spread(log_probs.detach(), rewards, "none"), coef)
    torch.testing.assert_close(torch.autograd.grad(loss, adapters(model)), expected, rtol=1e-4, atol=1e-6)


def adapters(model):
    return [weight for weight in model.parameters() if weight.requires_grad]


def test_spreads_by_hand():
    log_probs = torch.tensor([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]]).log().clamp(min=-100)
    rewards = torch.tensor([[1.0, -1.0], [1.0, -1.0], [1.0, -1.0]])
    assert reward_spread(log_probs, rewards, "none").tolist() == [[1.0]]
    assert reward_spread(log_probs, rewards, "group").flatten().tolist() == pytest.approx([1.0001, 0.6001, 0.0001])
    # all replies together: 1 with chance 0.8
    assert float(reward_spread(log_probs, rewards, "batch")) == pytest.approx(0.8001)
    assert same_reward_chance(log_probs.exp(), rewards, 2).tolist() == pytest.approx([0.5, 0.82, 1.0])


def test_wrong_labels_that_earn_the_same_are_one_outcome():
    probabilities, rewards = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[100.0, -50.0, -50.0]])
    assert float(same_reward_chance(probabilities, rewards, 8)) == pytest.approx(2 * 0.5**8)
    near = torch.tensor([[100.0, 20.0, -50.0]])
    assert float(same_reward_chance(probabilities, near, 3)) == pytest.approx(0.5**3 + 0.3**3 + 0.2**3)


@pytest.fixture
def make_trainer(tiny_jobs, tmp_path):
    """The trainer that `train_grpo` would run with these settings, its adapter not at zero."""

    def make(**settings):
        settings = {**tiny_jobs.config["grpo"], "batch_size": 2, "micro_batch_size": 2, "reward": SHAPED, **settings}
        job = tiny_jobs.make("x", settings)
        start = load_start(job)
        trainer = grpo.make_trainer(job, start, Watcher(start, 2), tmp_path)
        trainer.current_gradient_accumulation_steps = 1
        torch.manual_seed(0)
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.5)
        return trainer

    return make


def gradient(trainer, rows):
    """Of the loss of these rows' groups, all adapters' side by side."""
    batch = [row for row in rows for _ in range(trainer.num_generations)]
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.prepare_batch(batch))
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, adapters(trainer.model))])


def log_policy(exact, row):
    """Log-probabilities (1, 4) of the replies to a row, with their graph."""
    return exact.trie.reply_log_probs(exact.policy(exact.model, exact.tokens_of([row]))[1])


@pytest.mark.parametrize("entropy_coef", [0.0, 50.0])
def test_gradient_is_the_expectation_of_the_sampled_one(make_trainer, monkeypatch, entropy_coef):
    """All 4² groups of two, each with its chance; the mean of a group of G holds the reply itself: (G − 1)/G."""
    shared = {"scale_rewards": "none", "entropy_coef": entropy_coef, "group_size": 2}
    sampled, exact = make_trainer(**shared), make_trainer(**shared, estimator="exact")
    row = sampled.train_dataset[0]
    chances = log_policy(exact, row)[0].exp().detach()
    total = 0
    for group in itertools.product(range(4), repeat=2):
        monkeypatch.setattr(structured_grpo, "draw", lambda *_, group=group: torch.tensor(group))
        total = total + chances[list(group)].prod() * gradient(sampled, [row])
    bonus = 0
    if entropy_coef:  # it has no baseline that halves it
        bonus = -entropy_coef * entropy(log_policy(exact, row)).mean()
        bonus = torch.cat([part.flatten() for part in torch.autograd.grad(bonus, adapters(exact.model))])
    expected = (gradient(exact, [row]) - bonus) / 2 + bonus
    assert expected.norm() > 1  # points, not noise
    torch.testing.assert_close(total, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_gradient_is_the_limit_of_large_groups(make_trainer, monkeypatch, scale):
    """Groups of 4,096 that hold each reply as often as it is likely."""
    size = 4096
    shared = {"scale_rewards": scale, "group_size": size}
    sampled, exact = make_trainer(**shared), make_trainer(**shared, estimator="exact")
    rows = [sampled.train_dataset[0], sampled.train_dataset[1]]
    groups = []
    for row in rows:
        counts = (log_policy(exact, row)[0].exp() * size).round().long().cpu()
        counts[counts.argmax()] += size - counts.sum()
        groups.append(torch.arange(4).repeat_interleave(counts))
    monkeypatch.setattr(structured_grpo, "draw", lambda *_: torch.cat(groups))
    expected = gradient(exact, rows)
    found = gradient(sampled, rows)
    assert (found - expected).norm() < 0.01 * expected.norm()


def history(path, metric):
    return pl.read_parquet(path).filter(metric=metric).sort("step")["value"].to_list()


def test_it_learns_the_one_reply_that_pays(tiny_jobs):
    settings = {**tiny_jobs.config["grpo"], "estimator": "exact", "epochs": 10, "batch_size": 4, "micro_batch_size": 2}
    settings |= {"warmup_steps": 0, "learning_rate": 1e-2, "temperature": 0.1}  # a small model's logits are small
    job = tiny_jobs.make("exact", settings, train="one_label")
    grpo.train_grpo(job)
    assert pl.read_parquet(job.output.history).schema == HISTORY
    reward = history(job.output.history, "reward")
    assert reward[0] < 50 and reward[-1] > 95
    assert pl.read_parquet(job.output.cost)["n_tokens_generated"].item() == 0


def test_history_holds_expectations(tiny_jobs):
    """One batch of all rows, computed beside it from the start's own probabilities, in micro-batches."""
    settings = {**tiny_jobs.config["grpo"], "estimator": "exact", "epochs": 1, "batch_size": 16, "micro_batch_size": 4}
    settings |= {"reward": SHAPED, "warmup_steps": 0, "learning_rate": 1e-6, "group_size": 3}
    job = tiny_jobs.make("expected", settings)
    start = load_start(job)
    network = start.model.eval().get_base_model()
    chances = label_log_probs(network, start.trie, start.train.prompts, 16).exp()
    labels = start.ruleset.labels
    points = torch.tensor(reward_matrix(labels, SHAPED))[[labels.index(label) for label in start.train.labels]]
    grpo.train_grpo(job)
    found = pl.read_parquet(job.output.history).filter(step=1)
    assert history(job.output.history, "reward") == pytest.approx([float((chances * points).sum(1).mean())], rel=1e-5)
    entropies = -(chances * chances.log()).sum(1)
    assert history(job.output.history, "entropy") == pytest.approx([float(entropies.mean())], rel=1e-5)
    shares = dict(found.filter(metric="predicted_share").select("label", "value").iter_rows())
    assert shares == pytest.approx(dict(zip(labels, chances.mean(0).tolist(), strict=True)), rel=1e-5)
    groups = list(map(list, itertools.product(range(4), repeat=3)))
    alike = [[group for group in groups if len(set(row[group].tolist())) == 1] for row in points]
    same = [float(row[group].prod()) for row, of in zip(chances, alike, strict=True) for group in of]
    assert history(job.output.history, "zero_signal_share") == pytest.approx([sum(same) / 16], rel=1e-4)
    assert found["n_tokens"].max() == sum(map(len, start.train.prompts))  # each prompt once, whatever the group size


def test_micro_batches_change_nothing(make_trainer):
    whole = make_trainer(estimator="exact", scale_rewards="group", entropy_coef=0.1)
    rows = [whole.train_dataset[i] for i in range(4)]
    parts = [gradient(whole, rows[:2]), gradient(whole, rows[2:])]
    torch.testing.assert_close(sum(parts) / 2, gradient(whole, rows), rtol=1e-4, atol=1e-6)
