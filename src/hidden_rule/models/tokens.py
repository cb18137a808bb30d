"""Prompts and replies as tokens, the same for every condition."""

from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.replies import render_reply


def encode_prompts(tokenizer, conversations: list[list[dict]], template_kwargs: dict) -> list[list[int]]:
    """Token ids of each conversation up to where the assistant's reply begins."""
    return tokenizer.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=False, **template_kwargs
    )


def encode_reply(tokenizer, label: str) -> list[int]:
    """Token ids of the reply for a label and of the end of the turn."""
    return [*tokenizer.encode(render_reply(label), add_special_tokens=False), tokenizer.eos_token_id]


def label_trie(tokenizer, labels) -> LabelTrie:
    """The trie of the replies for `labels`, in their order."""
    return LabelTrie([encode_reply(tokenizer, label) for label in labels])
