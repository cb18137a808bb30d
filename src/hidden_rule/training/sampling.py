"""Replies sampled to the training prompts: exactly from the policy under structured decoding, else generated."""

import hashlib
from dataclasses import dataclass

import torch

from hidden_rule.kernels.meter import lap
from hidden_rule.models.decoding import Generation, batches_by, generate_replies
from hidden_rule.models.finite import check_values, dtype_of
from hidden_rule.models.tokens import encode_answer
from hidden_rule.task.replies import parse_reply, render_reply
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.start import Start
from hidden_rule.training.structured_grpo import draw, uniforms


@dataclass(frozen=True)
class SampledReply:
    """A reply, as text and as tokens with the end of the turn, and the decision in it, None for no valid one."""

    text: str
    tokens: tuple[int, ...]
    label: str | None


@dataclass(frozen=True)
class Sampling:
    """How replies are sampled; the same for the same policy, seed and `turn`, however often a training is resumed."""

    n: int  # replies to each prompt
    temperature: float
    max_new_tokens: int  # under free decoding
    is_free: bool
    seed: int
    batch_size: int  # prompts at a time

    @classmethod
    def of(cls, job: TrainingJob) -> "Sampling":
        """As a job's settings say."""
        settings = job.settings
        numbers = settings["samples"], settings["temperature"], settings["max_new_tokens"]
        return cls(*numbers, job.decoding == "free", job.seed, settings["micro_batch_size"])


def sample_replies(start: Start, sampling: Sampling, turn: int = 0) -> tuple[list[list[SampledReply]], int]:
    """`sampling.n` replies to each of the N training prompts, and the number of tokens in them.

    Free ones are generated as for evaluation, at a temperature, and tokenized again from their texts. `turn`: a number
    that tells apart what a training samples at several times. The model has the call of `add_shared_prefix_forward`.
    """
    was_training = start.model.training
    start.model.eval()
    try:
        sample = _generated if sampling.is_free else _drawn
        return sample(start, sampling, turn)
    finally:
        start.model.train(was_training)


@torch.no_grad()
def structured_policy(start: Start, temperature: float, batch_size: int) -> torch.Tensor:
    """Float32 log-probabilities (N, L) of each valid reply to each training prompt, on the CPU."""
    prompts = start.train.prompts
    log_probs = torch.empty(len(prompts), len(start.trie.replies))
    for batch in batches_by(list, prompts, batch_size):
        with lap(start.model, "structured", by="positions"):
            rows = [prompts[i] for i in batch]
            branches = start.model(label_trie=start.trie, prompts=rows, at=temperature)
            log_probs[batch] = start.trie.reply_log_probs(branches).cpu()
        check_values(log_probs[batch], "a log-probability of a reply", dtype_of(start.model))
    return log_probs


def _drawn(start: Start, sampling: Sampling, turn: int) -> tuple[list[list[SampledReply]], int]:
    labels = start.ruleset.labels
    valid = [
        SampledReply(render_reply(label, labels), reply, label)
        for label, reply in zip(labels, start.trie.replies, strict=True)
    ]
    log_probs = structured_policy(start, sampling.temperature, 4 * sampling.batch_size)
    rows = [tuple(prompt) for prompt in start.train.prompts for _ in range(sampling.n)]
    chosen = draw(log_probs.repeat_interleave(sampling.n, 0), uniforms(rows, sampling.seed, turn))
    replies = [[valid[i] for i in drawn] for drawn in chosen.view(-1, sampling.n).tolist()]
    return replies, sum(len(reply.tokens) for of_row in replies for reply in of_row)


def _generated(start: Start, sampling: Sampling, turn: int) -> tuple[list[list[SampledReply]], int]:
    digest = hashlib.sha256(repr((sampling.seed, turn)).encode()).digest()
    repeated = [prompt for prompt in start.train.prompts for _ in range(sampling.n)]
    generation = Generation(sampling.batch_size * sampling.n, sampling.max_new_tokens, sampling.temperature)
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest[:7]))
        network = start.model.get_base_model()
        texts, n_tokens = generate_replies(network, start.tokenizer, repeated, generation, "samples")
    known = {text: _read(start, text) for text in dict.fromkeys(texts)}
    replies = [known[text] for text in texts]
    return [replies[i : i + sampling.n] for i in range(0, len(replies), sampling.n)], n_tokens


def _read(start: Start, text: str) -> SampledReply:
    tokens = tuple(encode_answer(start.tokenizer, text))
    return SampledReply(text, tokens, parse_reply(text, start.ruleset.labels))
