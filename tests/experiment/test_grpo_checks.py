"""Which of the field's variants of GRPO differ here, where every sample is drawn from the policy it trains.

What docs/rl.md says of them rests on these trainings.
"""

import functools

import polars as pl
import pytest
import torch
from trl import GRPOConfig

from hidden_rule.training import grpo


@pytest.fixture(scope="module")
def train(tiny_jobs):
    """A training of four steps, in micro-batches, with settings of ours and of TRL: its adapter and gradient norms."""

    @functools.cache
    def train(ours: tuple = (), theirs: tuple = ()):
        settings = {**tiny_jobs.config["grpo"], "epochs": 2, "batch_size": 8, "micro_batch_size": 4, "warmup_steps": 1}
        settings |= {"learning_rate": 1e-3, "max_grad_norm": 1e6, "entropy_coef": 0.0, **dict(ours)}
        job = tiny_jobs.make("variant", settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grpo, "GRPOConfig", functools.partial(GRPOConfig, **dict(theirs)))
            model = grpo.train_grpo(job)
        norms = pl.read_parquet(job.output.history).filter(metric="grad_norm")["value"].to_list()
        adapter = {name: weight.detach() for name, weight in model.named_parameters() if "lora_" in name}
        return adapter, norms

    return train


GRPO = (("loss_type", "grpo"),)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GRPO, (("importance_sampling_level", "sequence"),)),  # GSPO: the ratio is 1 whatever it is taken over
        (GRPO, (("epsilon", 0.001), ("epsilon_high", 0.28))),  # DAPO's clip-higher: a ratio of 1 is never clipped
        ((("loss_type", "dapo"),), ()),  # replies with one choice each: a mean over tokens is one over replies
        ((("loss_type", "bnpo"),), ()),
    ],
)
def test_what_changes_nothing(train, ours, theirs):
    (expected, norms), (found, found_norms) = train(GRPO), train(ours, theirs)
    assert min(norms) > 0
    assert found_norms == pytest.approx(norms, rel=1e-4)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-6)


def test_dr_grpo_is_unscaled_rewards_and_a_constant(train):
    unscaled, dr_grpo = (("scale_rewards", "none"),), (("loss_type", "dr_grpo"), ("scale_rewards", "none"))
    (expected, norms), (found, found_norms) = train(unscaled), train(dr_grpo)
    assert found_norms[0] == pytest.approx(norms[0] / 24, rel=1e-4)  # max_new_tokens
    for name, weight in expected.items():
        if "lora_B" in name:  # from 0; Adam's step hardly sees a constant
            assert (found[name] - weight).norm() < 0.02 * weight.norm()


@pytest.mark.parametrize(
    "ours",
    [
        (("scale_rewards", "none"),),
        (("scale_rewards", "batch"),),
        (("entropy_coef", 0.05),),
        (("group_size", 16),),
        (("estimator", "exact"),),
    ],
)
def test_what_changes_something(train, ours):
    (expected, _), (found, _) = train(), train(ours)
    assert any((found[name] - weight).abs().max() > 1e-5 for name, weight in expected.items())
