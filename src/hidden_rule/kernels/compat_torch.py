"""What is used of PyTorch's internals; written for 2.13 (`core/versions.py` has the range that was tested).

- `torch.cpu._is_avx512_bf16_supported`, `_is_amx_tile_supported`: whether a CPU has instructions for bfloat16. To be
  removed when PyTorch tells that by a public name, as `torch.cuda.is_bf16_supported` does.
- `torch.ops.aten.silu_backward`: one pass over memory where the formula written out takes five. To be removed when the
  operator has a public name.
"""

import torch

from hidden_rule.core.versions import check_version

check_version("torch")

silu_backward = torch.ops.aten.silu_backward  # (gradient, input) -> gradient of the input


def cpu_computes_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 numbers."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
