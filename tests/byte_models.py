"""A tiny random model whose tokens are bytes, as a local folder: it loads in no time, and its every reply is likely."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hidden_rule.models.prepare import prepare_model

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte, and three that control a chat."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", additional_special_tokens=SPECIAL[1:2]
    )
    made.chat_template = TEMPLATE
    return made


def byte_manifest(folder: Path, head_std: float | None = None, sizes: dict = SIZES) -> Path:
    """The manifest of a byte model made in `folder`.

    Logits of its tied head stay below 0.7, so that no adapter makes a reply likely; `head_std` gives it another head.
    """
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    is_tied = head_std is None
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=is_tied, **sizes, **ids))
    if not is_tied:
        torch.nn.init.normal_(model.lm_head.weight, std=head_std)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    prepare_model({"source": "path", "id": str(folder / "model"), "revision": ""}, folder / "manifest.json")
    return folder / "manifest.json"
