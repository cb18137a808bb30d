"""What the layers below every adapter make of the evaluated cases: computed once, for all conditions and seeds.

Adapters in a model's last layers alone (`lora.last_layers`) leave the states that enter the first of these as they are,
whatever was trained. Evaluations take them from a safetensors file and begin there (`kernels/frozen_layers.py`); where
they cannot, they compute every layer, and say so.
"""

import logging

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import whole
from hidden_rule.core.seals import seal_holds, seal_safetensors
from hidden_rule.evaluation.jobs import StatesJob
from hidden_rule.evaluation.predictions import named_frames
from hidden_rule.kernels import shared_prefix
from hidden_rule.kernels.frozen_layers import keep_frozen_states, take_states
from hidden_rule.models.adapters import add_adapter
from hidden_rule.models.context import Blame, check_context
from hidden_rule.models.control_tokens import check_ruleset
from hidden_rule.models.files import AGAIN, check_safetensors
from hidden_rule.models.finite import naming_run
from hidden_rule.models.hardware import default_device
from hidden_rule.models.loading import load_model, load_tokenizer
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset

log = logging.getLogger(__name__)

LAYERS = "layers"  # below every adapter: among the file's metadata
SMALLEST = {"r": 1, "alpha": 1, "dropout": 0.0}  # an adapter that is only there to show where one begins


@naming_run
def keep_states(job: StatesJob) -> None:
    """Write the states of a job's cases, with the replies that evaluations compute; none where none are kept."""
    ruleset = load_ruleset(job.ruleset)
    tokenizer = load_tokenizer(job.base.manifest, job.base.chat_template_kwargs)
    check_ruleset(tokenizer, job.ruleset, ruleset)
    trie, prompts = label_trie(tokenizer, ruleset.labels), []
    for _, _, cases in named_frames(job.splits, ruleset):
        prompts += encode_prompts(tokenizer, render_prompts(ruleset, cases), job.base.chat_template_kwargs)
    base = load_model(job.base.manifest, job.base.dtype, default_device())
    check_context(base.config, prompts, max(map(len, trie.replies)), Blame.ruleset(job.ruleset))
    model = add_adapter(base, {**job.lora, **SMALLEST}).get_base_model()
    tensors, n = {"states": torch.empty(0, 1)}, 0
    if keep_frozen_states(model, [[*prompt, *path] for prompt in prompts for path in trie.paths]):
        frozen = shared_prefix.frozen_parts[shared_prefix.body(model)]
        tensors, n = frozen.tensors(), frozen.n
    with whole(job.output) as temporary:
        save_file(tensors, temporary, metadata={LAYERS: str(n)})
        seal_safetensors(temporary)


def use_states(model, path) -> bool:
    """Let a causal model begin with the states of a file; returns whether it does. Raises UserError if it is damaged.

    `path`: as `keep_states` wrote it.
    """
    check_safetensors(path)
    if not seal_holds(path):
        raise UserError(path, None, "was altered since it was written", AGAIN)
    with safe_open(path, framework="pt") as file:
        n, tensors = int(file.metadata()[LAYERS]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    fault = take_states(model, n, tensors)
    if fault is not None:
        log.warning("every layer is computed: states of those below the adapters are not taken, for %s", fault)
    return fault is None
