"""An export of a tiny random model whose tokens are bytes, with an adapter of its own: it is served in no time."""

import json
from pathlib import Path

import torch

from byte_models import SIZES, byte_manifest
from conftest import ROOT
from hidden_rule.core.files import file_entry, read_json
from hidden_rule.deployment.exported import ADAPTER, BASE_RECORD, FORMAT, RECORD, RULESET, Exported, read_export
from hidden_rule.models.adapters import add_adapter, save_adapter
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.models.tokens import encode_reply
from hidden_rule.task.replies import render_reply
from hidden_rule.task.ruleset import load_ruleset

LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
FINCORP = ROOT / "rulesets" / "fincorp.yaml"


def write_adapter(manifest: Path, folder: Path, seed: int) -> None:
    """A random adapter of a manifest's model, large enough to change its decisions."""
    torch.manual_seed(seed)
    model = add_adapter(load_model(manifest, "float32", torch.device("cpu")), LORA)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    save_adapter(model, folder, "tiny")


def write_export(folder: Path, seed: int = 1, sizes: dict = SIZES) -> Exported:
    """The export of a byte model in `folder`, to decide FinCorp's applications."""
    manifest = byte_manifest(folder, sizes=sizes)
    (folder / BASE_RECORD).write_text(json.dumps(read_json(manifest)), encoding="utf-8")
    (folder / RULESET).write_text(FINCORP.read_text(encoding="utf-8"), encoding="utf-8")
    write_adapter(manifest, folder / ADAPTER, seed)
    labels = load_ruleset(FINCORP).labels
    tokenizer = load_tokenizer(manifest)
    tokens = {label: encode_reply(tokenizer, label, labels) for label in labels}
    weights = f"{ADAPTER}/adapter_model.safetensors"
    record = {
        "format": FORMAT, "experiment": "tiny", "condition": "sft", "display_name": "SFT", "seed": 0, "method": "sft",
        "start_from": None, "labels": labels, "replies": {label: render_reply(label, labels) for label in labels},
        "reply_tokens": tokens, "longest_reply": max(map(len, tokens.values())), "context_length": 2048,
        "decision": "the most probable reply", "chat_template_kwargs": {}, "dtype": "float32",
        "base": {"source": "path", "id": "tiny", "revision": "", "licence": None}, "batch_size": 8,
        "predictions": {"file": "", "sha256": "", "suite": "holdout", "n": 0}, "data": {}, "hidden_rules": [],
        "created": "2026-01-01T00:00:00+00:00", "files": {weights: file_entry(folder / weights)},
    }  # fmt: skip
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    return read_export(folder)
