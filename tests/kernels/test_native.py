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
from hidden_rule.kernels.shared_prefix import pack, run_packed
from hidden_rule.kernels.tree_attention import (
    ATTENTIONS,
    MOST_KEYS,
    FusedAttentionFunction,
    TreeAttentionFunction,
    function_for,
    fuse_attentions,
)

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


FUSED = pytest.mark.skipif(not native.has("attend", torch.bfloat16), reason="a processor without bfloat16 products")


def drawn_attention(rows, heads: int, groups: int, width: int, only_read: bool):
    """Queries, keys and values in bfloat16, angles, the plan of a tree, a gradient, and how many queries are real."""
    ids, tree, paths = pack(rows, "cpu")
    if only_read:
        tree.read = torch.tensor(sorted({place for path in paths for place in path[-2:]}))
    plan = tree.plan_of_read if only_read else tree.plan
    real, n = int(plan.counts.sum()), len(tree.read) if only_read else len(ids)
    shapes = [(n, heads, width), (len(ids), groups, width), (len(ids) + 1, groups, width)]
    query, key, value = (drawn(*shape, dtype=torch.bfloat16, scale=1.0) for shape in shapes)
    angles = [drawn(rows, width, dtype=torch.bfloat16, scale=1.0) for rows in (n, n, len(ids), len(ids))]
    grad = drawn(n, heads, width, dtype=torch.bfloat16, scale=1.0)
    grad[real:] = 0
    return (query, key, value[1:].contiguous()), angles, plan, grad, real


@FUSED
@pytest.mark.parametrize(
    ("rows", "heads", "groups", "width", "window", "only_read"),
    [
        (ROWS, 6, 2, 32, None, False),
        (ROWS, 4, 4, 96, 6, False),  # a window; three registers a row
        (ROWS, 9, 3, 64, None, True),  # of a last layer
        ([[5]], 2, 1, 32, None, False),  # one token
        ([[*range(40)], [*range(30), 7]], 2, 2, 128, None, False),  # an odd number of queries, more than one tile
        ([[1, *range(300)], [1, *range(2, 9)]], 2, 1, 32, None, False),  # keys beyond one row of tiles
    ],
)
def test_compiled_attention_is_nearer_to_the_truth_than_bfloat16_products(
    rows, heads, groups, width, window, only_read
):
    """Outputs and gradients beside float32's: with scores and weights rounded by each operator they err more."""
    states, angles, plan, grad, real = drawn_attention(rows, heads, groups, width, only_read)

    def compute(function, dtype):
        given = [state.to(dtype).requires_grad_() for state in states]
        output = function.apply(*given, tuple(part.to(dtype) for part in angles), plan, width**-0.5, window)
        return output[:real].detach().float(), *torch.autograd.grad(output, given, grad.to(dtype))

    truth = compute(TreeAttentionFunction, torch.float32)
    products = compute(TreeAttentionFunction, torch.bfloat16)
    for found, plain_found, expected in zip(
        compute(FusedAttentionFunction, torch.bfloat16), products, truth, strict=True
    ):
        error, plain_error = ((part.float() - expected).norm() for part in (found, plain_found))
        assert error <= 1.05 * plain_error + 1e-3 * expected.norm() + 1e-4  # one token alone: the gradient is zero


@FUSED
@pytest.mark.parametrize("dtype", DTYPES)  # float32: PyTorch's products
def test_tokens_that_fill_a_tree_up_repeat_the_last_one(dtype):
    """What is kept of a tree is compared as a whole with what the model makes of it (`frozen_layers.py`)."""
    states, angles, plan, _, real = drawn_attention([[1, 2, 3], [1, 4]], 2, 1, 32, False)
    given, angles = ([part.to(dtype) for part in parts] for parts in (states, angles))
    output = function_for(given, plan).apply(*given, tuple(angles), plan, 0.2, None)
    assert real == 4 and len(output) == 8
    assert all(torch.equal(row, output[real - 1]) for row in output[real:])


@FUSED
def test_compiled_attention_has_the_same_bits_for_any_number_of_threads():
    states, angles, plan, grad, _ = drawn_attention(ROWS, 6, 2, 32, False)

    def compute():
        given = [state.clone().requires_grad_() for state in states]
        output = FusedAttentionFunction.apply(*given, tuple(angles), plan, 0.2, None)
        return output.detach(), *torch.autograd.grad(output, given, grad)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = compute()
        torch.set_num_threads(3)
        assert all(torch.equal(found, expected) for found, expected in zip(compute(), one, strict=True))
    finally:
        torch.set_num_threads(threads)


@FUSED
def test_compiled_attention_computes_what_it_was_made_for():
    """Not other types, not heads whose pairs fill no register, not paths whose keys fill no cache."""
    plan = pack([[1, 2]], "cpu")[1].plan
    long = pack([[*range(MOST_KEYS + 8)]], "cpu")[1].plan
    states = {width: [torch.zeros(8, 2, width, dtype=torch.bfloat16)] for width in (32, 48)}
    assert function_for(states[32], plan) is FusedAttentionFunction
    assert function_for(states[48], plan) is function_for(states[32], long) is TreeAttentionFunction
    assert function_for([states[32][0].float()], plan) is TreeAttentionFunction


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
    assert files == ["attention.h", "layers.c", "layers.h"]
