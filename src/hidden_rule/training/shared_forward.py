"""The shared-prefix computation behind the call that trainers make."""

import functools
import logging
import types
from collections.abc import Iterable, Iterator, Sequence

import torch

from hidden_rule.core import processes
from hidden_rule.core.laps import KEPT
from hidden_rule.kernels import shared_prefix
from hidden_rule.kernels.frozen_layers import keep_frozen_states, take_states
from hidden_rule.kernels.meter import lap, meters
from hidden_rule.kernels.shared_prefix import score_tokens, scored_states
from hidden_rule.models.kept_states import KeptStates
from hidden_rule.training.compat_trl import FusedCausalLMOutput
from hidden_rule.training.start import Start

log = logging.getLogger(__name__)


def add_shared_prefix_forward(model, temperature: float = 1.0, entropy_gradient: bool = False) -> None:
    """Put the shared-prefix computation behind the call that TRL's trainers make.

    After it, `model(input_ids, attention_mask, labels, fused_lm_head=True)` returns TRL's `FusedCausalLMOutput` with
    `log_probs`, `entropy`, `is_top1` and `label_mask`, each (B, T-1) as `trl.trainer.utils.add_fused_lm_head` gives
    them, at `temperature`; the entropy has a gradient if asked for. `model(label_trie=trie, prompts=rows)` returns the
    trie's branch log-probabilities (B, K), at temperature `at` if given: wrappers (DDP, FSDP, autocast) see that call
    too. Every other call is the model's.
    """
    plain_forward = model.forward

    @functools.wraps(type(model).forward)  # `generate` looks at the signature
    def forward(self, *args, fused_lm_head=False, label_trie=None, prompts=None, at=temperature, **kwargs):
        if label_trie is not None:
            return label_trie.branch_log_probs(self, prompts, at)
        if not fused_lm_head:
            return plain_forward(*args, **kwargs)
        ids, labels = kwargs["input_ids"], kwargs["labels"]
        mask = kwargs.get("attention_mask")
        hidden, scored = scored_states(self, ids, torch.ones_like(ids) if mask is None else mask, labels)
        chosen = labels[:, 1:][scored]
        log_prob, entropy, is_top1 = score_tokens(self, hidden, chosen, temperature, entropy_gradient)
        zeros = log_prob.new_zeros(scored.shape)
        return FusedCausalLMOutput(
            loss=-log_prob.sum() / scored.sum().clamp(min=1),
            log_probs=zeros.masked_scatter(scored, log_prob),
            entropy=zeros.masked_scatter(scored, entropy),
            is_top1=torch.zeros_like(scored).masked_scatter(scored, is_top1),
            label_mask=scored,
        )

    model.forward = types.MethodType(forward, model)


def keep_known_rows(start: Start, replies: Iterable[Sequence[tuple[int, ...]]]) -> None:
    """Compute once what the layers below every trained one make of a training's rows (`kernels/frozen_layers.py`).

    Where another job made it for all trainings it is taken from its file, and its share counted as this one's work.
    `replies`: to each prompt of the training split what the training computes of replies, as token ids, which is not
    their last tokens; validation asks for the trie's branches.
    """
    validated = [(prompt, start.trie.paths) for prompt in start.validation.prompts]
    asked = [*zip(start.train.prompts, replies, strict=True), *validated]

    def rows() -> Iterator[list[int]]:  # which are not made where nothing is frozen
        return ([*prompt, *reply] for prompt, tails in asked for reply in tails)

    if start.states is not None:
        fault = take_rows(start, list(rows()))
        if fault is None:
            return
        log.warning("states of frozen layers are not taken from %s: %s", start.states, fault)
    with lap(start.model, KEPT):
        keep_frozen_states(start.model.get_base_model(), rows())


def take_rows(start: Start, rows: Sequence[list[int]]) -> str | None:
    """Let a training begin with the states of its start's file; returns why it cannot, or None."""
    if processes.share_weights():
        return "processes share the weights"
    model, kept = start.model.get_base_model(), KeptStates.read(start.states)
    if fault := take_states(model, kept.n_layers, kept.tensors, rows):
        return fault
    share = shared_prefix.frozen_parts[shared_prefix.body(model)].share_of(rows)
    meter, taken = meters.get(model), kept.lap_of(share, torch.get_num_threads())
    if meter is not None and taken is not None and processes.rank() == 0:  # once, of all processes together
        meter.adopt(taken)
    return None
