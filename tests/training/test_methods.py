"""DPO, RLOO and RFT: against TRL's own trainers, on a bandit with one prompt, and killed and resumed."""

from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from hidden_rule.models.decoding import label_log_probs
from hidden_rule.training import dpo, rft, rloo, structured_grpo
from hidden_rule.training.dpo import train_dpo
from hidden_rule.training.job import CheckpointPlan, TrainingOutput
from hidden_rule.training.rft import train_rft
from hidden_rule.training.rloo import train_rloo
from hidden_rule.training.start import Split, load_start
from hidden_rule.training.watcher import Watcher
from repeated import assert_same_rows
from tiny_models import DEVICE

pytestmark = pytest.mark.slow  # trains
TRAIN = {"dpo": train_dpo, "rloo": train_rloo, "rft": train_rft}
FEW = {"batch_size": 4, "micro_batch_size": 2, "warmup_steps": 1}


def history(job, metric):
    return pl.read_parquet(job.output.history).filter(metric=metric).sort("step")["value"].to_list()


def adapters(model):
    return [weight for name, weight in model.named_parameters() if weight.requires_grad and ".ref." not in name]


def perturb(model):
    """Move a model's adapter away from where it started."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B.default" in name:
            weight.data.copy_(torch.empty(weight.shape).normal_(std=0.5))  # drawn on the CPU: the same on every device


# Against TRL's trainers


@pytest.mark.parametrize(("loss_type", "smoothing"), [("sigmoid", 0.0), ("ipo", 0.0), ("robust", 0.2)])
def test_dpo_is_trls(tiny_jobs, tmp_path, loss_type, smoothing):
    """Loss and gradient of two rows with a pair each, after the adapter has moved from the reference."""
    changes = {"loss_type": loss_type, "label_smoothing": smoothing, "beta": 0.3, "rejected": "one"}
    job = tiny_jobs.make("x", {**tiny_jobs.config["dpo"], **FEW, **changes})
    start = load_start(job)
    ours = dpo.make_trainer(job, start, Watcher(start, 2), tmp_path)
    perturb(start.model)
    loss = ours.compute_loss(start.model.train(), {"row": torch.tensor([0, 5])})
    gradient = torch.autograd.grad(loss, adapters(start.model))

    other = load_start(job)
    arguments = DPOConfig(
        output_dir=str(tmp_path / "trl"), beta=0.3, loss_type=[loss_type], label_smoothing=smoothing,
        use_cpu=DEVICE.type == "cpu", bf16=False, gradient_checkpointing=False, report_to=[],
    )  # fmt: skip
    said = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])  # a trainer wants some
    theirs = DPOTrainer(model=other.model, args=arguments, train_dataset=said, processing_class=other.tokenizer)
    replies = {row: (list(ours.pairs[row].chosen), list(ours.pairs[row].rejected[0])) for row in (0, 5)}
    batch = theirs.data_collator(
        [
            {"prompt_ids": start.train.prompts[row], "chosen_ids": chosen, "rejected_ids": rejected}
            for row, (chosen, rejected) in replies.items()
        ]
    )
    perturb(other.model)
    expected = theirs.compute_loss(other.model.train(), batch)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    assert float(loss) != pytest.approx(0.6931, abs=1e-3)  # of a policy that is the reference
    for mine, other_gradient in zip(gradient, torch.autograd.grad(expected, adapters(other.model)), strict=True):
        torch.testing.assert_close(mine, other_gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_structured_rloo_is_trls(tiny_jobs, tmp_path, monkeypatch, beta):
    """TRL's own trainer, given the same replies and the probabilities of the same policy: its loss and gradient."""
    job = tiny_jobs.make("x", {**tiny_jobs.config["rloo"], **FEW, "group_size": 4, "beta": beta})
    drawn = torch.tensor([0, 1, 1, 3, 2, 2, 2, 0])
    monkeypatch.setattr(structured_grpo, "draw", lambda *_: drawn)
    trainers = {}
    for decoding in ("structured", "free"):
        of_kind = replace(job, decoding=decoding)
        start = load_start(of_kind)
        trainers[decoding] = rloo.make_trainer(of_kind, start, Watcher(start, 2), tmp_path)
        trainers[decoding].current_gradient_accumulation_steps = 1
        perturb(start.model)
    ours, theirs = trainers["structured"], trainers["free"]
    batch = [ours.train_dataset[i] for i in (0, 5) for _ in range(4)]
    prompts, replies = ours.rows, ours.trie.replies
    generated = (
        [list(prompts[i]) for i in (0, 5) for _ in range(4)],
        [list(replies[label]) for label in drawn.tolist()],
        [ours.processing_class.decode(replies[label]) for label in drawn.tolist()],
    )
    monkeypatch.setattr(theirs, "_generate", lambda prompts: generated)
    plain = structured_grpo.StructuredGRPOTrainer.token_log_probs

    def of_policy(model, ids, mask, n_tokens, *args, compute_entropy=False, **options):
        found = plain(ours_as(theirs, ours), model, ids, mask, n_tokens, compute_entropy=compute_entropy)
        return found[0], found[1] if compute_entropy else None, None

    monkeypatch.setattr(theirs, "_get_per_token_logps_and_entropies", of_policy)
    losses = []
    for trainer in (ours, theirs):
        trainer.model.train()
        inputs = trainer._prepare_inputs(batch)
        loss = trainer.compute_loss(trainer.model, inputs)
        losses.append((float(loss), torch.autograd.grad(loss, adapters(trainer.model))))
    (loss, gradient), (expected, other_gradient) = losses
    assert loss == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert max(float(part.abs().max()) for part in other_gradient) > 1  # points, not noise
    for mine, other in zip(gradient, other_gradient, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()) + 1e-6)


