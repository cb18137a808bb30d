"""What the layers below every adapter make of cases: computed once, for all conditions and seeds.

Adapters in a model's last layers alone (`lora.last_layers`) leave the states that enter the first of these as they are,
whatever was trained. Trainings and evaluations take them from a safetensors file and begin there
(`kernels/frozen_layers.py`); where they cannot, they compute every layer, and say so. A training that takes its share
counts that as its own work, so that its cost is what it would be alone.
"""

import json
import logging
from dataclasses import asdict, dataclass, replace

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import whole
from hidden_rule.core.laps import KEPT, Lap
from hidden_rule.core.seals import seal_holds, seal_safetensors
from hidden_rule.kernels import shared_prefix
from hidden_rule.kernels.frozen_layers import keep_frozen_states, take_states
from hidden_rule.kernels.meter import Meter, lap
from hidden_rule.models.adapters import add_adapter
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.files import AGAIN, check_safetensors
from hidden_rule.models.finite import naming_run
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.models.states_job import StatesJob
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.task.dataset import named_frames
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset

log = logging.getLogger(__name__)

SMALLEST = {"r": 1, "alpha": 1, "dropout": 0.0}  # an adapter that is only there to show where one begins
LAYERS, LAP, THREADS = "layers", "lap", "threads"  # among the file's metadata


@dataclass(frozen=True)
class KeptStates:
    """Of the first `n_layers`: `tensors` as `FrozenLayers.tensors` gives them, and the `lap` in which they were made.

    Of no rows, and without a lap, where nothing could be kept. `threads`: CPU threads that made them.
    """

    n_layers: int
    tensors: dict[str, torch.Tensor]
    lap: Lap | None
    threads: int = 1

    def write(self, path) -> None:
        """Write the file, whole and sealed."""
        lap = "" if self.lap is None else json.dumps(asdict(self.lap))
        with whole(path) as temporary:
            metadata = {LAYERS: str(self.n_layers), LAP: lap, THREADS: str(self.threads)}
            save_file(self.tensors, temporary, metadata=metadata)
            seal_safetensors(temporary)

    @classmethod
    def read(cls, path) -> "KeptStates":
        """What a file holds. Raises UserError if it is damaged."""
        check_safetensors(path)
        if not seal_holds(path):
            raise UserError(path, None, "was altered since it was written", AGAIN)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        lap, threads = metadata.get(LAP), int(metadata.get(THREADS, 1))
        return cls(int(metadata[LAYERS]), tensors, Lap(**json.loads(lap)) if lap else None, threads)

    def lap_of(self, share: float, threads: int) -> Lap | None:
        """What a share of the states takes: on a CPU so many threads, each as long as those that made them."""
        if self.lap is None:
            return None
        longer = self.threads / threads if default_device().type == "cpu" else 1.0
        part = self.lap.part(share)
        return replace(part, seconds=longer * part.seconds)


NO_STATES = KeptStates(0, {"states": torch.empty(0, 1)}, None)


@naming_run
def keep_states(job: StatesJob) -> None:
    """Write the states of a job's cases, with the replies that are computed to them; none where none are kept."""
    ruleset = load_ruleset(job.ruleset)
    tokenizer = load_tokenizer(job.base.manifest, job.base.chat_template_kwargs)
    check_ruleset(tokenizer, job.ruleset, ruleset)
    trie, prompts, rows = label_trie(tokenizer, ruleset.labels), [], []
    for name, _, cases in named_frames(job.splits, ruleset):
        asked = encode_prompts(tokenizer, render_prompts(ruleset, cases), job.base.chat_template_kwargs)
        tails = trie.stems if name in job.whole else trie.paths
        rows += [[*prompt, *tail] for prompt in asked for tail in tails]
        prompts += asked
    base = load_model(job.base.manifest, job.base.dtype, default_device())
    check_context(base.config, prompts, max(map(len, trie.replies)), Blame.ruleset(job.ruleset))
    adapted = add_adapter(base, {**job.lora, **SMALLEST})
    meter, model, kept = Meter(adapted), adapted.get_base_model(), NO_STATES
    with lap(model, KEPT):
        is_kept = keep_frozen_states(model, rows)
    if is_kept:
        frozen = shared_prefix.frozen_parts[shared_prefix.body(model)]
        kept = KeptStates(frozen.n, frozen.tensors(), meter.laps.laps[-1], torch.get_num_threads())
    kept.write(job.output)


def use_states(model, path) -> bool:
    """Let a causal model begin with the states of a file; returns whether it does. Raises UserError if it is damaged.

    `path`: as `keep_states` wrote it.
    """
    kept = KeptStates.read(path)
    fault = take_states(model, kept.n_layers, kept.tensors)
    if fault is not None:
        log.warning("every layer is computed: states of those below the adapters are not taken, for %s", fault)
    return fault is None
