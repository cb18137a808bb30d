"""An adapter merged into the weights: the same model in float32, and rounded once in bfloat16."""

import json

import pytest
import torch

from hidden_rule.core.errors import SettingError
from hidden_rule.models.adapters import save_adapter
from hidden_rule.models.merging import merge_adapter, write_merged
from tiny_models import SIZES, tiny_model

LAYERS = SIZES["num_hidden_layers"]


@pytest.fixture
def adapted(tmp_path):
    """A tiny model with an adapter, on the CPU, and the adapter's folder."""
    model = tiny_model("llama").cpu().eval()
    save_adapter(model, tmp_path / "adapter", "tiny")
    return model, tmp_path / "adapter"


@torch.no_grad()
def test_the_merged_model_computes_what_base_and_adapter_do(adapted):
    model, folder = adapted
    ids = torch.arange(1, 41).view(2, 20)
    with_adapter, base = model(ids).logits, model.get_base_model()
    with model.disable_adapter():
        without = model(ids).logits
    merged = merge_adapter(model.unload(), folder)
    torch.testing.assert_close(merged(ids).logits, with_adapter, atol=2e-6, rtol=1e-5)
    assert (with_adapter - without).abs().max() > 0.01  # there is something to merge
    assert merged is base and not any("lora" in name for name, _ in merged.named_parameters())


@torch.no_grad()
def test_weights_are_summed_in_float32_and_rounded_once(adapted):
    model, folder = adapted
    layers = {name: layer for name, layer in model.named_modules() if name.endswith("layers.0.self_attn.q_proj")}
    ((_, layer),) = layers.items()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    base = model.unload().to(torch.bfloat16)
    weight = base.model.layers[0].self_attn.q_proj.weight.clone()
    expected = (weight.float() + 2.0 * b @ a).bfloat16()  # alpha 8 over r 4
    merged = merge_adapter(base, folder).model.layers[0].self_attn.q_proj.weight
    assert merged.dtype == torch.bfloat16 and torch.equal(merged, expected) and not torch.equal(merged, weight)


def test_a_written_model_is_whole_and_computed_as_its_base(adapted, tmp_path):
    model, folder = adapted
    base = tmp_path / "base"
    model.unload().save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "rope_scaling_of_ours": 1}))
    write_merged(base, folder, "float32", tmp_path / "merged")
    assert json.loads((tmp_path / "merged/config.json").read_text())["rope_scaling_of_ours"] == 1
    assert (tmp_path / "merged/model.safetensors").stat().st_size == (base / "model.safetensors").stat().st_size
    assert (tmp_path / "merged/model.safetensors").read_bytes() != (base / "model.safetensors").read_bytes()


def test_quantized_weights_are_refused(adapted, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(SettingError) as error:
        write_merged(tmp_path, adapted[1], "bfloat16", tmp_path / "merged")
    assert str(error.value) == (
        "config.yaml: evaluation.engine: vLLM is given the adapter merged into the weights, and the model's are "
        "quantized by fp8; set engine: transformers, or take weights as they were trained"
    )
    assert not (tmp_path / "merged").exists()
