"""Sampling by transformers for verl's rollout on a CPU: batches, and draws that depend on no order of requests.

Imported in verl's environment; needs torch, transformers and PEFT alone.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig


@dataclass(frozen=True)
class Request:
    """A prompt whose reply is to be drawn; temperature 0 is greedy."""

    prompt: list[int]
    temperature: float = 1.0
    max_tokens: int = 16


@dataclass
class Reply:
    """A drawn reply: tokens, that which ends it included, and their log-probabilities at the temperature."""

    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


def draws(seed: int, step: int, prompt: list[int], place: int, n: int) -> np.ndarray:
    """`n` uniform numbers in [0, 1), a reply's: of the seed, the step, the prompt and the place in its group."""
    key = hashlib.sha256(repr((seed, step, place, prompt)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key))).random(n)


class Sampler:
    """A causal model that draws replies to batches of prompts."""

    def __init__(self, folder: str, seed: int):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        stops = GenerationConfig.from_pretrained(folder).eos_token_id
        self.stops = set(stops if isinstance(stops, list) else [stops])
        self.seed = seed
        self.step = -1
        self.drawn: dict[tuple[int, ...], int] = {}  # replies to a prompt, in this step

    def load(self, weights: dict[str, torch.Tensor], peft_config: dict | None) -> None:
        """Take the trainer's weights: all of them, or with `peft_config` those of an adapter."""
        if peft_config is None:
            report = self.model.load_state_dict(weights, strict=False)
        else:
            from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict

            if not isinstance(self.model, PeftModel):
                kept = {key: peft_config[key] for key in ("r", "lora_alpha", "target_modules", "bias")}
                self.model = get_peft_model(self.model, LoraConfig(task_type="CAUSAL_LM", **kept)).eval()
            report = set_peft_model_state_dict(self.model, weights)
        if report.unexpected_keys or not weights:
            raise ValueError(f"the trainer sent weights that the policy does not have: {report.unexpected_keys[:3]}")

    @torch.no_grad()
    def sample(self, requests: list[Request], step: int) -> list[Reply]:
        """A reply to each request; the same ones whatever else is asked together, up to rounding."""
        uniforms = [self._uniforms(request, step) for request in requests]
        prompts = list(dict.fromkeys(tuple(request.prompt) for request in requests))
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :], mask[i, width - len(prompt) :] = torch.tensor(prompt), 1
        cache = DynamicCache(config=self.model.config)
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        rows = torch.tensor([prompts.index(tuple(request.prompt)) for request in requests])
        cache.batch_select_indices(rows)
        return self._go_on(requests, out.logits[rows, -1], (cache, mask[rows]), uniforms)

    def _uniforms(self, request: Request, step: int) -> np.ndarray:
        if step != self.step:
            self.step, self.drawn = step, {}
        prompt = tuple(request.prompt)
        place = self.drawn[prompt] = self.drawn.get(prompt, -1) + 1
        return draws(self.seed, step, request.prompt, place, request.max_tokens)

    def _go_on(self, requests: list[Request], logits: torch.Tensor, state: tuple, uniforms: list) -> list[Reply]:
        """Draw token by token from `logits` (B, V) of the first; rows that have ended leave the batch."""
        cache, mask = state
        replies = [Reply() for _ in requests]
        active = list(range(len(requests)))
        for n in range(max(request.max_tokens for request in requests)):
            temperatures = torch.tensor([requests[i].temperature or 1.0 for i in active]).unsqueeze(1)
            log_probs = (logits.float() / temperatures).log_softmax(-1)
            tokens = [self._token(log_probs[k], requests[i], uniforms[i], n) for k, i in enumerate(active)]
            for k, i in enumerate(active):
                replies[i].tokens.append(tokens[k])
                replies[i].log_probs.append(float(log_probs[k, tokens[k]]))
            going = [k for k, i in enumerate(active) if tokens[k] not in self.stops and n + 1 < requests[i].max_tokens]
            if not going:
                break
            chosen = torch.tensor(going)
            active = [active[k] for k in going]
            if len(going) < len(tokens):
                cache.batch_select_indices(chosen)
                mask = mask[chosen]
            mask = torch.cat([mask, mask.new_ones(len(going), 1)], 1)
            out = self.model(
                input_ids=torch.tensor([[tokens[k]] for k in going]),
                attention_mask=mask,
                position_ids=(mask.sum(1, keepdim=True) - 1),
                past_key_values=cache,
                use_cache=True,
            )
            logits = out.logits[:, -1]
        return replies

    @staticmethod
    def _token(log_probs: torch.Tensor, request: Request, uniforms: np.ndarray, n: int) -> int:
        """The token where a uniform number falls among the probabilities, or the most probable one."""
        if request.temperature == 0:
            return int(log_probs.argmax())
        cumulative = log_probs.double().exp().cumsum(0)
        place = torch.searchsorted(cumulative, torch.tensor(uniforms[n] * float(cumulative[-1])), right=True)
        return min(int(place), len(log_probs) - 1)
