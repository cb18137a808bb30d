"""Put our kernels into a loaded model, each only where it computes what the model's own layers do."""

import logging
from dataclasses import asdict, dataclass

import torch
import transformers

from hidden_rule.core.errors import SettingError
from hidden_rule.kernels import attention, shared_prefix
from hidden_rule.kernels.allocator import keep_freed_memory
from hidden_rule.kernels.compat_transformers import attention_can_be_set, attention_name
from hidden_rule.kernels.head import LogitForm, confirmed, declared_form, logit_form
from hidden_rule.kernels.last_layer import narrow_last_layer, widen_last_layer
from hidden_rule.kernels.mlp import fuse_mlps
from hidden_rule.kernels.native import library
from hidden_rule.kernels.norm import fuse_norms
from hidden_rule.kernels.probe import Probe, probe, short_windows
from hidden_rule.kernels.tree_attention import fuse_attentions
from hidden_rule.kernels.waiting import let_waits_follow_load

log = logging.getLogger(__name__)

PLAIN = "eager"  # transformers' attention as a family's own file writes it down


@dataclass(frozen=True)
class Kernels:
    """Which of our kernels a model has, and why it lacks others."""

    attention: str  # the name of the attention that it computes with
    attention_fault: str | None  # why that is not ours
    sharing_fault: str | None  # why rows do not share what they start with
    norms: int  # layers with our forward
    mlps: int
    attentions: int
    form: LogitForm  # of its logits
    narrow: bool = False  # whether its last layer computes where its states are read alone
    finite: bool = True  # whether its logits are, of a few tokens

    def record(self, network, device: torch.device) -> dict:
        """These as JSON values, with what they hold for."""
        return {**circumstances(network, device), **asdict(self)}

    @classmethod
    def recorded(cls, record: dict | None, network, device: torch.device) -> "Kernels | None":
        """Those of a `record`, or None where it was made of another type, kind of device or version of a library."""
        now = circumstances(network, device)
        if record is None or any(record.get(name) != value for name, value in now.items()):
            return None
        found = {name: value for name, value in record.items() if name not in now}
        return cls(**{**found, "form": LogitForm(**found["form"])})


