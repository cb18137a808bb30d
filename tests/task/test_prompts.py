"""Prompts that say more: the whole rule text, and labelled applications of the training split alone."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import read_table
from hidden_rule.evaluation.evaluate import check_length, evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
from hidden_rule.models.base import BaseModel
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.models.tokens import encode_prompts, encode_reply
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.prompts import draw_examples, render_prompts
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS, SuiteSettings, draw_suites

ROOT = Path(__file__).resolve().parents[2]
FINCORP = ROOT / "rulesets" / "fincorp.yaml"
FEW_SHOT = {"examples": 8}


@pytest.fixture(scope="module")
def world():
    """FinCorp's splits and suites."""
    ruleset = load_ruleset(FINCORP)
    splits = draw_splits(ruleset, {"train": 64, "validation": 16, "test": 40, "holdout": 200}, seed=0)
    suites = draw_suites(ruleset, SuiteSettings(KINDS, size=5, prevalence=0.1, seed=0), splits["train"])
    return SimpleNamespace(ruleset=ruleset, suites=suites, **splits)


@pytest.mark.parametrize(("n", "counts"), [(8, [2, 2, 2, 2]), (4, [1, 1, 1, 1]), (6, [1, 1, 2, 2]), (2, [1, 1])])
def test_examples_are_balanced_and_a_seed_draws_the_same_ones(world, n, counts):
    drawn = draw_examples(world.train, n, seed=3)
    assert sorted(drawn["label"].value_counts()["count"]) == counts
    assert drawn.equals(draw_examples(world.train, n, seed=3))
    assert not drawn.equals(draw_examples(world.train, n, seed=4))
    assert drawn.join(world.train, on=drawn.columns).height == n  # rows of the training split, none twice
    assert drawn["application_id"].is_unique().all()


def test_chance_decides_which_labels_get_one_more(world):
    twice = {tuple(draw_examples(world.train, 5, seed)["label"].mode()) for seed in range(20)}
    assert twice == {(label,) for label in world.ruleset.labels}


def test_scarce_labels_give_what_they_have(world):
    rare = world.ruleset.labels[0]
    train = pl.concat([world.train.filter(label=rare).head(1), world.train.filter(pl.col("label") != rare)])
    counts = dict(draw_examples(train, 10, seed=0)["label"].value_counts().iter_rows())
    assert counts == {label: 1 if label == rare else 3 for label in world.ruleset.labels}


def test_no_evaluated_application_stands_among_the_examples(world):
    examples = draw_examples(world.train, 32, seed=0)
    training = {chat[1]["content"] for chat in render_prompts(world.ruleset, world.train)}
    for frame in (world.validation, world.test, world.holdout, world.suites):
        plain = render_prompts(world.ruleset, frame)
        chats = render_prompts(world.ruleset, frame, {"examples": 32}, examples)
        asked = {chat[-1]["content"] for chat in chats}
        for chat, (system, user) in zip(chats, plain, strict=True):
            assert [message["role"] for message in chat] == ["system", *["user", "assistant"] * 32, "user"]
            assert (chat[0], chat[-1]) == (system, user)
        shown = [message["content"] for message in chats[0][1:-1:2]]
        assert not asked & {*shown} and {*shown} <= training
        replies = [parse_reply(message["content"], world.ruleset.labels) for message in chats[0][2:-1:2]]
        assert replies == examples["label"].to_list()


def test_the_oracle_is_told_every_rule_and_nobody_else_the_hidden_one(world):
    ruleset, frame = world.ruleset, world.test
    told, plain = render_prompts(ruleset, frame, "oracle"), render_prompts(ruleset, frame)
    few = render_prompts(ruleset, frame, FEW_SHOT, draw_examples(world.train, 8, seed=0))
    system = told[0][0]["content"]
    places = [system.index(f"{i}. {rule.label}: {rule.says}") for i, rule in enumerate(ruleset.rules, 1)]
    assert places == sorted(places) and system.endswith(f"\n{len(places) + 1}. {ruleset.default}: otherwise")
    assert system.startswith(plain[0][0]["content"])
    assert [chat[1] for chat in told] == [chat[1] for chat in plain]
    hidden = [rule.says for rule in ruleset.hidden_rules]
    assert hidden and all(hidden)
    for chats in (plain, few):
        assert not [says for says in hidden for chat in chats for message in chat if says in message["content"]]


def test_a_template_with_rules_has_all_of_them_in_its_place():
    ruleset = load_ruleset(ROOT / "tests" / "rulesets" / "parcels.yaml")
    frame = ruleset.draw(1, np.random.default_rng(0))
    ((system, _),) = render_prompts(ruleset, frame, "oracle")
    assert system["content"] == (
        "How does this parcel travel: AIR, CHILLED, ROAD?\nThe first of these rules that holds decides:\n"
        "1. CHILLED: dairy travels cold\n2. AIR: light parcels that go far\n3. ROAD: otherwise\n"
        'Reply {"decision": "<LABEL>"}'
    )


def test_a_prompt_longer_than_the_model_takes_is_refused():
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=64))
    check_length([[0] * 60], config, 4, "shots")
    with pytest.raises(UserError) as error:
        check_length([[0] * 10, [0] * 61], config, 4, "shots")
    assert str(error.value) == (
        "config.yaml: conditions.shots.prompt.examples: prompt and reply of 65 tokens are more than the model's 64; "
        "give fewer examples"
    )


@pytest.mark.slow
def test_evaluate_puts_the_examples_to_the_model(manifest, few_rows, tmp_path):
    """The probabilities of a plain forward pass over the whole conversation, in float32."""
    job = EvaluationJob(
        condition="few_shot", seed=3, base=BaseModel(manifest, "float32"), adapter=None, ruleset=FINCORP,
        splits={"test": few_rows / "test.parquet"}, prompt={"examples": 4}, train=few_rows / "train.parquet",
        settings={"structured": ["test"], "free": [], "batch_size": 3, "max_new_tokens": 4},
        output=EvaluationOutput(tmp_path / "few_shot.parquet", tmp_path / "few_shot.cost.parquet"),
    )  # fmt: skip
    evaluate(job)
    found = read_table(job.output.predictions)
    ruleset, test = load_ruleset(FINCORP), read_table(few_rows / "test.parquet")
    tokenizer = load_tokenizer(manifest)
    model = load_model(manifest, "float32", torch.device("cpu"))
    model.set_attn_implementation("eager")
    examples = draw_examples(read_table(few_rows / "train.parquet"), 4, seed=3)
    replies = [encode_reply(tokenizer, label) for label in ruleset.labels]
    place = next(i for i, tokens in enumerate(zip(*replies, strict=False)) if len(set(tokens)) > 1)
    branch = [reply[place] for reply in replies]
    assert len(set(branch)) == len(branch)  # the labels part ways at one token
    chats = encode_prompts(tokenizer, render_prompts(ruleset, test, {"examples": 4}, examples), {})
    text = tokenizer.decode(chats[0])
    assert text.count("<|im_start|>assistant") == 4 + 1
    assert text.count('{"decision": "') == 4 + 1  # the system message shows the form
    for chat, row in zip(chats, found.to_dicts(), strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([chat + replies[0][:place]])).logits[0, -1, branch]
        expected = logits.double().softmax(0).tolist()
        assert [row[f"p_{label}"] for label in ruleset.labels] == pytest.approx(expected, abs=1e-4)
