"""Sizes of models from headers, memory from sizes: by hand, and as measured on a GPU."""

import json

import pytest
from shapes import config_of, qwen3_14b, write_safetensors

from conftest import ROOT
from hidden_rule.core.errors import UserError
from hidden_rule.kernels.frozen_layers import MOST_BYTES
from hidden_rule.planning import memory
from hidden_rule.planning.machine import Gpu, Machine
from hidden_rule.planning.memory import Model
from hidden_rule.planning.model_facts import EMBEDDED
from hidden_rule.planning.prompt_sizes import PromptSizes, prompt_sizes
from hidden_rule.planning.weights import Tensor, folder_shape, named_shape, shape_of, typical_shape
from hidden_rule.planning.workload import Kind

GPU = Machine((Gpu("H200", 150.8, 989.0),), None, None, 16, None, cpu_bfloat16=False, real=False)
CPU = Machine((), 16 * 10**9, 12 * 10**9, 4, 10**12, cpu_bfloat16=True)
LORA = ["q_proj", "k_proj", "v_proj", "o_proj"]
GPU_ROWS = json.loads((ROOT / "results/published/gpu.json").read_text(encoding="utf-8"))["rows"]
TINY = {  # two layers, width 8, MLP 16, four numbers of keys, 32 words; the output layer is the embedding's
    "model.embed_tokens.weight": ("BF16", [32, 8]),
    "model.norm.weight": ("F32", [8]),
    **{
        f"model.layers.{i}.{name}.weight": ("BF16", shape)
        for i in range(2)
        for name, shape in {
            "self_attn.q_proj": [8, 8],
            "self_attn.k_proj": [4, 8],
            "self_attn.v_proj": [4, 8],
            "self_attn.o_proj": [8, 8],
            "mlp.gate_proj": [16, 8],
            "mlp.down_proj": [8, 16],
        }.items()
    },
}
LAYER = 64 + 32 + 32 + 64 + 128 + 128


