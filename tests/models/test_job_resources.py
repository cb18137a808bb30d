"""Memory and time that jobs ask for, worked out by hand, and the sizes of models that they follow."""

import json
import os

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256
from hidden_rule.models.files import fetch_model, file_hashes, hub_sha256, model_folder
from hidden_rule.models.job_resources import memory_mb, named_parameters, runtime_minutes, weights_bytes

QWEN = 29_536_614_400  # bytes of Qwen3-14B's weights: 14,768,307,200 parameters in bfloat16
EMBEDDED = 269_030_000


@pytest.mark.parametrize(
    ("n_bytes", "processes", "by_engine", "mb"),
    [
        (0, 1, False, 6_000),
        (EMBEDDED, 1, False, 6_000),  # 5,000 + 539 is less
        (500_000_000, 1, False, 6_000),
        (500_000_001, 1, False, 6_001),  # rounded up
        (QWEN, 1, False, 64_074),  # 5,000 + 2 x 29,536.6144
        (QWEN, 4, False, 256_296),
        (EMBEDDED, 1, True, 18_000),
        (141_107_412_992, 1, False, 287_215),  # 70B
    ],
)
def test_memory(n_bytes, processes, by_engine, mb):
    assert memory_mb(n_bytes, processes, by_engine) == mb


@pytest.mark.parametrize(
    ("n_bytes", "minutes", "limit", "expected"),
    [
        (EMBEDDED, 240, 0, 240),
        (9_999_999_999, 60, 0, 60),
        (10_000_000_000, 60, 0, 120),
        (QWEN, 240, 0, 720),
        (QWEN, 60, 0, 180),
        (QWEN, 240, 90.5, 811),  # max_minutes comes on top, whole
    ],
)
def test_time(n_bytes, minutes, limit, expected):
    assert runtime_minutes(n_bytes, minutes, limit) == expected


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen3-14B", 14 * 10**9),
        ("SmolLM2-135M-Instruct", 135 * 10**6),
        ("Qwen/Qwen2.5-0.5B", 500 * 10**6),
        ("meta-llama/Llama-3.1-8B-Instruct", 8 * 10**9),
        ("Qwen/Qwen2.5-14B-Instruct-1M", 14 * 10**9),  # 1M tokens of context
        ("mistralai/Mixtral-8x7B-v0.1", 56 * 10**9),
        ("Qwen/Qwen3-30B-A3B", 30 * 10**9),  # 3B active
        ("openai/gpt_oss_20b", 20 * 10**9),
        ("acme-7B/small", 0),  # the owner's name says nothing
        ("microsoft/phi-4", 0),
        ("acme/model-4bit", 0),
    ],
)
def test_sizes_that_names_state(name, parameters):
    assert named_parameters(name) == parameters


def hub(**changes):
    return {"source": "hub", "id": "Qwen/Qwen3-14B", "revision": "a" * 40, **changes}


def test_what_is_known_of_a_hub_model_before_and_after_it_was_fetched(tmp_path):
    assert weights_bytes(hub(), tmp_path) == 28 * 10**9  # by its name
    files = {"model-1.safetensors": {"bytes": QWEN}, "tokenizer.json": {"bytes": 11}}
    fetched = {"id": hub()["id"], "revision": hub()["revision"], "files": files}
    (tmp_path / "fetched.json").write_text(json.dumps(fetched))
    assert weights_bytes(hub(), tmp_path) == QWEN
    assert weights_bytes(hub(revision="b" * 40), tmp_path) == 28 * 10**9  # another one is configured now
    files["model-2.safetensors"] = {"bytes": 1, "sha256": ""}
    (tmp_path / "manifest.json").write_text(json.dumps({**hub(), "files": files}))
    assert weights_bytes(hub(), tmp_path) == QWEN + 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": "Qwen/Qwen3-14B"}', '{"files": [1]}', "\x00"])
def test_records_that_cannot_be_read_are_as_none(tmp_path, text):
    for name in ("fetched.json", "manifest.json"):
        (tmp_path / name).write_text(text)
    assert weights_bytes(hub(), tmp_path) == 28 * 10**9


def test_a_record_without_sizes_leaves_the_name(tmp_path):
    of = {"id": hub()["id"], "revision": hub()["revision"]}
    (tmp_path / "fetched.json").write_text(json.dumps({**of, "files": ["model.safetensors"]}))
    assert weights_bytes(hub(), tmp_path) == 28 * 10**9


def test_of_a_local_model_the_files_count(tmp_path):
    for name, n in {"model-1.safetensors": 300, "model-2.safetensors": 40, "tokenizer.json": 5}.items():
        (tmp_path / name).write_bytes(b"x" * n)
    model = {"source": "path", "id": str(tmp_path), "revision": ""}
    assert weights_bytes(model, tmp_path / "nowhere") == 340
    assert weights_bytes({**model, "id": str(tmp_path / "gone-9B")}, tmp_path) == 0


@pytest.fixture
def cache(tmp_path):
    """A snapshot of the Hub's cache: a file of large-file storage, one of git, and one that was copied."""
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / ("c" * 40)
    blobs = tmp_path / "models--acme--tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name, blob in {"model.safetensors": "d" * 64, "config.json": "e" * 40}.items():
        (blobs / blob).write_text(name)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    (snapshot / "tokenizer.json").write_text("{}")
    return snapshot


def test_hashes_of_large_files_are_those_that_the_hub_states(cache, tmp_path):
    found = file_hashes(cache, tmp_path / "known.json", of_hub=True)
    assert found["model.safetensors"] == {"bytes": len("model.safetensors"), "sha256": "d" * 64}
    for name in ("config.json", "tokenizer.json"):  # git's hash is another one: the file is read
        assert found[name]["sha256"] == file_sha256(cache / name)


def test_a_local_folder_is_read_whatever_its_links_are_called(cache, tmp_path):
    found = file_hashes(cache, tmp_path / "known.json")
    assert found["model.safetensors"]["sha256"] == file_sha256(cache / "model.safetensors")


@pytest.mark.parametrize("target", ["../../other/" + "d" * 64, "../../blobs/" + "D" * 64, "d" * 64])
def test_other_links_state_no_hash(tmp_path, target):
    (tmp_path / "model.safetensors").symlink_to(target)
    assert hub_sha256(tmp_path / "model.safetensors") == ""


def test_what_is_fetched_is_listed_with_its_sizes(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: str(cache))
    model = {"source": "hub", "id": "acme/tiny", "revision": "c" * 40}
    fetch_model(model, tmp_path / "m" / "fetched.json")
    assert weights_bytes(model, tmp_path / "m") == len("model.safetensors")


def test_a_node_that_does_not_see_the_cache_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.fspath(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.HF_HUB_CACHE", os.fspath(tmp_path), raising=False)
    with pytest.raises(UserError) as error:
        model_folder({"source": "hub", "id": "nobody/nothing", "revision": "0" * 40}, tmp_path / "manifest.json")
    assert f"is not in the Hub's cache on this machine, {tmp_path}; let HF_HOME name a folder" in str(error.value)
    assert "\n" not in str(error.value)
