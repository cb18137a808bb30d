"""Probabilities of the valid replies by plain transformers and PEFT, in a process without any of our code.

    python -P plain_scores.py QUESTIONS ANSWERS      # in the export's folder, so that ./base is found

QUESTIONS is JSON:
- `folder`: the artifact; `adapter`: whether PEFT loads it, from the base that its own config names
- `gguf`: the name of a GGUF file in the folder, which transformers reads, or null
- `dtype`: in which it computes
- `conversations`: messages (system, user) of each case; the artifact's own tokenizer makes the prompts
- `replies`: token ids of each valid reply; `batch_size`; `threads`

ANSWERS is JSON: `probabilities` (N, L) in float64; `prompt_tokens` (N, ids); `packages`: versions by name; `device`.

What is computed: at each token of a reply, the softmax over those tokens with which some valid reply goes on there; a
reply's probability is the product. The tokens that all prompts start with are computed once, as a cache.
"""

import importlib.metadata
import inspect
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache


def load(folder: str, adapter: bool, dtype: torch.dtype, device: torch.device, gguf: str | None = None):
    if adapter:
        from peft import AutoPeftModelForCausalLM

        model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **read_as(gguf))
    return model.to(device).eval()


def read_as(gguf: str | None) -> dict[str, str]:
    """The argument by which transformers reads a GGUF file."""
    return {"gguf_file": gguf} if gguf else {}


def prompts_of(tokenizer, conversations: list[list[dict]]) -> list[list[int]]:
    texts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in conversations]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def nexts_of(replies: list[list[int]]) -> dict[tuple[int, ...], list[int]]:
    """The tokens with which valid replies go on after each beginning of one, where there are several."""
    nexts: dict[tuple[int, ...], set[int]] = {}
    for reply in replies:
        for i, token in enumerate(reply):
            nexts.setdefault(tuple(reply[:i]), set()).add(token)
    return {begun: sorted(tokens) for begun, tokens in nexts.items() if len(tokens) > 1}


def common_start(rows: list[list[int]]) -> int:
    """Tokens that all rows start with; at least one is left of each."""
    shortest, longest = min(rows), max(rows)
    n = next((i for i, (a, b) in enumerate(zip(shortest, longest, strict=False)) if a != b), len(shortest))
    return min(n, min(map(len, rows)) - 1)


@torch.no_grad()
def last_logits(model, rows: list[list[int]], batch_size: int) -> torch.Tensor:
    """Float32 logits (N, V) of the token after each row, on the CPU.

    A batch holds rows of one length, so that nothing is padded.
    """
    device = model.get_input_embeddings().weight.device
    shared = common_start(rows) if len(rows) > 1 and not has_state(model.config) else 0
    found: dict[int, torch.Tensor] = {}
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(i)
    for same in by_length.values():
        for start in range(0, len(same), batch_size):
            batch = same[start : start + batch_size]
            cache = start_cache(model, rows[0][:shared], len(batch), device) if shared else None
            ids = torch.tensor([rows[i][shared:] for i in batch], device=device)
            output = model(input_ids=ids, past_key_values=cache, use_cache=cache is not None, **last_only(model))
            found |= dict(zip(batch, output.logits[:, -1].float().cpu(), strict=True))
    return torch.stack([found[i] for i in range(len(rows))])


def start_cache(model, start: list[int], n: int, device: torch.device) -> DynamicCache:
    """Keys and values of the tokens that all rows start with, for `n` rows."""
    cache = DynamicCache(config=model.config.get_text_config())
    model(input_ids=torch.tensor([start], device=device), past_key_values=cache, use_cache=True, **last_only(model))
    cache.batch_repeat_interleave(n)
    return cache


def last_only(model) -> dict[str, int]:
    """The argument that leaves out logits of other tokens than the last, where the model has it."""
    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(network.forward).parameters else {}


def has_state(config) -> bool:
    """Whether layers see a window alone, or keep other state than keys and values: then no cache is shared."""
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    return bool(kinds - {"full_attention"}) or getattr(config, "sliding_window", None) is not None


def probabilities(model, prompts: list[list[int]], replies: list[list[int]], batch_size: int) -> torch.Tensor:
    """Float64 (N, L); each row sums to 1."""
    log_probs = torch.zeros(len(prompts), len(replies), dtype=torch.float64)
    for begun, tokens in nexts_of(replies).items():
        logits = last_logits(model, [[*prompt, *begun] for prompt in prompts], batch_size)
        chosen = torch.log_softmax(logits[:, tokens].double(), dim=-1)
        for label, reply in enumerate(replies):
            if tuple(reply[: len(begun)]) == begun:
                log_probs[:, label] += chosen[:, tokens.index(reply[len(begun)])]
    return log_probs.exp()


def main(questions: str, answers: str) -> None:
    asked = json.loads(Path(questions).read_text(encoding="utf-8"))
    torch.set_num_threads(asked["threads"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(asked["folder"], **read_as(asked["gguf"]))
    prompts = prompts_of(tokenizer, asked["conversations"])
    model = load(asked["folder"], asked["adapter"], getattr(torch, asked["dtype"]), device, asked["gguf"])
    found = probabilities(model, prompts, asked["replies"], asked["batch_size"])
    names = ("torch", "transformers", *(["peft"] if asked["adapter"] else []), *(["gguf"] if asked["gguf"] else []))
    record = {
        "probabilities": found.tolist(),
        "prompt_tokens": prompts,
        "packages": {name: importlib.metadata.version(name) for name in names},
        "device": device.type,
    }
    Path(answers).write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