def test_a_header_by_hand(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", TINY, {"BF16": 2, "F32": 4})
    shape = folder_shape(tmp_path)
    assert (shape.body, shape.embeddings, shape.head) == (2 * LAYER + 8, 32 * 8, 32 * 8)
    assert shape.bytes == 2 * (2 * LAYER + 32 * 8) + 4 * 8
    assert (shape.width, shape.wide, shape.keys, shape.layers, shape.vocabulary) == (8, 16, 4, 2, 32)
    # r · (in + out) of q, k, v and o in two layers
    assert shape.lora(3, LORA) == 3 * 2 * (16 + 12 + 12 + 16)
    assert shape.lora(3, ["self_attn.q_proj"]) == 3 * 2 * 16
    assert shape.lora(3, ["proj"]) == 0  # no layer's whole last word


def test_a_model_in_several_files_is_their_sum(tmp_path):
    names = list(TINY)
    for i, part in enumerate((names[:5], names[5:])):
        write_safetensors(tmp_path / f"model-{i}.safetensors", {n: TINY[n] for n in part}, {"BF16": 2, "F32": 4})
    assert folder_shape(tmp_path).parameters == 2 * LAYER + 8 + 256


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (5).to_bytes(8, "little") + b"[1,2]",
        (2).to_bytes(8, "little") + b"{",
        (14).to_bytes(8, "little") + b'{"a": {"b": 1}',
    ],
    ids=["empty", "long", "a list", "cut", "no shape"],
)
def test_a_damaged_header_is_one_line(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: is not a safetensors file"):
        folder_shape(tmp_path)


def test_no_weights_no_shape(tmp_path):
    assert folder_shape(tmp_path) is None


def test_the_14b_shape():
    shape = qwen3_14b()
    counted = GPU_ROWS[0]["parameters"]  # of the network on the GPU
    assert (shape.body, shape.head, shape.lora(16, LORA)) == (counted["n"], counted["head"], counted["lora"])
    assert shape.parameters == 14_768_307_200


def test_a_named_size_is_near_the_true_shape():
    guess, true = named_shape("Qwen/Qwen3-14B"), qwen3_14b()
    assert guess.parameters == 14_000_000_000
    for part in ("width", "wide", "layers", "lora"):
        of = [getattr(shape, part) if part != "lora" else shape.lora(16, LORA) for shape in (guess, true)]
        assert 0.8 < of[0] / of[1] < 1.25, part
    assert named_shape("owner/model") is None


@pytest.mark.parametrize("n", [1, 1000, 135_000_000, 10**12])
def test_any_size_has_a_shape(n):
    shape = typical_shape(n, "a test")
    assert shape.parameters == n and shape.layers >= 1 and shape.body >= 0


@pytest.mark.parametrize("of", [row for row in GPU_ROWS if row["side"] != "trl"])
def test_peaks_that_were_measured_on_a_gpu(tmp_path, of):
    config = config_of(tmp_path, "experiment: planned\n", "experiments/qwen3-14b.yaml")
    settings = config[of["method"]] | {
        "gradient_checkpointing": of["checkpointing"],
        "micro_batch_size": of["micro_batch_size"],
    }
    kind = Kind("measured", of["method"], of["method"], settings)
    model = Model(qwen3_14b(), qwen3_14b().lora(16, LORA), 2)
    need = memory.of_training(model, kind, prompt_sizes(config), of["side"] == "ours", GPU)
    tensors = need.weights + need.adapter + need.activations
    assert tensors == pytest.approx(of["peak_bytes"], rel=0.05)


def test_prompt_sizes_of_fincorp(tmp_path):
    sizes = prompt_sizes(config_of(tmp_path))
    # 133.5 tokens with the reply, by the embedded model's tokenizer; micro-batches of 8 computed 67 positions a row
    assert sizes.whole + sizes.reply == pytest.approx(133.5, rel=0.15)
    assert sizes.positions(8) / 8 == pytest.approx(67, rel=0.15)


def test_memory_on_a_cpu_by_hand(tmp_path):
    config = config_of(tmp_path)
    shape, sizes = qwen3_14b(), PromptSizes(10, 20, 5)
    model = Model(shape, 1000, 4)
    kind = Kind("sft", "sft", "sft", {**config["sft"], "micro_batch_size": 2})
    need = memory.of_training(model, kind, sizes, free=False, machine=CPU)
    assert need.weights == 4 * shape.parameters and need.adapter == 16 * 1000
    positions, scored = 10 + 2 * (20 + 5), 2 * 5
    layer = 4 * (8 * 5120 + 4 * 17408)
    assert need.activations == positions * layer * 40 + scored * 151936 * 10
    assert need.least == need.weights + 16_000
    assert memory.itemsize("auto", CPU) == 2
    assert memory.itemsize("float32", CPU) == 4


def test_an_adapter_in_the_last_layers_needs_no_activations_below(tmp_path):
    config, shape, sizes = config_of(tmp_path), qwen3_14b(), PromptSizes(10, 20, 5)
    kind = Kind("sft", "sft", "sft", {**config["sft"], "micro_batch_size": 2})
    need = memory.of_training(Model(shape, 1000, 4, trained=0.25), kind, sizes, free=False, machine=CPU)
    layer = 4 * (8 * 5120 + 4 * 17408)
    assert need.activations == 60 * layer * 10 + 10 * 151936 * 10
    model = Model(shape, 1000, 4, trained=0.25)
    with_states = memory.of_training(model, kind, sizes, free=False, machine=CPU, kept_rows=800)
    assert with_states.activations == need.activations + (10 + 800 * (20 + 4 * 5)) * 5120 * 4
    too_many = memory.of_training(model, kind, sizes, free=False, machine=CPU, kept_rows=8000)
    assert too_many.activations == need.activations and memory.MOST_KEPT == MOST_BYTES
    assert shape.lora(16, LORA, 10) == shape.lora(16, LORA) / 4
    tensors = {
        f"model.layers.{i}.self_attn.q_proj.weight": Tensor((8, 4), 2) for i in range(12)
    } | {"model.embed_tokens.weight": Tensor((99, 4), 2)}  # fmt: skip
    assert shape_of(tensors, "a test").lora(3, ["q_proj"], 2) == 3 * (8 + 4) * 2  # 10 and 11, not 1 and 9


def test_sharded_weights_are_shared_out():
    shape = qwen3_14b()
    assert Model(shape, 0, 2, sharing=4).weights == shape.parameters / 2


@pytest.mark.slow
def test_the_embedded_model_is_known_before_it_is_prepared(manifest):
    known, true = EMBEDDED, folder_shape(manifest.parent)
    parts = ("body", "head", "embeddings", "bytes", "width", "wide", "keys", "layers", "vocabulary")
    assert [getattr(known, part) for part in parts] == [getattr(true, part) for part in parts]
    assert known.lora(16, LORA) == true.lora(16, LORA)
