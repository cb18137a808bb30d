"""What a model folder's network must be: anything else is one line, before anything trains."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from hidden_rule.core.errors import UserError
from hidden_rule.core.processes import LAUNCHED
from hidden_rule.kernels import attention
from hidden_rule.kernels.install import Kernels, install_kernels
from hidden_rule.models import network
from hidden_rule.models.architecture import LIBRARIES, is_installed
from hidden_rule.models.network import KERNELS, inspect_network, load_network

CPU = torch.device("cpu")
SIZES = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
}
QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]


def save_model(folder, kind: str, **settings):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **settings})).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("llama"), "llama")
    of_words().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(llama, tmp_path):
    """A copy of a whole model, to be damaged."""
    return shutil.copytree(llama, tmp_path / "model")


def of_words() -> PreTrainedTokenizerFast:
    """A tokenizer of 64 words."""
    words = {f"w{i}": i for i in range(64)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), eos_token="w2")


def inspect(folder, targets=QKVO, dtype="float32"):
    """Inspect a network with its folder's tokenizer, read without config.json, whose faults the inspection finds."""
    file = folder / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file)) if file.exists() else of_words()
    return inspect_network(folder, tokenizer, dtype, (targets, 0), CPU)


def the_line(folder, targets=QKVO, dtype="float32") -> str:
    with pytest.raises(UserError) as error:
        inspect(folder, targets, dtype)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_an_inspection_finds(folder):
    found = inspect(folder)
    facts = {
        "architecture": "LlamaForCausalLM",
        "dtype": "float32",
        "quantization": "none",
        "linear_layers": dict.fromkeys([*QKVO, "gate_proj", "up_proj", "down_proj"], 2),
        "adapted_layers": 8,
        "share_of_linear_layers_adapted": round(8 / 14, 4),
        "tied_output_layer": False,
        "embedding_rows": 64,
        "attention": "ours",
        "prefix_sharing": "on",
    }
    assert facts.items() <= found.facts.items() and found.warnings == ()
    assert found.facts["parameters"] == sum(w.numel() for w in load_file(folder / "model.safetensors").values())
    json.dumps(found.facts)


def test_jobs_do_not_repeat_what_an_inspection_compared(folder, monkeypatch):
    """In the type and on the kind of device that it was compared on."""
    record = json.loads(json.dumps(inspect(folder).facts))[KERNELS]
    network, _ = load_network(folder, "float32", CPU)
    monkeypatch.setattr("hidden_rule.kernels.install.compare", lambda *_: pytest.fail("compared again"))
    kernels = install_kernels(network, CPU, record)
    assert (kernels.attention, kernels.norms, kernels.mlps) == (attention.CPU, 5, 2)
    for other in ({"dtype": "bfloat16"}, {"device": "cuda"}, {"torch": "2.0"}):
        assert Kernels.recorded({**record, **other}, network, CPU) is None


DIRECT = [  # device, FSDP or ZeRO-3, straight to it
    ("cpu", False, False),  # there is no other place
    ("cuda", False, True),
    ("cuda:3", False, True),
    ("cuda", True, False),  # each process holds a part alone
]


@pytest.mark.parametrize(("device", "sharded", "direct"), DIRECT)
def test_weights_go_straight_to_a_gpu(monkeypatch, device, sharded, direct):
    monkeypatch.setenv(LAUNCHED, "1")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(sharded).lower())
    assert network.goes_straight_to(torch.device(device)) is direct


def test_straight_to_a_device_they_are_the_same(folder, monkeypatch):
    """Shown on a CPU, where nothing else than the way differs."""
    plain, info = load_network(folder, "bfloat16", CPU)
    places = []
    load = AutoModelForCausalLM.from_pretrained

    def from_pretrained(*args, **kwargs):
        places.append(kwargs.get("device_map"))
        return load(*args, **kwargs)

    monkeypatch.setattr(network, "goes_straight_to", lambda device: True)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    straight, straight_info = load_network(folder, "bfloat16", CPU)
    assert places == [{"": CPU}] and straight_info == info and not straight.training
    values = straight.state_dict()
    assert values.keys() == plain.state_dict().keys()
    assert all(torch.equal(values[name], value) for name, value in plain.state_dict().items())
    assert {tensor.device for tensor in [*values.values(), *straight.buffers()]} == {CPU}


