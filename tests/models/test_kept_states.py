"""What begins at the first layer with an adapter answers, and trains, as what computes every layer."""

import logging
from dataclasses import replace

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import load_file, save_file

from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import COSTS, read_table
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
from hidden_rule.kernels import shared_prefix
from hidden_rule.models.hardware import default_device
from hidden_rule.models.kept_states import KeptStates, keep_states, use_states
from hidden_rule.models.loading import load_policy
from hidden_rule.models.states_job import StatesJob
from hidden_rule.training import shared_forward
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.sft import train_sft
from hidden_rule.training.spending import Spending
from hidden_rule.training.start import load_start

ASKED = {"structured": ["validation", "test"], "free": ["test"], "batch_size": 4, "max_new_tokens": 3}
TARGETS = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def trained(tiny_jobs):
    """An evaluation of an adapter in the last of two layers, without states, and the states of its cases."""
    lora = {**tiny_jobs.config["lora"], "last_layers": 1, "target_modules": TARGETS}
    job = tiny_jobs.make("sft", {**tiny_jobs.config["sft"], "epochs": 2}, lora=lora)
    train_sft(job)
    splits = {name: tiny_jobs.data / f"{name}.parquet" for name in ASKED["structured"]}
    folder = tiny_jobs.folder / "evaluated"
    output = EvaluationOutput(folder / "predictions.parquet", folder / "cost.parquet")
    evaluation = EvaluationJob("sft", 3, job.base, job.output.adapter, job.data.ruleset, splits, ASKED, output)
    lora = {"last_layers": 1, "target_modules": TARGETS}
    states = StatesJob(job.base, lora, job.data.ruleset, splits, folder / "states.safetensors")
    keep_states(states)
    return evaluation, states


def answered(evaluation: EvaluationJob, name: str, **changes) -> tuple[pl.DataFrame, dict]:
    """The predictions of an evaluation, in float32 here, and what it cost."""
    folder = evaluation.output.cost.parent
    output = EvaluationOutput(folder / f"{name}.parquet", folder / f"{name}.cost.parquet")
    evaluate(replace(evaluation, output=output, **changes))
    return read_table(output.predictions), read_table(output.cost, COSTS).row(0, named=True)


@pytest.mark.parametrize("adapted", [True, False])  # the untrained model begins at the same layer
def test_answers_are_the_same(trained, adapted, caplog):
    evaluation, states = trained
    adapter = evaluation.adapter if adapted else None
    expected, whole = answered(evaluation, f"whole{adapted}", adapter=adapter)
    found, above = answered(evaluation, f"above{adapted}", adapter=adapter, states=states.output)
    assert_frame_equal(found, expected, rel_tol=1e-4, abs_tol=1e-5)
    assert "every layer is computed" not in caplog.text
    free = whole["n_positions"] - 2 * (whole["n_positions"] - above["n_positions"])  # those that pass both layers
    assert 0 < free < above["n_positions"] < whole["n_positions"]


def test_other_words_are_computed_whole(trained):
    """A condition that tells all rules asks about the same cases in prompts of its own."""
    evaluation, states = trained
    told = {"prompt": "oracle", "adapter": None, "settings": {**ASKED, "free": []}}
    expected, whole = answered(evaluation, "told", **told)
    found, above = answered(evaluation, "told_with_states", states=states.output, **told)
    assert_frame_equal(found, expected)
    assert above["n_positions"] == whole["n_positions"]


def changed_weights(model, _):
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(2)


def other_type(model, _):
    model.bfloat16()


def no_rows(_, path):
    save_file({"states": torch.empty(0, 1)}, path, metadata={"layers": "0"})


def all_layers(_, path):
    save_file(load_file(path), path, metadata={"layers": "2"})


def adapter_below(model, _):
    model.model.layers[0].lora_below = torch.nn.Linear(1, 1)


UNFIT = [
    (changed_weights, "they are not this model's"),
    (other_type, "they are of torch.float32 and width 36"),
    (no_rows, "none were kept"),
    (all_layers, "they are of the first 2 layers of another model"),
    (adapter_below, "the adapter is not above the first 1 layers alone"),
]


