"""Where no gradients are computed layers skip autograd's bookkeeping, and compute the same bits."""

import pytest
import torch
from test_shared_prefix import quick

from hidden_rule.kernels.lora import LoraProducts
from hidden_rule.kernels.mlp import GatedMLPFunction
from hidden_rule.kernels.norm import RMSNormFunction
from tiny_models import DEVICE, tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_the_same_bits(monkeypatch, dtype):
    model = tiny_model("qwen", dtype=dtype)
    quick(model)
    ids = torch.arange(1, 21, device=DEVICE).view(2, 10)
    expected = model(input_ids=ids).logits
    assert expected.requires_grad

    def refuse(*arguments):
        raise AssertionError("autograd's bookkeeping")

    for function in (LoraProducts, GatedMLPFunction, RMSNormFunction):
        monkeypatch.setattr(function, "apply", refuse)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, expected)
    with pytest.raises(AssertionError, match="bookkeeping"):
        model(input_ids=ids)
