"""Folders of models and adapters that somebody else made: what leads out of them, or names code, is refused."""

import json
import struct
from pathlib import Path

import pytest

from bad_inputs import the_line
from hidden_rule.models.architecture import check_architecture
from hidden_rule.models.files import check_safetensors
from hidden_rule.models.prepare import check_files, licence_of
from hidden_rule.models.untrusted import check_adapter_config

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
HEADER = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


def weights(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(4)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(weights(json.dumps(HEADER).encode()))
    return folder


@pytest.fixture
def model(tmp_path):
    """The smallest folder that passes for a model's, beside a file that is nobody's business."""
    (tmp_path / "secret").write_text("a key")
    return made(tmp_path / "model")


def test_the_smallest_folder_passes(model):
    check_files(model)
    check_architecture(model)


LINKED = ["chat_template.jinja", "additional_chat_templates/other.jinja", "vocab.txt", "merges.txt", "tokenizer.model"]


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("target", ["../secret", "../link_to_secret", "/etc/hostname"])
def test_a_link_out_of_the_folder_is_refused(model, name, target):
    """Texts of the folder are copied beside each adapter, and published with it."""
    (model.parent / "link_to_secret").symlink_to("secret")
    (model / name).parent.mkdir(exist_ok=True)
    deeper = "../" * name.count("/") if target.startswith("..") else ""
    (model / name).symlink_to(f"{deeper}{target}")
    line = the_line(check_files, model)
    assert f"{name}: is a link to /" in line and "outside the model's folder; copy the file into the folder" in line


def test_links_to_what_is_no_file_are_passed_over(model):
    (model / "vocab.txt").symlink_to("vocab.txt")
    (model / "merges.txt").symlink_to("nowhere")
    (model / "tokenizer.model").symlink_to("/dev/zero")
    check_files(model)


def test_links_within_the_folder_to_weights_and_of_the_hubs_cache_are_followed(model, tmp_path):
    (model / "real.jinja").write_text("x")
    (model / "chat_template.jinja").symlink_to("real.jinja")
    (model / "model.safetensors").rename(tmp_path / "on-another-disk")
    (model / "model.safetensors").symlink_to(tmp_path / "on-another-disk")
    check_files(model)
    (tmp_path / "named-by-a-link").symlink_to(model)
    check_files(tmp_path / "named-by-a-link")
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    blobs.mkdir(parents=True)
    for name, content in [("chat_template.jinja", "x"), ("config.json", json.dumps(CONFIG))]:
        made(snapshot)
        (snapshot / name).unlink(missing_ok=True)
        (blobs / name).write_text(content)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    check_files(snapshot)


SHARDS = {
    "../model.safetensors": "names ../model.safetensors, outside the model's folder",
    "/etc/hostname": "names /etc/hostname, outside the model's folder",
    "..": "names .., which is no safetensors file",
    "evil.bin": "names evil.bin, which is no safetensors file",
    "evil.safetensors/": "names evil.safetensors/, outside the model's folder",
    "gone.safetensors": "lacks gone.safetensors",
}


@pytest.mark.parametrize("shard", SHARDS)
def test_an_index_names_safetensors_of_the_folder_alone(model, shard):
    (model / "evil.bin").write_bytes(b"a pickle")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    assert SHARDS[shard] in the_line(check_files, model)


HEADERS = {
    "longer than the file": weights(b"{}", 2**63),
    "too long": None,  # and of a file that has as much
    "nested": weights(b'{"a":' * 100_000),
    "no numbers": weights(b'{"w":{"data_offsets":["a","b"]}}'),
    "more than there is": weights(b'{"w":{"data_offsets":[0,1099511627776]}}'),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_any_length_is_read_in_bounds(model, name):
    path = model / "model.safetensors"
    if name == "too long":
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", 2**40))
            file.truncate(2**40 + 8)  # a hole: it takes no room
    else:
        path.write_bytes(HEADERS[name])
    line = the_line(check_safetensors, path)
    assert "is not a safetensors file" in line or "its header promises" in line


def test_code_that_a_configuration_names_is_not_run(model):
    for key, value in [
        ("attn_implementation", "someone/kernel"),
        ("_attn_implementation", "someone/kernel:f"),
        ("_experts_implementation_internal", "someone/kernel"),
        ("text_config", {"attn_implementation": "someone/kernel"}),
    ]:
        (model / "config.json").write_text(json.dumps({**CONFIG, key: value}))
        assert "names someone/kernel" in the_line(check_architecture, model)
    (model / "config.json").write_text(json.dumps({**CONFIG, "attn_implementation": "sdpa"}))
    check_architecture(model)


LISTS = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
MERGED = LISTS.replace("[", "{<<: [").replace("]", "]}")
CARDS = {
    "license: apache-2.0": "apache-2.0",
    "license:\n- mit\n- other": "mit, other",
    "license: [1, null, {a: b}, mit]": "mit",
    f"a: &a [x, x]\n{LISTS}license: *j": None,
    f"a: &a {{k: v}}\n{MERGED}license: mit": "mit",
    "license: !!python/object/apply:os.getcwd []": None,
    f"license: {'x' * 1000}": None,
    "{": None,
}


@pytest.mark.parametrize("number", range(len(CARDS)))
def test_a_model_card_is_read_without_writing_its_aliases_out(model, number):
    text, licence = list(CARDS.items())[number]
    (model / "README.md").write_text(f"---\n{text}\n---\n")
    assert licence_of(model) == licence


ADAPTER = {"peft_type": "LORA", "target_modules": ["q_proj", "model.layers.0.mlp.up_proj"], "r": 8, "lora_alpha": 16,
           "task_type": "CAUSAL_LM", "bias": "none", "modules_to_save": None, "loftq_config": {}}  # fmt: skip
ADAPTERS = {
    "as it should be": ({}, None),
    "of another version": ({"some_new_method": None, "use_something": False, "megatron_core": "megatron.core"}, None),
    "beside a language model": ({"exclude_modules": r"(?!model\.language_model\.).*"}, None),
    "modules to import": ({"megatron_config": {"a": 1}, "megatron_core": "results.mine.code"}, "megatron_config: is "),
    "another module": ({"megatron_core": "os"}, "megatron_core: is 'os'"),
    "a library to import": ({"auto_mapping": {"parent_library": "evil", "base_model_class": "A"}}, "auto_mapping: is "),
    "another method": ({"peft_type": "PROMPT_TUNING"}, "peft_type: is not LORA"),
    "whole layers": ({"modules_to_save": ["lm_head"]}, "modules_to_save: is "),
    "weights of the base": ({"init_lora_weights": "pissa"}, "init_lora_weights: is 'pissa'"),
    "a pattern": ({"target_modules": "(a+)+$"}, "target_modules: is no list of layers' names"),
    "patterns in a list": ({"target_modules": ["(a+)+$"]}, "target_modules: is no list"),
    "a pattern that leaves out": ({"exclude_modules": "(a+)+$"}, "exclude_modules: is not as"),
    "a pattern of ranks": ({"rank_pattern": {"(a+)+$": 4}}, "rank_pattern: names layers by more than their names"),
    "what nobody knows": ({"backdoor": "yes"}, "backdoor: is 'yes'"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_adapts_layers_and_does_nothing_else(tmp_path, name):
    changes, words = ADAPTERS[name]
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(ADAPTER | changes))
    if words is None:
        assert check_adapter_config(path)["r"] == 8
    else:
        assert words in the_line(check_adapter_config, path)