def circumstances(network, device: torch.device) -> dict[str, str | bool]:
    """What decides, beside a model, which kernels are exact."""
    return {
        "device": device.type,
        "dtype": str(network.get_input_embeddings().weight.dtype).removeprefix("torch."),
        "compiled": device.type == "cpu" and library() is not None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def packed_logits(network, rows: list[list[int]]) -> list[torch.Tensor]:
    """Float32 logits (T, V) of each row, computed as a prefix tree."""
    states, paths = shared_prefix.run_packed(network, rows)
    logits = logit_form(network).of(network.get_output_embeddings()(states).float())
    return [logits[path] for path in paths]


def read_logits(network, rows: list[list[int]]) -> list[torch.Tensor]:
    """The same where states are read behind what rows start with alone; before that, as they are of all."""
    start = shared_prefix.common_prefix_length(rows)
    states, paths = shared_prefix.run_packed(network, rows, [start] * len(rows))
    logits = logit_form(network).of(network.get_output_embeddings()(states).float())
    every = packed_logits(network, rows)
    return [torch.cat([whole[:start], logits[path[start:]]]) for whole, path in zip(every, paths, strict=True)]


def whole_logits(network, rows: list[list[int]]) -> list[torch.Tensor]:
    """Float32 logits (T, V) of each row, computed row by row."""
    states = shared_prefix.run_whole(network, rows)
    logits = logit_form(network).of(network.get_output_embeddings()(states).float())
    return [logits[i, : len(row)] for i, row in enumerate(rows)]


def set_attention(network, name: str) -> None:
    """Let a model compute attention by a registered name; leaves it alone where its family has but its own."""
    if attention_can_be_set(network):
        network.set_attn_implementation(name)


def confirm_form(network, expected: Probe) -> None:
    """Keep the form of the model's logits: as its configuration declares it, or plain; raises UserError if neither."""
    faults = []
    for form in dict.fromkeys([declared_form(network.config.get_text_config()), LogitForm()]):
        confirmed[network] = form
        fault = expected.fault(lambda rows: whole_logits(network, rows))
        if fault is None:
            return
        faults.append(fault)
    fault = f"{type(network).__name__} makes its logits in a way of its own ({faults[0]})"
    raise SettingError("model.id", fault, "use a model whose output layer reads its last hidden states")


def confirm_layers(network, expected: Probe) -> None:
    """Raises UserError if a model with our norms and MLPs, but not our attention, does not compute what its own do."""
    if fault := expected.fault(lambda rows: whole_logits(network, rows)):
        fault = f"layers of {type(network).__name__} compute otherwise than ours of the same name ({fault})"
        raise SettingError("model.id", fault, "use a model of another family")


def first_exact(network, names: tuple[str, ...], expected: Probe) -> str | None:
    """Let a model compute attention by the first of `names` that is exact; why none is, else None."""
    fault = None
    for name in names:
        try:
            set_attention(network, name)
        except ValueError as error:  # of a family that transformers gives no fused attention
            fault = str(error).partition(".")[0]
            continue
        fault = expected.fault(lambda rows: whole_logits(network, rows))
        if fault is None:
            return None
    set_attention(network, PLAIN)
    return fault


def choose_attention(network, device: torch.device, expected: Probe) -> str | None:
    """Let a model compute attention by ours if that is exact; why not, else None."""
    if not attention_can_be_set(network):
        return "its layers look no attention up by name"
    names = (attention.GPU, attention.CPU) if device.type == "cuda" else (attention.CPU,)
    return first_exact(network, names, expected)


def narrows(network, expected: Probe) -> bool:
    """Let the last layer of a model compute where its states are read alone if that is exact; whether it is."""
    mlp = narrow_last_layer(network)
    if mlp is None:
        return False
    fault = expected.fault(lambda rows: read_logits(network, rows))
    if fault is not None:
        log.warning("%s: the last layer computes every token: %s", type(network).__name__, fault)
        widen_last_layer(network, mlp)
    return fault is None


def own_probe(network) -> Probe:
    """The probe of a model as transformers alone computes it; raises UserError where none of ours can train it."""
    name = type(network).__name__
    try:
        expected = probe(network)
    except Exception as error:  # whatever a model's own forward pass raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fault = f"the forward pass of {name} fails ({reason})"
        raise SettingError("model.id", fault, "use a causal language model") from error
    if expected.is_finite() and not expected.is_causal():
        fault = f"{name} lets a token see those after it: it is no causal language model"
        raise SettingError("model.id", fault, "use a model trained to continue text")
    return expected


@torch.no_grad()
def install_kernels(network, device: torch.device, record: dict | None = None) -> Kernels:
    """Let a causal model in evaluation mode compute the same faster; raises UserError where we cannot compute it.

    Attention that knows prefix trees, norms, MLPs, a last layer that computes what is read, memory that is kept, waits
    that follow the load; and a head that is given contiguous rows:
    `generate` projects (B, 1, H), a slice of (B, T, H), and of strided rows PyTorch would copy the head's whole weight
    once a row. Each is compared with the model's own computation first (`probe.py`), unless a `record` of an earlier
    comparison, `Kernels.record`, is given and holds here too.
    """
    if device.type == "cpu":
        keep_freed_memory()
        let_waits_follow_load()
    known = Kernels.recorded(record, network, device)
    if known is None:
        kernels = compare(network, device)
    else:
        kernels = known
        set_attention(network, known.attention)
        fuse(network)
        if known.narrow:
            narrow_last_layer(network)
    shared_prefix.probed_faults[network], confirmed[network] = kernels.sharing_fault, kernels.form
    if kernels.attention_fault:  # that prefixes are not shared is logged where they would be
        log.warning("%s: attention is transformers' own: %s", type(network).__name__, kernels.attention_fault)
    return kernels


def fuse(network) -> tuple[int, int, int]:
    """Give layers and the head of a model forwards of ours; returns how many norms, MLPs and attentions have them."""
    network.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(),))
    return fuse_norms(network), fuse_mlps(network), fuse_attentions(network)


def compare(network, device: torch.device) -> Kernels:
    """Give a model those of our kernels that compute what its own layers do."""
    config = network.config.get_text_config()
    with short_windows(config):
        set_attention(network, PLAIN)
        expected = own_probe(network)
        if not expected.is_finite():  # nothing can be compared; the first number that is used stops the job
            set_attention(network, attention.CPU)
            return Kernels(attention.CPU, None, None, *fuse(network), logit_form(network), finite=False)
        confirm_form(network, expected)  # while no layer is ours: what differs is the form, not a rounding
        fused = fuse(network)
        attention_fault = choose_attention(network, device, expected)
        if attention_fault is not None:
            confirm_layers(network, expected)
        sharing_fault = shared_prefix.declared_fault(config)
        if sharing_fault is None:
            sharing_fault = expected.fault(lambda rows: packed_logits(network, rows))
        narrow = sharing_fault is None and narrows(network, expected)
    return Kernels(attention_name(config), attention_fault, sharing_fault, *fused, logit_form(network), narrow)
