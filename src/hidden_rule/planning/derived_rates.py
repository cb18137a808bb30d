"""Rates of a machine that is not here, from operations and the share of the peak that was measured on a GPU.

Operations are those of core/flops.py. `SHARES` are shares of the measured peak of a matrix product, of steps of a model
of Qwen3-14B's shape on one H200 (results/published/gpu.json); the peak there was 0.77 of the data sheet's. Generation
token by token waits for Python rather than for the GPU: each layer took 1.7 ms a token step, whatever the batch.
Another GPU, a smaller model or another batch may be off by a factor of two, which is the range.
"""

import math
from dataclasses import dataclass

from hidden_rule.core.flops import Counts, flops
from hidden_rule.planning.machine import Machine
from hidden_rule.planning.memory import Model
from hidden_rule.planning.prompt_sizes import PromptSizes
from hidden_rule.planning.rates import Rates, Span
from hidden_rule.planning.workload import Kind

PEAK_OF_DATA_SHEET = 0.77
SHARES = {  # of the measured peak: (with gradient checkpointing, without)
    "rows": (0.15, 0.20),  # SFT: all rows of a micro-batch at a time
    "groups": (0.06, 0.04),  # structured GRPO: two prompts at a time
    "free": (0.12, 0.10),  # the update of free GRPO, after its completions are generated
}
EVALUATION_SHARE = 0.15
LAYER_S = 1.7e-3  # of one layer for one new token of a whole batch
CPU_TFLOPS = 0.15  # of one core in bfloat16, half of it in float32: the default experiment's SFT on two cores
READ_BYTES_S = 1e9  # of the weights' files, in each job
LIBRARIES_S = 12.0  # of a job, until torch and the others are imported and CUDA is up
FACTOR = 2.0
ENGINE_FACTOR = 3.0  # what verl's and OpenRLHF's processes take beside, for a step


@dataclass(frozen=True)
class Planned:
    """What rates are derived for."""

    model: Model
    sizes: PromptSizes
    machine: Machine
    free: bool  # RL explores by free decoding
    processes: int = 1

    @property
    def peak(self) -> float:
        """Operations a second of the device's matrix products."""
        if self.machine.gpus:
            tflops = self.machine.gpus[0].tflops or 100.0
            return tflops * 1e12 * PEAK_OF_DATA_SHEET
        return CPU_TFLOPS * 1e12 * self.machine.cores * (1.0 if self.model.itemsize == 2 else 0.5)

    @property
    def origin(self) -> str:
        """What the times follow from, in words."""
        if self.machine.gpus:
            return "operations, and shares of the peak as measured on one H200 (docs/gpus.md)"
        return f"operations, at {CPU_TFLOPS:g} TFLOP/s a core in bfloat16"

    def seconds(self, counts: Counts, share: float, checkpointing: bool = False) -> float:
        """Of a computation, by its operations; a CPU computes at its peak."""
        shape, share = self.model.shape, share if self.machine.gpus else 1.0
        return flops(counts, shape.body, self.model.lora, shape.head, checkpointing) / (share * self.peak)


def derived_rates(planned: Planned, kinds: list[Kind], prompts: list[str], evaluation: dict) -> Rates:
    """The rates of a machine; `evaluation`: the config's section, of an experiment with these kinds and prompts."""
    row = _row_seconds(planned, evaluation["batch_size"])
    generated = row + _generation_seconds(planned, evaluation["batch_size"], evaluation["max_new_tokens"])
    load = LIBRARIES_S + planned.model.shape.bytes / READ_BYTES_S
    return Rates(
        load=Span.factor(load, FACTOR),
        write=Span.factor(2.0, FACTOR),
        step={kind.name: Span.factor(step_seconds(planned, kind), FACTOR) for kind in kinds},
        validated={
            kind.name: Span.factor(_row_seconds(planned, 4 * kind.settings["micro_batch_size"]), FACTOR)
            for kind in kinds
        },
        structured={prompt: Span.factor(row * _longer(prompt), FACTOR) for prompt in prompts},
        free={prompt: Span.factor(generated * _longer(prompt), FACTOR) for prompt in prompts},
        origin=f"{planned.origin}; range: a factor of {FACTOR:g} to either side",
        measured=False,
        kept=Span.factor(row * (1 - planned.model.trained), FACTOR),
    )


def step_seconds(planned: Planned, kind: Kind) -> float:
    """Of one optimizer step."""
    of, sizes = kind.settings, planned.sizes
    checkpointing, replies = of["gradient_checkpointing"], max(1, kind.replies)
    micro = min(of["micro_batch_size"], max(1, of["batch_size"] // planned.processes))
    passes = of["batch_size"] / micro / planned.processes
    generates = planned.free and kind.replies and "rounds" not in of and not kind.preference_errors
    if generates:
        reply, own, share = of["max_new_tokens"], replies, SHARES["free"]
    elif kind.replies:
        reply, own, share = sizes.reply, min(replies, 4), SHARES["groups"]
    else:
        reply, own, share = sizes.reply, 4 if kind.method == "dpo" else 1, SHARES["rows"]
    positions = sizes.positions(micro, own, reply) * passes
    scored = micro * own * reply * passes
    trained = planned.model.trained  # what is below has no gradients, and of known rows was computed before
    computed = 1.0 if generates else trained
    counts = Counts(round(positions * computed), round(positions * trained), round(scored), round(scored))
    seconds = planned.seconds(counts, share[not checkpointing], checkpointing) * of.get("updates", 1)
    if generates:
        seconds += _call_seconds(planned, of["batch_size"] * replies / planned.processes) * reply
    return seconds * (1.0 if kind.engine == "trl" else ENGINE_FACTOR)


def _row_seconds(planned: Planned, batch: int) -> float:
    """Of one row, scored without gradients in batches."""
    positions = planned.sizes.positions(batch)
    return planned.seconds(Counts(round(positions), 0, batch * 4, 0), EVALUATION_SHARE) / batch


def _generation_seconds(planned: Planned, batch: int, new: int) -> float:
    """Of one row, to which `new` tokens are generated in batches."""
    return _call_seconds(planned, batch) * new / batch


def _call_seconds(planned: Planned, rows: float) -> float:
    """Of one more token for each of `rows` replies."""
    computed = planned.seconds(Counts(math.ceil(rows), 0, math.ceil(rows), 0), EVALUATION_SHARE)
    return max(computed, LAYER_S * planned.model.shape.layers) if planned.machine.gpus else computed


def _longer(prompt: str) -> float:
    """How many times as long a prompt that says more takes: that of the oracle, or one with examples."""
    return 1.0 if prompt == "null" else 1.5 if "examples" not in prompt else 3.0
