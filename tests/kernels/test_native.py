"""Compiled functions compute what PyTorch's operators do; layers that use them compute what they computed before."""

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, Qwen2Config
from transformers.models.llama.modeling_llama import LlamaForCausalLM
from transformers.models.mistral.modeling_mistral import MistralForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM

from hidden_rule.core import sources
from hidden_rule.kernels import native
from hidden_rule.kernels.install import install_kernels
from hidden_rule.kernels.mlp import gate_gradients, gate_product
from hidden_rule.kernels.norm import RMSNormFunction
from hidden_rule.kernels.shared_prefix import run_packed
from hidden_rule.kernels.tree_attention import ATTENTIONS, fuse_attentions

DTYPES = [torch.float32, torch.bfloat16]
SIZES = {
    "vocab_size": 60, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
MODELS = {
    "LlamaAttention": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "MistralAttention": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=6)),
    "Qwen2Attention": (Qwen2ForCausalLM, Qwen2Config(**SIZES)),
}
# shared starts of several lengths; a row alone; the longest is over the vectors' width
ROWS = [[1, 2, 3, 4, 5], [1, 2, 3, 9], [1, 2, 3, 9, 10, 11], [7], [1, *range(20, 58)]]


@pytest.fixture
def plain(monkeypatch):
    """A function that runs another without compiled functions."""

    def run(compute):
        with monkeypatch.context() as patched:
            patched.setattr(native, "takes", lambda *tensors: False)
            return compute()

    return run


def drawn(*shape, dtype=torch.float32, scale=3.0) -> torch.Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))).to(dtype)


def assert_same(found, expected):
    """Equal up to the order of sums: of float32 six digits, of bfloat16 one unit in the last place."""
    tolerance = 2e-6 if expected.dtype == torch.float32 else 8e-3
    scale = float(expected.float().nan_to_num().abs().max())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def test_this_machine_compiles():
    """Without this every other test here would compare PyTorch with itself."""
    assert native.library() is not None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [3, 24, 577])  # below, at and beyond a register's numbers
def test_norms(plain, dtype, width):
    x, weight, grad = (drawn(*shape, dtype=dtype) for shape in ((5, 3, width), (width,), (5, 3, width)))

    def compute():
        given = x.clone().requires_grad_()
        output = RMSNormFunction.apply(given, weight, 1e-5)
        return output.detach(), torch.autograd.grad(output, given, grad)[0]

    for found, expected in zip(compute(), plain(compute), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gates(plain, dtype):
    """Also where the exponential would overflow, and where a number is none."""
    gated = drawn(40, 500, dtype=dtype, scale=30.0)
    gated[0, :5] = torch.tensor([float("nan"), 300.0, -300.0, 0.0, -0.0])
    raised, inner = drawn(40, 500, dtype=dtype), drawn(500, 40, dtype=dtype).T.contiguous()

    def compute():
        return gate_product(gated, raised), *gate_gradients(gated, raised, inner.clone())

    for found, expected in zip(compute(), plain(compute), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(ATTENTIONS))
def test_attention_over_a_tree(plain, name, dtype):
    """Hidden states, and the gradients of projections' weights: of a window too (Mistral), and of biases (Qwen)."""
    kind, config = MODELS[name]
    torch.manual_seed(0)
    network = kind(config).to(dtype).eval()
    for layer in network.model.layers:
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            torch.nn.init.normal_(getattr(layer.self_attn, part).weight, std=0.3)
    assert install_kernels(network, torch.device("cpu")).attentions == config.num_hidden_layers
    # the gradient of the keys' bias is zero: softmax does not see what all its scores have in common
    weights = [p for n, p in network.named_parameters() if "self_attn" in n and "k_proj.bias" not in n]

    def compute():
        states, _ = run_packed(network, ROWS)
        return states.detach(), *torch.autograd.grad((states.float() * drawn(*states.shape)).mean(), weights)

    for found, expected in zip(compute(), plain(compute), strict=True):
        scale = float(expected.float().abs().max())
        tolerance = 2e-5 if dtype == torch.float32 else 6e-2  # bfloat16 rounds after each of three layers
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * scale)


def test_a_class_of_the_same_name_from_elsewhere_keeps_its_own_attention():
    class LlamaAttention(torch.nn.Module):
        pass

    assert fuse_attentions(LlamaAttention()) == 0


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_pytorch_computes_all_of_it(monkeypatch, tmp_path, compiler):
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    try:
        assert native.library() is None
        assert not native.takes(torch.ones(3))
    finally:
        native.library.cache_clear()


def test_other_types_and_devices_are_left_to_pytorch():
    assert native.takes(torch.ones(3)) and native.takes(*(torch.ones(3, dtype=torch.bfloat16) for _ in range(2)))
    assert not native.takes(torch.ones(3, dtype=torch.float16))
    assert not native.takes(torch.ones(3), torch.ones(3, dtype=torch.bfloat16))
    assert not native.takes(torch.ones(3, device="meta"))


def test_an_edit_of_the_compiled_code_reruns_what_uses_it():
    files = [path.name for path in sources._compiled("hidden_rule.kernels.native")]
    assert files == ["layers.c", "layers.h"]
