"""Numbers that are not finite stop a training or evaluation with one line, and leave nothing to go on from."""

import json
import logging
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hidden_rule.core.errors import UserError
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput, SamplingJob
from hidden_rule.evaluation.sample_start import sample_start
from hidden_rule.models.adapters import add_adapter, load_adapter, save_adapter
from hidden_rule.models.base import BaseModel
from hidden_rule.models.finite import NotFiniteError, check_next_tokens
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model
from hidden_rule.models.prepare import prepare_model
from hidden_rule.training.grpo import train_grpo
from hidden_rule.training.job import CheckpointPlan
from hidden_rule.training.sft import train_sft
from hidden_rule.training.watcher import Watcher

STEPS = {"epochs": 2, "batch_size": 4, "micro_batch_size": 2, "warmup_steps": 0}  # of 8
METHODS = {  # a name: the trainer, the part of the config, what differs from it, and how RL explores
    "sft": (train_sft, "sft", {}, "structured"),
    "grpo": (train_grpo, "grpo", {}, "structured"),
    "exact": (train_grpo, "grpo", {"estimator": "exact"}, "structured"),
    # a random model writes no valid reply: without the entropy bonus nothing would have a gradient
    "free": (train_grpo, "grpo", {"max_new_tokens": 4, "group_size": 2, "entropy_coef": 0.1}, "free"),
}


def altered(tiny_manifest, folder: Path, change) -> Path:
    """The manifest of the tiny model with other weights."""
    source = Path(json.loads(tiny_manifest.read_text())["id"])
    shutil.copytree(source, folder / "model")
    weights = load_file(folder / "model/model.safetensors")
    change(weights)
    save_file(weights, folder / "model/model.safetensors", metadata={"format": "pt"})
    prepare_model({"source": "path", "id": str(folder / "model"), "revision": ""}, folder / "manifest.json")
    return folder / "manifest.json"


def overflow(weights):
    """Beyond 65,504, the largest number of float16, within float32 and bfloat16."""
    weights["model.norm.weight"] *= 1e5


def one_nan(weights):
    weights["model.layers.1.mlp.down_proj.weight"][3, 5] = math.nan


@pytest.fixture
def make_job(tiny_jobs, tmp_path):
    """`make_job(method, **settings)`: a trainer, and its job."""

    def make(method: str, base: BaseModel | None = None, steps: int = 0, **settings):
        train, section, changes, decoding = METHODS[method]
        job = tiny_jobs.make(
            f"{method}-{tmp_path.name}",
            {**tiny_jobs.config[section], **STEPS, **changes, **settings},
            base=base or tiny_jobs.base,
            decoding=decoding,
            checkpoints=CheckpointPlan(tmp_path / "checkpoints", "a", steps=steps),
        )
        return train, job

    return make


def refused(train, job, **options) -> str:
    """The line with which a training stops; it leaves no output."""
    with pytest.raises(NotFiniteError) as error:
        train(job, **options)
    line = str(error.value)
    assert line.startswith(f"config.yaml: conditions.{job.condition}: seed 3, step ")
    assert "\n" not in line and len(line) < 300
    for path in (job.output.adapter, job.output.history, job.output.cost):
        assert not path.exists()
    return line


@pytest.mark.parametrize("method", ["sft", "free"])
def test_weights_that_overflow_in_float16(tiny_manifest, make_job, tmp_path, method):
    base = BaseModel(altered(tiny_manifest, tmp_path, overflow), "float16")
    line = refused(*make_job(method, base))
    assert line.endswith(
        "seed 3, step 0: a log-probability of a reply is not finite (nan), computed in float16; "
        "set model.dtype to bfloat16 or float32"
    )


def test_a_nan_among_the_weights(tiny_manifest, make_job, tmp_path):
    base = BaseModel(altered(tiny_manifest, tmp_path, one_nan), "float32")
    line = refused(*make_job("grpo", base))
    assert line.endswith("computed in float32; take another copy of the model, whose weights may be damaged")


@pytest.mark.parametrize("method", ["sft", "grpo", "free"])
def test_a_learning_rate_that_is_much_too_high(make_job, tmp_path, method):
    line = refused(*make_job(method, learning_rate=1.0e30, steps=1))
    assert line.endswith("computed in float32; lower learning_rate (1e+30)")
    assert "step 0" not in line


