"""Weights that two processes share (FSDP2, on CPUs through gloo) give the gradients of weights that each has whole.

accelerate starts FSDP on accelerators alone, so this is as far as it goes on a CPU: our forward passes and norms, fused
LoRA and prefix trees under torch's own `fully_shard`.
"""

import random

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_shared_prefix import gradients, quick, relative_error
from test_trie import PROMPTS, REPLIES
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hidden_rule.models.trie import LabelTrie
from hidden_rule.training.shared_forward import add_shared_prefix_forward
from tiny_models import DEVICE, padded_batch, random_rows, tiny_model

pytestmark = pytest.mark.slow  # several processes, or a real model

ROWS = random_rows(random.Random(0), 4, 1, 20)


def loss(model, rank: int):
    """A rank's part of an SFT batch, and of a GRPO batch under the trie policy."""
    supervised = model(**padded_batch(ROWS[2 * rank : 2 * rank + 2], "right"), fused_lm_head=True).log_probs.sum()
    trie = LabelTrie(REPLIES["branches in two subtrees"])
    return supervised + model(label_trie=trie, prompts=PROMPTS[2 * rank : 2 * rank + 2])[:, 0].sum()


def shard(rank: int, folder: str, family: str) -> None:
    """One of two processes; rank 0 writes the gradients."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = tiny_model(family)
    base = quick(model)
    add_shared_prefix_forward(base)
    mesh = init_device_mesh("cpu", (2,))
    for layer in base.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    loss(model, rank).backward()
    found = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.requires_grad}
    if rank == 0:
        save_file(found, f"{folder}/gradients.safetensors")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(DEVICE.type == "cuda", reason="the two processes shard over a mesh of CPUs")
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_gradients_of_sharded_weights(tmp_path, family):
    torch.multiprocessing.spawn(shard, (str(tmp_path), family), nprocs=2)
    model = tiny_model(family)
    add_shared_prefix_forward(quick(model))
    expected = gradients(model, (loss(model, 0) + loss(model, 1)) / 2)  # processes' gradients are averaged
    found = load_file(tmp_path / "gradients.safetensors")
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert relative_error(found[name], gradient) < 1e-4, name
