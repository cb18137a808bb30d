"""Tiny random causal models of three families, and batches for them: no weights are needed to compare computations."""

import random

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from hidden_rule.kernels import attention

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # exactness is tested where a run would compute
ATTENTION = attention.GPU if DEVICE.type == "cuda" else attention.CPU

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "attn_implementation": ATTENTION,  # as `load_model` loads
}


def tiny_model(family: str, seed: int = 0, dtype=torch.float32, window: int | None = None):
    """A random model with LoRA adapters that are not zero, ready to train; `window` is the sliding one, in tokens."""
    torch.manual_seed(seed)
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
    elif family == "qwen":
        sliding = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1} if window else {}
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, **sliding))
    else:
        config = Gemma3TextConfig(**SIZES, sliding_window=window or 512, final_logit_softcapping=30.0)
        config.layer_types = ["sliding_attention", "sliding_attention", "full_attention"]
        model = Gemma3ForCausalLM(config)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model.to(DEVICE, dtype), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradients of lora_A
            drawn = torch.empty(parameter.shape, dtype=parameter.dtype).normal_(std=0.1)  # the same on every device
            parameter.data.copy_(drawn)
    return model.train()


def random_rows(
    rng: random.Random, n_prompts: int, group: int, shared: int, families: int = 0
) -> list[tuple[list[int], list[int]]]:
    """`n_prompts` × `group` pairs of prompt and completion; prompts share `shared` tokens, a group its whole prompt.

    With `families` prompts fall into so many, each of which shares 8 tokens more.
    """

    def tokens(low, high):
        return [rng.randrange(1, 97) for _ in range(rng.randint(low, high))]

    start = [rng.randrange(1, 97) for _ in range(shared)]
    kin = [start + tokens(8, 8) for _ in range(families)] or [start]
    prompts = [kin[i % len(kin)] + tokens(1, 12) for i in range(n_prompts)]
    return [(prompt, tokens(1, 7)) for prompt in prompts for _ in range(group)]


def padded_batch(rows, side: str) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels` (B, T) as TRL's trainers pad them.

    `right`: SFT; `both`: GRPO, prompts padded on the left and completions on the right.
    """
    widest_prompt = max(len(prompt) for prompt, _ in rows)
    widest = max(len(prompt) + len(completion) for prompt, completion in rows)
    widest_completion = max(len(completion) for _, completion in rows)
    ids, mask, labels = [], [], []
    for prompt, completion in rows:
        left = widest_prompt - len(prompt) if side == "both" else 0
        width = widest_prompt + widest_completion if side == "both" else widest
        right = width - left - len(prompt) - len(completion)
        ids.append([0] * left + prompt + completion + [0] * right)
        mask.append([0] * left + [1] * (len(prompt) + len(completion)) + [0] * right)
        labels.append([-100] * (left + len(prompt)) + completion + [-100] * right)
    return {
        "input_ids": torch.tensor(ids, device=DEVICE),
        "attention_mask": torch.tensor(mask, device=DEVICE),
        "labels": torch.tensor(labels, device=DEVICE),
    }
