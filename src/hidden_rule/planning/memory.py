"""Peak memory of a job, from the model's shape and the settings.

    weights       bytes of a number × weights; shared out among processes by fsdp and deepspeed_zero3
    adapter       16 bytes a weight of LoRA: it, its gradient and two moments of Adam in float32 (Rajbhandari et al.
                  2020, arXiv 1910.02054, section 3.1)
    activations   with gradients: bytes · (8 · width + 4 · MLP's width) a position and layer, what a gated decoder layer
                  keeps without dropout under fused attention (after Korthikanti et al. 2022, arXiv 2205.05198, section
                  4.1); under gradient checkpointing bytes · width, and one layer's whole
    states        bytes · width a position, of rows that layers below the first adapted one compute once, up to 1 GiB
    logits        10 bytes a scored token and word of the vocabulary
    generation    2 · bytes · keys a position and layer, of the rows that are generated at a time: each holds its prompt
                  and its reply, and 10 bytes a word of the vocabulary for its next token

The published peaks of the 14B shape on a GPU (results/published/gpu.json) are met within 5%. On a CPU the files' pages
may be resident beside the tensors, and libraries take some 0.7 GB.
"""

from dataclasses import dataclass

from hidden_rule.planning.machine import Machine
from hidden_rule.planning.prompt_sizes import PromptSizes
from hidden_rule.planning.weights import Shape
from hidden_rule.planning.workload import Kind

LORA_BYTES = 16
KEPT_WIDTHS, KEPT_WIDE = 8, 4  # numbers that a layer keeps of a position, in widths of the model and of its MLP
LOGIT_BYTES = 10  # in the model's type, and in float32 twice
VALID_REPLIES = 4  # of a closed set there are few different ones to a prompt
MOST_KEPT = 2**30  # bytes of states of frozen layers: kernels.frozen_layers.MOST_BYTES
CPU_LIBRARIES = 0.7e9
CUDA_CONTEXT = 0.6e9  # CUDA's own and its libraries', which no count of tensors holds
FRAGMENTS = 1.05  # what the allocator holds beyond the tensors


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of one process at its peak, by what they are for."""

    weights: float
    adapter: float
    activations: float
    beside: float  # libraries; on a CPU the pages of the files too

    @property
    def least(self) -> float:
        """What nothing can be done without."""
        return self.weights + self.adapter

    @property
    def total(self) -> float:
        return self.weights + self.adapter + self.activations + self.beside


@dataclass(frozen=True)
class Model:
    """How a model is used: its shape, the adapter's weights, bytes of a number, processes that share the weights.

    trained: share of the layers from the first adapted one on; below it nothing has gradients.
    """

    shape: Shape
    lora: int
    itemsize: int
    sharing: int = 1
    trained: float = 1.0

    @property
    def weights(self) -> float:
        return self.shape.parameters * self.itemsize / self.sharing


def itemsize(dtype: str, machine: Machine) -> int:
    """Bytes of a number of the weights: `auto` is bfloat16 where the device computes in it, else float32."""
    wide = dtype == "float32" or (dtype == "auto" and not machine.computes_bfloat16)
    return 4 if wide else 2


def activations(model: Model, positions: float, scored: float, checkpointing: bool) -> float:
    """Bytes that a forward pass with gradients keeps; `scored`: tokens whose distribution is computed."""
    shape = model.shape
    layer = model.itemsize * (KEPT_WIDTHS * shape.width + KEPT_WIDE * shape.wide)
    layers = shape.layers * model.trained
    kept = model.itemsize * shape.width * layers + layer if checkpointing else layer * layers
    return positions * kept + scored * shape.vocabulary * LOGIT_BYTES


def kept_states(model: Model, sizes: PromptSizes, rows: int, replies: int) -> float:
    """Bytes of the states that layers below the first adapted one made of `rows` prompts, with `replies` to each."""
    if not rows or model.trained == 1:
        return 0.0
    size = sizes.positions(rows, replies) * model.shape.width * model.itemsize
    return size if size <= MOST_KEPT else 0.0


def generation(model: Model, rows: float, sizes: PromptSizes, new: float) -> float:
    """Bytes that are kept while replies of up to `new` tokens are generated to `rows` prompts at a time."""
    keys_and_values = 2 * model.itemsize * model.shape.keys * model.shape.layers
    return rows * (keys_and_values * (sizes.whole + new) + model.shape.vocabulary * LOGIT_BYTES)


def of_training(
    model: Model, kind: Kind, sizes: PromptSizes, free: bool, machine: Machine, kept_rows: int = 0
) -> MemoryNeed:
    """The need of one process of a training.

    `free`: it explores by free decoding; kept_rows: of which states of frozen layers are kept.
    """
    of = kind.settings
    micro, replies = of["micro_batch_size"], max(1, kind.replies)
    reply = of["max_new_tokens"] if free and kind.replies else sizes.reply
    own = replies if free and kind.replies else min(replies, VALID_REPLIES)
    positions = sizes.positions(micro, own, reply)
    kept = activations(model, positions, micro * own * reply, of["gradient_checkpointing"])
    if free and kind.replies:
        kept = max(kept, generation(model, of["batch_size"] * replies, sizes, reply))  # a step's, at once
    kept += kept_states(model, sizes, kept_rows, VALID_REPLIES)
    return _need(model, model.lora * LORA_BYTES, kept, machine)


def of_evaluation(model: Model, evaluation: dict, sizes: PromptSizes, machine: Machine) -> MemoryNeed:
    """The need of an evaluation, whose batches are computed without gradients; `evaluation`: the config's."""
    batch, shape = evaluation["batch_size"], model.shape
    layer = model.itemsize * (KEPT_WIDTHS * shape.width + KEPT_WIDE * shape.wide)
    kept = sizes.positions(batch) * layer + batch * shape.vocabulary * LOGIT_BYTES
    if evaluation["free"]:
        kept += generation(model, batch, sizes, evaluation["max_new_tokens"])
    return _need(model, model.lora * 4, kept, machine)


def _need(model: Model, adapter: float, kept: float, machine: Machine) -> MemoryNeed:
    if machine.gpus:
        return MemoryNeed(model.weights, adapter, kept, CUDA_CONTEXT + (FRAGMENTS - 1) * (model.weights + kept))
    return MemoryNeed(model.weights, adapter, kept, CPU_LIBRARIES + model.shape.bytes)