def ours_as(theirs, ours):
    """What `token_log_probs` uses of a trainer, with the model of TRL's and nothing kept of a rollout."""
    kind = structured_grpo.StructuredGRPOTrainer
    trainer = SimpleNamespace(reply_index=ours.reply_index, trie=ours.trie, kept_policy=None, has_signal=None)
    trainer.policy = lambda model, prompts: kind.policy(trainer, theirs.model, prompts)
    return trainer


# On a bandit: one prompt, four replies


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("rloo", {"group_size": 8, "learning_rate": 1.0e-2}),
        ("rloo", {"group_size": 8, "learning_rate": 1.0e-2, "beta": 1.0}),
        ("rft", {"rounds": 10, "learning_rate": 1.0e-2}),
        ("rft", {"rounds": 10, "learning_rate": 1.0e-2, "keep": "all_right"}),
        ("dpo", {"learning_rate": 1.0e-2}),
        ("dpo", {"learning_rate": 1.0e-2, "pairs": "errors", "loss_type": "ipo"}),
    ],
)
def test_a_bandit_moves_to_the_best_reply(tiny_jobs, method, changes):
    """Replies earn 100, 60, 20 and −50; the best is the one that the start finds the least likely."""
    settings = {**tiny_jobs.config[method], "epochs": 10, "batch_size": 4, "micro_batch_size": 4, "warmup_steps": 1}
    job = tiny_jobs.make(f"bandit_{method}_{len(changes)}", {**settings, **changes})
    start = load_start(job)
    with torch.no_grad():
        start.model.get_output_embeddings().weight.mul_(8)  # a random head alone can prefer no reply by much
    prompt, conversation = start.train.prompts[0], start.train.conversations[0]
    before = label_log_probs(start.model.get_base_model(), start.trie, [prompt], 1).exp()[0]
    place = int(before.argmin())
    best = start.ruleset.labels[place]
    if method != "dpo":
        others = [label for label in start.ruleset.labels if label != best]
        near = dict(zip(others, (20, 60, -50), strict=True))
        job = job.with_settings(reward={"correct": 100, "wrong": -50, "invalid": -100, "near": {best: near}})
    start = replace(start, train=Split([best] * 8, [conversation] * 8, [prompt] * 8, ["default"] * 8))
    model = TRAIN[method](job, start)
    after = label_log_probs(model.eval().get_base_model(), start.trie, [prompt], 1).exp()[0]
    assert before[place] < 0.25
    least = 0.5 if method == "rft" else 0.8  # SFT's loss, over the whole vocabulary, tells the replies apart slowly
    assert after[place] > least, (before, after)
    if method == "dpo":
        assert history(job, "pair_accuracy")[-1] == 1.0
    else:
        assert history(job, "reward")[-1] > history(job, "reward")[0] + 30