@pytest.mark.parametrize(("change", "fault"), UNFIT)
def test_states_that_do_not_fit_are_left(trained, tmp_path, caplog, change, fault):
    evaluation, states = trained
    model = load_policy(evaluation.base, default_device(), evaluation.adapter)
    path = tmp_path / "states.safetensors"
    path.write_bytes(states.output.read_bytes())
    forwards = [layer.forward for layer in model.model.layers]
    change(model, path)
    with caplog.at_level(logging.WARNING):
        assert not use_states(model, path)
    assert fault in caplog.text
    assert [layer.forward for layer in model.model.layers] == forwards


def test_a_damaged_file_is_one_line(trained, tmp_path):
    _, states = trained
    content, path = bytearray(states.output.read_bytes()), tmp_path / "states.safetensors"
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="bytes where its header promises"):
        use_states(None, path)
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="was altered since it was written"):
        use_states(None, path)


def test_nothing_is_kept_where_all_layers_have_an_adapter(trained, tmp_path):
    _, states = trained
    job = replace(states, lora={**states.lora, "last_layers": 2}, output=tmp_path / "states.safetensors")
    keep_states(job)
    assert len(load_file(job.output)["states"]) == 0


@pytest.fixture(scope="module")
def training_states(tiny_jobs, trained):
    """The states of the cases that trainings come to."""
    _, states = trained
    splits = {name: tiny_jobs.data / f"{name}.parquet" for name in ("train", "validation")}
    path = tiny_jobs.folder / "training.safetensors"
    keep_states(replace(states, splits=splits, output=path, whole=frozenset(["train"])))
    return path


def training_job(tiny_jobs, name: str, states=None, **changes):
    """A training of an adapter in the last of two layers."""
    settings = {**tiny_jobs.config[name.split("_")[0]], "epochs": 2, "batch_size": 8, "micro_batch_size": 4}
    lora = {**tiny_jobs.config["lora"], "last_layers": 1, "target_modules": TARGETS}
    job = tiny_jobs.make(name, settings, lora=lora, **changes)
    return replace(job, data=replace(job.data, states=states))


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_trainings_that_take_states_are_the_same(tiny_jobs, training_states, monkeypatch, method):
    train = {"sft": train_sft, "grpo": train_grpo}[method]
    alone, taking = (
        training_job(tiny_jobs, f"{method}_alone"),
        training_job(tiny_jobs, f"{method}_taking", training_states),
    )
    train(alone)
    monkeypatch.setattr(shared_forward, "keep_frozen_states", None)  # nothing is computed again
    train(taking)
    expected, found = (load_file(job.output.adapter / "adapter_model.safetensors") for job in (alone, taking))
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-5, msg=name)
    costs = [read_table(job.output.cost, COSTS).row(0, named=True) for job in (alone, taking)]
    assert costs[1]["n_positions"] == pytest.approx(
        costs[0]["n_positions"], rel=0.1
    )  # what was taken counts; two rows are tried
    assert costs[1]["n_steps"] == costs[0]["n_steps"]


def test_what_was_taken_counts_once_in_a_resumed_training(tiny_jobs, training_states):
    start = load_start(training_job(tiny_jobs, "sft_resumed", training_states))
    base, lap = start.model.get_base_model(), KeptStates.read(training_states).lap
    rows = [[*prompt, *reply] for prompt in start.train.prompts for reply in start.trie.stems]
    rows += [[*prompt, *path] for prompt in start.validation.prompts for path in start.trie.paths]
    kept = []
    for _ in range(2):  # each process of a training takes them, and then restores what the last one kept
        spending = Spending(start)
        assert shared_forward.take_rows(start, rows) is None
        if kept:
            spending.restore(kept[-1])
        kept.append(spending.progress())
        shared_prefix.frozen_parts.pop(shared_prefix.body(base)).remove()
    assert kept[1]["counts"] == kept[0]["counts"] and kept[0]["counts"]["positions"] > lap.units
    assert spending.spent().laps.laps == [replace(lap, elsewhere=True)]  # all rows are used
    own_s = kept[1]["usage"]["wall_s"]
    assert own_s + lap.seconds < spending.spent().usage.wall_s < own_s + lap.seconds + 5