TARGETS = [
    (["q_prj", "k_proj"], "'q_prj' is no layer of LlamaForCausalLM; did you mean q_proj? linear layers: q_proj, "),
    (["q_proj", "qkv_proj"], "'qkv_proj' is no layer of LlamaForCausalLM; did you mean"),
    (["proj"], "'proj' is no layer of LlamaForCausalLM"),
    (["Q_PROJ"], "'Q_PROJ' is no layer of LlamaForCausalLM"),
    (["wqkv.x"], "'wqkv.x' is no layer of LlamaForCausalLM; linear layers: q_proj, k_proj, v_proj, o_proj, gate_proj"),
    (["lm_head"], "'lm_head' is the output layer, which stays as it is"),
    (["q_proj", "model.embed_tokens"], "'model.embed_tokens' is the input embeddings, which stays as it is"),
    (["mlp"], "'mlp' of LlamaForCausalLM is no linear layer of its language model but LlamaMLP; linear layers: q_proj"),
    (["norm"], "'norm' of LlamaForCausalLM is no linear layer of its language model but LlamaRMSNorm"),
]


@pytest.mark.parametrize(("targets", "line"), TARGETS)
def test_a_target_that_names_no_layer_to_adapt(folder, targets, line):
    assert f"lora.target_modules: {line}" in the_line(folder, targets)


@pytest.mark.parametrize("targets", [["layers.1.self_attn.q_proj"], ["self_attn.q_proj", "model.layers.0.mlp.up_proj"]])
def test_a_target_may_be_more_of_a_name(folder, targets):
    assert inspect(folder, targets).facts["adapted_layers"] == (1 if len(targets) == 1 else 3)


def test_a_tied_output_layer_is_refused_under_both_its_names(tmp_path):
    folder = save_model(tmp_path, "gpt_neox", tie_word_embeddings=True)
    assert "'lm_head' is the output layer" in the_line(folder, ["query_key_value", "lm_head"])
    assert "'embed_in' is the input embeddings" in the_line(folder, ["embed_in"])


def configured(**changes):
    """Change a folder's config.json."""

    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def tensors(change):
    """Change a folder's weights."""

    def rewrite(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def replaced(name, make):
    return tensors(lambda weights: weights.update({name: make(weights[name]).contiguous()}))


def with_adapter(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))


def with_more_tokens(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)