# Killed and resumed


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("method", "changes"),
    [("rloo", {"group_size": 4}), ("rft", {"rounds": 2}), ("dpo", {"pairs": "errors", "temperature": 1.3})],
)
def test_a_killed_training_ends_as_an_undisturbed_one(tiny_jobs, tmp_path, monkeypatch, method, changes):
    """Killed at the sixth of eight steps, two after a checkpoint; every LoRA weight moved, and no other."""

    def train(root):
        job = tiny_jobs.make(
            root.name,
            {**tiny_jobs.config[method], **FEW, "epochs": 2, **changes},
            output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
            checkpoints=CheckpointPlan(root / "checkpoints", "a", steps=3),
        )
        return job, dict(TRAIN[method](job).named_parameters())

    job, whole = train(tmp_path / "whole")
    before = dict(load_start(job).model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], whole[name])}
    assert moved == {name for name in before if "lora_" in name}
    with monkeypatch.context() as patch:
        plain = Watcher.on_step_begin

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KilledError
            return plain(self, args, state, control, **kwargs)

        patch.setattr(Watcher, "on_step_begin", on_step_begin)
        with pytest.raises(KilledError):
            train(tmp_path / "killed")
    resumed_job, resumed = train(tmp_path / "killed")
    for name, weight in whole.items():
        exact = {"rtol": 0, "atol": 0} if weight.device.type == "cpu" else {"rtol": 1e-3, "atol": 1e-5}
        torch.testing.assert_close(resumed[name], weight, **exact)
    columns = ["step", "metric", "label", "value", "n_tokens"]
    tables = [pl.read_parquet(of.output.history).select(columns) for of in (job, resumed_job)]
    assert_same_rows(*(table.sort(columns[:3]).rows() for table in tables), value=3)
    costs = [pl.read_parquet(of.output.cost) for of in (job, resumed_job)]
    for name in ("n_tokens_trained", "n_tokens_generated", "n_steps"):
        assert costs[0][name].to_list() == costs[1][name].to_list()


def test_rft_without_a_right_sample_stops(tiny_jobs, caplog):
    """Freely, a random model writes no valid reply: nothing is kept, and nothing is learned."""
    changes = {"epochs": 2, "rounds": 2, "samples": 2, "max_new_tokens": 3}
    job = tiny_jobs.make("nothing", {**tiny_jobs.config["rft"], **FEW, **changes}, decoding="free")
    before = {name: weight.clone() for name, weight in load_start(job).model.named_parameters()}
    after = dict(rft.train_rft(job).named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert history(job, "kept") == [0.0] and history(job, "invalid_share") == [1.0]
    assert history(job, "stopped_without_samples") == [2.0]
    assert "no sample of this round was right" in caplog.text


def test_dpo_of_a_start_without_errors_trains_nothing(tiny_jobs, monkeypatch, caplog):
    monkeypatch.setattr(dpo, "preference_pairs", lambda job, start: ({}, 7))
    job = tiny_jobs.make("perfect", {**tiny_jobs.config["dpo"], **FEW, "epochs": 1, "pairs": "errors"})
    train_dpo(job)
    assert history(job, "stopped_without_samples") == [8.0] and len(history(job, "validation_accuracy")) == 1
    assert pl.read_parquet(job.output.cost)["n_tokens_generated"].to_list() == [7]
    assert "nothing to train on" in caplog.text


@pytest.mark.parametrize("method", ["rloo", "dpo"])
def test_free_exploration(tiny_jobs, method):
    """Of a random model every reply is invalid: it earns the least, and is what the right reply is preferred to."""
    changes = {"epochs": 1, "max_new_tokens": 3, **({"group_size": 2} if method == "rloo" else {"samples": 2})}
    changes |= {"pairs": "errors"} if method == "dpo" else {}
    job = tiny_jobs.make(f"free_{method}", {**tiny_jobs.config[method], **FEW, **changes}, decoding="free")
    TRAIN[method](job)
    if method == "rloo":
        assert history(job, "invalid_share") == [1.0] * 4 and history(job, "reward") == [-100.0] * 4
    else:
        assert history(job, "kept") == [1.0]
    assert 0 < pl.read_parquet(job.output.cost)["n_tokens_generated"].item() <= 16 * 2 * 3
