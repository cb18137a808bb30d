"""What is used of transformers beyond its documented interface; written for 5.23 (and gguf 0.19).

- `sdpa_attention_forward`, `eager_mask`, `sdpa_mask`: the functions behind the attentions `sdpa` and `eager`, which
  `kernels/attention.py` calls where no prefix tree is given. `AttentionInterface` and `AttentionMaskInterface`, with
  which it registers itself, are documented. To be removed when a registered attention can name the one to fall back on.
- `config._attn_implementation`: which attention a model uses. To be removed when it has a public name.
- `PreTrainedModel._can_set_attn_implementation`: whether a family looks its attention up by name. To be removed when
  `set_attn_implementation` raises an error instead of a warning where it does not.
- `MODEL_FOR_CAUSAL_LM_MAPPING_NAMES`: which class a type of model is loaded as. To be removed when an Auto class tells.
- `gguf.GGUFReader`, `gguf.get_tensor_name_map`: transformers' loader calls both again and again with the same
  arguments. To be removed when it reads a GGUF file once.
- `transformers.activations.SiLUActivation`: to be removed when transformers uses PyTorch's own for `silu`.
- Names of layer classes, `NORMS` in `kernels/norm.py` and `MLPS` in `kernels/mlp.py`: a name that a version does not
  have is no error; such a layer keeps its own forward.
"""

import contextlib
import functools

from hidden_rule.core.versions import check_version

check_version("transformers")

from torch.nn import SiLU  # noqa: E402
from transformers import CONFIG_MAPPING, AttentionInterface, AttentionMaskInterface  # noqa: E402
from transformers.activations import SiLUActivation  # noqa: E402
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # noqa: E402
from transformers.masking_utils import eager_mask, sdpa_mask  # noqa: E402
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # noqa: E402

__all__ = [
    "attention_can_be_set",
    "attention_name",
    "causal_class",
    "class_of",
    "gguf_read_once",
    "is_model_type",
    "is_silu",
    "register_attention",
    "sdpa_attention_forward",
]

MASKS = {"eager": eager_mask, "sdpa": sdpa_mask}


def register_attention(name: str, attention, mask: str) -> None:
    """Let models find `attention` by `name`; masks are made as `mask` (eager | sdpa) makes them."""
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, MASKS[mask])


def attention_name(config) -> str:
    """The name of the attention that a model of this text configuration uses."""
    return config._attn_implementation


def attention_can_be_set(network) -> bool:
    """Whether a model's family looks its attention up by the name that its configuration has."""
    return bool(network._can_set_attn_implementation())


def is_model_type(name: str) -> bool:
    """Whether transformers has a configuration of this `model_type`."""
    return name in CONFIG_MAPPING


def causal_class(model_type: str) -> str | None:
    """The name of the class that a type of model is loaded as by `AutoModelForCausalLM`, or None."""
    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)


def class_of(layer) -> str | None:
    """The name of a layer's class if transformers defines it among its models, else None."""
    kind = type(layer)
    return kind.__name__ if kind.__module__.startswith("transformers.models.") else None


def is_silu(activation) -> bool:
    """Whether a layer's activation is SiLU, x · sigmoid(x)."""
    return type(activation) in (SiLU, SiLUActivation)


@contextlib.contextmanager
def gguf_read_once():
    """Within it a GGUF file is read once, where transformers does so for config, weights and tokenizer each.

    And the table of tensor names, which transformers builds anew for every module of the network. The embedded model is
    ready after 7 s instead of 29 s; every installation, test session and CI run prepares it. Both are functions of
    their arguments, so that nothing but the time changes; they are put back at the end.
    """
    check_version("gguf")
    import gguf  # of all jobs this one alone needs it

    plain = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in plain.items():
        setattr(gguf, name, functools.cache(function))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(gguf, name, function)