LLAMA_HEAD, NORM = "lm_head.weight", "model.norm.weight"
OTHERS = {"bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True}, "gptq": {"quant_method": "gptq"}}
FOLDERS = [
    (configured(model_type="t5", is_encoder_decoder=True), "is_encoder_decoder: t5 is an encoder-decoder model"),
    (configured(model_type="bart"), "is an encoder-decoder model"),
    (configured(architectures=["BertForMaskedLM"]), "architectures: BertForMaskedLM is a masked language model"),
    (
        configured(architectures=["LlamaForSequenceClassification"]),
        "architectures: LlamaForSequenceClassification is a classifier or reward model; use a causal language model",
    ),
    (configured(architectures=["MistralModel"]), "MistralModel is a network without an output layer, as embedding mod"),
    (configured(architectures=["Wav2Vec2ForCTC"]), "architectures: Wav2Vec2ForCTC is a speech model"),
    (configured(architectures="LlamaForCausalLM"), "architectures: is no list of names"),
    (
        configured(model_type="qwen2_vl", architectures=["Qwen2VLForConditionalGeneration"]),
        "Qwen2VLForConditionalGeneration is not among the causal language models of transformers",
    ),
    (configured(model_type="mine", auto_map={"AutoConfig": "c.C"}), "auto_map: the model is computed by code of its o"),
    (configured(model_type="mine"), "model_type: 'mine' is none that transformers knows"),
    (configured(model_type=["llama"]), "model_type: ['llama'] is none that transformers knows"),
    (
        configured(architectures=["OursForCausalLM"], auto_map={"AutoModelForCausalLM": "m.M"}),
        "OursForCausalLM is code of the model's own, where transformers has LlamaForCausalLM",
    ),
    (with_adapter, "adapter_config.json: is an adapter's, beside a base model"),
    (configured(quantization_config={"quant_method": "magic"}), "quantization by 'magic' is not known"),
    (configured(quantization_config=[]), "quantization by None is not known"),
    *(
        (configured(quantization_config=settings), f"the weights are quantized by {method}, and ")
        for method, settings in OTHERS.items()
        if not is_installed(LIBRARIES[method])
    ),
    (tensors(lambda weights: weights.pop(LLAMA_HEAD)), "its files lack 1 of the network's tensors (lm_head.weight)"),
    (tensors(lambda weights: weights.clear() or weights.update(x=torch.ones(1))), "its files lack 21 of the network's"),
    (configured(num_hidden_layers=3), "its files lack 9 of the network's tensors (model.layers.2."),
    (replaced(LLAMA_HEAD, lambda w: w[:, :16]), "lm_head.weight has the shape (64, 16) where config.json makes it ("),
    (configured(hidden_size=64), "has the shape ("),
    (configured(vocab_size=128), "lm_head.weight has the shape (64, 32) where config.json makes it (128, 32)"),
    (
        tensors(lambda weights: weights.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(32)})),
        "model.layers.0.self_attn.q_proj.bias are not read by LlamaForCausalLM, as config.json sets it up",
    ),
    (configured(num_attention_heads=5), "model: cannot be loaded ("),
    (configured(pad_token_id=1000), "model: cannot be loaded ("),
    (replaced(NORM, lambda w: w * float("nan")), "the tensor model.norm.weight holds numbers that are not finite"),
    (replaced("model.embed_tokens.weight", lambda w: w.index_fill(0, torch.tensor(63), float("inf"))), "embed_tokens"),
    (replaced(NORM, lambda w: w * 3e38), "model.dtype: LlamaForCausalLM computes logits that are not finite"),
    (with_more_tokens, "the tokenizer gives ids beyond the embedding's 64 rows, as '[PAD]' (64)"),
]


@pytest.mark.parametrize(("damage", "line"), FOLDERS)
def test_a_folder_that_is_refused(folder, damage, line):
    damage(folder)
    assert line in the_line(folder)


def test_what_a_configuration_says_of_outputs_is_no_matter(folder):
    configured(return_dict=False, output_hidden_states=True, output_attentions=True)(folder)
    assert inspect(folder).facts["prefix_sharing"] == "on"


def test_a_window_that_a_family_does_not_have_is_not_shared(folder):
    """`sliding_window` in a Llama's configuration means nothing to it, and would to our attention over a tree."""
    configured(sliding_window=4096)(folder)
    sharing = inspect(folder).facts["prefix_sharing"]
    assert sharing.startswith("off: logits differ from the model's own by ")


def test_weights_beyond_a_type_are_refused_in_it_alone(folder):
    replaced(NORM, lambda w: w * 1e6)(folder)
    inspect(folder)
    assert "model.norm.weight holds numbers that are not finite in float16" in the_line(folder, dtype="float16")


def test_a_model_that_reads_ahead_is_refused(tmp_path):
    folder = save_model(tmp_path, "bert", num_attention_heads=4)
    assert "BertLMHeadModel lets a token see those after it" in the_line(folder, ["query"])


def test_a_layer_whose_weight_is_read_without_calling_it_gets_no_adapter(tmp_path):
    folder = save_model(tmp_path, "mamba", state_size=4)
    line = the_line(folder, ["out_proj"])
    assert "lora.target_modules: Module 'out_proj' is incompatible with Mamba-based models" in line


def test_what_a_user_is_warned_of(folder):
    configured(auto_map={"AutoModelForCausalLM": "modeling.Llama"}, num_hidden_layers=1)(folder)
    unused, code = inspect(folder).warnings
    assert unused.startswith("9 tensors of the model's files are not used (model.layers.1.")
    assert code == "the folder's own code is not run; transformers' LlamaForCausalLM computes the model"
