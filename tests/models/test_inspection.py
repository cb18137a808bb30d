"""The inspection of a model as a whole: what it measures and keeps, and its command. Its parts have their own tests."""

import json
import os
import shutil
from pathlib import Path

import pytest

from conftest import ROOT
from hidden_rule.core.errors import SETTING_FILES, UserError
from hidden_rule.models.base import BaseModel
from hidden_rule.models.files import folder_content
from hidden_rule.models.inspected import earlier_findings
from hidden_rule.models.inspection import Use, main, named_model, prepare_and_inspect

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
FINCORP = ROOT / "rulesets/fincorp.yaml"


@pytest.fixture
def folder(tiny_manifest, tmp_path) -> Path:
    """A copy of the tiny model's folder, to be changed."""
    return Path(shutil.copytree(tiny_manifest.parent / "model", tmp_path / "model"))


def prepared(folder: Path, ruleset=FINCORP, **use) -> dict:
    """The manifest that preparing and inspecting a folder writes."""
    record, output = folder.parent / "manifest.json", folder.parent / "experiment.json"
    model = {"source": "path", "id": str(folder), "revision": ""}
    prepare_and_inspect(model, "", Use(BaseModel(record, "float32"), ruleset, TARGETS, **use), output)
    return json.loads(output.read_text(encoding="utf-8"))


def set_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def test_the_manifest_holds_what_was_found(folder):
    found = prepared(folder)["inspection"]
    facts = found["facts"]
    assert (facts["architecture"], facts["adapted layers"], facts["share of linear layers adapted"]) == (
        "LlamaForCausalLM", 8, 0.5714,
    )  # fmt: skip
    assert (facts["system message"], facts["end of a turn"]) == ("kept", "<|im_end|> (2)")
    assert 100 < facts["longest prompt"] < 200 and facts["longest reply"] == 13
    assert found["warnings"] == []
    settings = found["settings"]
    output = folder.parent / "experiment.json"
    assert earlier_findings(output, settings).facts == facts
    assert earlier_findings(output, settings | {"limits": {"evaluation.max_new_tokens": 24}}) is None  # looked at anew


def test_a_limit_that_cuts_a_reply_is_one_line(folder):
    """The longest reply is not the one with the most letters."""
    prepared(folder, limits={"evaluation.max_new_tokens": 13})
    (folder.parent / "experiment.json").unlink()
    with pytest.raises(UserError) as error:
        prepared(folder, limits={"evaluation.max_new_tokens": 12})
    assert str(error.value) == (
        "config.yaml: evaluation.max_new_tokens: 12 tokens cut the reply for A_PLUS_TIER, which has 13 with the end of "
        "the turn; give at least 13"
    )
    assert not (folder.parent / "experiment.json").exists()


def test_a_context_that_is_too_short_is_one_line(folder):
    """At the border: prompt and reply fill it, and exceed it by one."""
    facts = prepared(folder)["inspection"]["facts"]
    needed = facts["longest prompt"] + facts["longest reply"]
    set_config(folder, max_position_embeddings=needed)
    prepared(folder)
    with pytest.raises(
        UserError, match=f"evaluation.max_new_tokens: .* more than the model's {needed}; give at most 13"
    ):
        prepared(folder, limits={"evaluation.max_new_tokens": 14})
    set_config(folder, max_position_embeddings=needed - 1)
    with pytest.raises(UserError, match=f"fincorp.yaml: prompt: prompt and reply of {needed} tokens are more than"):
        prepared(folder)


def test_a_folder_is_known_by_its_content(folder, tmp_path):
    """Not by times, and not by sizes; a copy with other times is the same."""
    known = tmp_path / "hashes.json"
    before = folder_content(folder, known)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    assert folder_content(folder, known) == before
    assert folder_content(shutil.copytree(folder, tmp_path / "copy"), tmp_path / "other.json") == before
    for name in ("model.safetensors", "tokenizer_config.json"):
        path = folder / name
        text, times = path.read_bytes(), path.stat()
        path.write_bytes(text[:-3] + bytes([text[-3] ^ 1]) + text[-2:])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert folder_content(folder, known) != before, name
        path.write_bytes(text)
    assert folder_content(folder, known) == before


def test_the_command_prints_facts_or_one_line(folder, capsys, monkeypatch):
    monkeypatch.setenv(SETTING_FILES, "{}")  # put back at the end: the command sets it for its process
    main([str(folder), "--ruleset", str(FINCORP), "--dtype", "float32"])
    printed = capsys.readouterr().out
    assert "LlamaForCausalLM" in printed and "longest prompt" in printed
    with pytest.raises(UserError, match="'q_prj' is no layer of .*; did you mean q_proj?"):
        main([str(folder), "--targets", "q_prj,k_proj"])
    with pytest.raises(UserError, match="MODEL: 'no such' is no folder and no Hub id"):
        main(["no such"])


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    """The Hub's client lets errors of its HTTP library through, which are no OSError."""
    import huggingface_hub

    class NoAnswerError(Exception):
        pass

    def model_info(self, *args, **kwargs):
        raise NoAnswerError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    with pytest.raises(UserError, match=r"MODEL: a/b cannot be looked up \(no route to host\); check the name"):
        named_model("a/b", None)
