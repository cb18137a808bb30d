"""How far the pipeline's computation is from the plain one on this device, by type of number.

The plain one is the textbook's: every row whole, by transformers' and PEFT's own layers.
"""

from dataclasses import replace

import torch

from hidden_rule.kernels.shared_prefix import score_tokens, scored_states
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.hardware import default_device, device_name
from hidden_rule.models.tokens import encode_reply
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.start import Start, load_start

N_ROWS = 16  # of the SFT batch whose loss and gradients are compared


def compare_computations(job: TrainingJob, n_prompts: int) -> dict:
    """Distances from the plain float32 computation on this device, for a job's model and data.

    `log_probs`: of each valid reply after each of `n_prompts` prompts, the largest difference in nats; `loss` and
    `gradients`: of one SFT batch, relative. On a GPU the plain computation on the CPU is compared as well.
    """
    device = default_device()
    truth = measured(job, "float32", ours=False, n_prompts=n_prompts)
    kinds = {
        "float32_ours": ("float32", True),
        "bfloat16_plain": ("bfloat16", False),
        "bfloat16_ours": ("bfloat16", True),
    }
    result = {
        f"{name}_truth": distance(measured(job, dtype, ours, n_prompts), truth) for name, (dtype, ours) in kinds.items()
    }
    if device.type == "cuda":
        on_cpu = measured(job, "float32", False, n_prompts, torch.device("cpu"))
        result["float32_plain_cpu_truth"] = distance(on_cpu, truth)
    return {"device": device_name(device), **result}


def measured(job: TrainingJob, dtype: str, ours: bool, n_prompts: int, device=None) -> dict:
    """Log-probabilities, loss and gradients, by our kernels or plainly."""
    start = load_start(replace(job, base=replace(job.base, dtype=dtype)), device, stock=not ours)
    for name, parameter in start.model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradients of lora_A
            torch.manual_seed(len(name) + sum(map(ord, name)))
            parameter.data.copy_(0.02 * torch.randn(parameter.shape))
    start.model.eval()
    log_probs, loss = (shared if ours else plain)(start, start.validation.prompts[:n_prompts], batch_of(start))
    loss.backward()
    gradients = {n: p.grad.detach().float().cpu() for n, p in start.model.named_parameters() if p.requires_grad}
    return {"log_probs": log_probs.cpu(), "loss": loss.item(), "gradients": gradients}


def batch_of(start: Start) -> list[tuple[list[int], list[int]]]:
    """Tokens of prompt and reply of the first training rows."""
    rows = list(zip(start.train.prompts, start.train.labels, strict=True))[:N_ROWS]
    return [(prompt, encode_reply(start.tokenizer, label)) for prompt, label in rows]


def shared(start: Start, prompts: list[list[int]], pairs: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (N, L) of the replies to prompts, and the loss of a batch, by shared prefixes."""
    base = start.model.get_base_model()
    log_probs = label_log_probs(base, start.trie, prompts, 16)
    width = max(len(prompt) + len(reply) for prompt, reply in pairs)
    fill = [width - len(prompt) - len(reply) for prompt, reply in pairs]
    ids = torch.tensor([p + r + [0] * n for (p, r), n in zip(pairs, fill, strict=True)], device=start.device)
    mask = torch.tensor([[1] * (width - n) + [0] * n for n in fill], device=start.device)
    labels = [[-100] * len(p) + r + [-100] * n for (p, r), n in zip(pairs, fill, strict=True)]
    labels = torch.tensor(labels, device=start.device)
    hidden, scored = scored_states(base, ids, mask, labels)
    log_prob, _, _ = score_tokens(base, hidden, labels[:, 1:][scored], 1.0, False)
    return log_probs, -log_prob.mean()


def plain(start: Start, prompts: list[list[int]], pairs: list) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with every row alone, so that nothing is padded or shared."""
    base, losses = start.model.get_base_model(), []
    log_probs = torch.stack([plain_log_probs(base, start.trie, prompt) for prompt in prompts])
    for prompt, reply in pairs:
        ids = torch.tensor([prompt + reply], device=start.device)
        logits = base(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="none"))
    return log_probs, torch.cat(losses).mean()


@torch.no_grad()
def plain_log_probs(base, trie, prompt: list[int]) -> torch.Tensor:
    """Log-probabilities (L,) of the valid replies by whole forward passes, renormalised over the allowed tokens."""
    device = base.get_input_embeddings().weight.device
    result = []
    for reply in trie.replies:
        ids = torch.tensor([prompt + list(reply)], device=device)
        logits = base(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        total = torch.zeros((), device=device)
        for i, token in enumerate(reply):
            allowed = sorted({other[i] for other in trie.replies if other[:i] == reply[:i]})
            total = total + torch.log_softmax(logits[i, allowed], -1)[allowed.index(token)]
        result.append(total)
    return torch.stack(result)


def distance(found: dict, truth: dict) -> dict:
    """How far what `measured` gave is from the truth."""
    pairs = [(found["gradients"][name], gradient) for name, gradient in truth["gradients"].items()]
    norms = [float((ours - wanted).norm() / wanted.norm().clamp(min=1e-12)) for ours, wanted in pairs]
    return {
        "log_probs": float((found["log_probs"] - truth["log_probs"]).abs().max()),
        "loss": abs(found["loss"] - truth["loss"]) / abs(truth["loss"]),
        "gradients_median": float(torch.tensor(norms).median()),
        "gradients_largest": max(norms),
    }