class Poisoned(Watcher):
    """Lets a weight become NaN before the third step."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            weight = next(p for name, p in model.named_parameters() if "lora_A" in name)
            weight.data[0, 0] = math.nan


EXPECTED = {
    "sft": "step 3: the loss is not finite (nan)",
    "grpo": "step 3: the entropy of the replies is not finite (nan)",
    "exact": "step 3: the expected reward is not finite (nan)",
    "free": "step 2: a logit of the next token is not finite (nan)",  # two steps are done
}


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_at_the_third_step_leaves_the_checkpoint_before_it(make_job, tmp_path, caplog, method):
    train, job = make_job(method, steps=1)
    assert EXPECTED[method] in refused(train, job, make_watcher=Poisoned)
    kept = sorted(path.name for path in (tmp_path / "checkpoints/a").glob("checkpoint-*"))
    assert kept == ["checkpoint-1", "checkpoint-2"]
    for name in kept:
        weights = load_file(tmp_path / "checkpoints/a" / name / "adapter_model.safetensors")
        assert all(torch.isfinite(weight).all() for weight in weights.values())
    if method == "sft":  # the same training without the fault goes on, and ends
        with caplog.at_level(logging.WARNING):
            train(job)
        assert "resuming from" in caplog.text and job.output.adapter.exists()


def test_gradients_that_overflow(make_job, monkeypatch):
    """The loss is finite, its gradient is not."""

    class Overflowing(Watcher):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 1:
                weight = next(p for name, p in model.named_parameters() if "lora_B" in name)
                weight.register_hook(lambda gradient: gradient * math.inf)

    line = refused(*make_job("sft"), make_watcher=Overflowing)
    assert "step 2: the gradient norm is not finite (" in line
    assert line.endswith("lower learning_rate (0.002)")


def test_a_checkpoint_is_never_written_of_weights_that_are_not_finite(make_job, tmp_path):
    """Loss and gradient of the step are finite, what it made of the weights is not."""

    class Broken(Watcher):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            super().on_step_end(args, state, control, **kwargs)
            if state.global_step == 2:
                next(p for name, p in model.named_parameters() if "lora_B" in name).data[0, 0] = math.inf

    assert "step 2: a weight of the adapter is not finite" in refused(*make_job("sft", steps=2), make_watcher=Broken)
    assert not list((tmp_path / "checkpoints").rglob("checkpoint-*"))


def test_an_adapter_that_is_not_finite_is_neither_written_nor_read(tiny_manifest, tiny_jobs, tmp_path):
    network = load_model(tiny_manifest, "float32", default_device())
    model = add_adapter(network, tiny_jobs.config["lora"])
    weight = next(p for name, p in model.named_parameters() if "lora_A" in name)
    good = float(weight.data[0, 0])
    weight.data[0, 0] = math.nan
    with pytest.raises(NotFiniteError, match=r"a weight of the adapter is not finite \(nan\)"):
        save_adapter(model, tmp_path / "adapter", "tiny")
    assert not (tmp_path / "adapter").exists()
    weight.data[0, 0] = good
    save_adapter(model, tmp_path / "adapter", "tiny")
    path = tmp_path / "adapter/adapter_model.safetensors"
    weights = load_file(path)
    weights[sorted(weights)[0]][0, 0] = -math.inf
    save_file(weights, path)
    with pytest.raises(UserError, match=r"adapter_model.safetensors: base_model\S+: holds -inf, which is not finite;"):
        load_adapter(network, tmp_path / "adapter", trainable=False)


@pytest.mark.parametrize("free", [[], ["validation"]])
def test_an_evaluation_decides_nothing_from_a_nan(tiny_manifest, tiny_jobs, tmp_path, free):
    job = EvaluationJob(
        condition="baseline",
        seed=0,
        base=BaseModel(altered(tiny_manifest, tmp_path, overflow), "float16"),
        adapter=None,
        ruleset=Path("rulesets/fincorp.yaml").absolute(),
        splits={"validation": tiny_jobs.data / "validation.parquet"},
        settings={"structured": ["validation"], "free": free, "batch_size": 4, "max_new_tokens": 4},
        output=EvaluationOutput(tmp_path / "predictions.parquet", tmp_path / "cost.parquet"),
    )
    line = r"config.yaml: conditions.baseline: seed 0: a log-probability of a reply is not finite \(nan\), .* float16;"
    with pytest.raises(NotFiniteError, match=line):
        evaluate(job)
    assert not job.output.predictions.exists() and not job.output.cost.exists()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_token_is_drawn_from_a_nan(tiny_manifest, tiny_jobs, tmp_path, temperature):
    job = SamplingJob(
        seed=0,
        base=BaseModel(altered(tiny_manifest, tmp_path, one_nan), "float32"),
        adapter=None,
        ruleset=Path("rulesets/fincorp.yaml").absolute(),
        split=tiny_jobs.data / "validation.parquet",
        settings={"group_size": 2, "temperature": temperature, "max_new_tokens": 4},
        applications=4,
        replies=2,
        batch_size=4,
        output=tmp_path / "replies.parquet",
    )
    with pytest.raises(NotFiniteError, match=r"config.yaml: model: seed 0: a logit of the next token is not finite"):
        sample_start(job)
    assert not job.output.exists()


def test_a_token_that_a_model_rules_out_is_no_fault():
    """-inf among the logits of a row is a probability of 0."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(2, 3)

        def get_output_embeddings(self):
            return self.head

    network = Network()
    check_next_tokens(network)
    network.head.bias.data[1] = -math.inf
    with torch.no_grad():
        network.head(torch.zeros(4, 2))
        network.head.bias.data[:] = -math.inf
        with pytest.raises(NotFiniteError, match="-inf"):
            network.head(torch.zeros(4, 2))
    network.head(torch.zeros(4, 2))  # with gradients it is the loss that tells
