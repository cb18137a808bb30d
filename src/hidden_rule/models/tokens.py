"""Prompts and replies as tokens, the same for every condition."""

import functools

from hidden_rule.core.errors import SettingError
from hidden_rule.models.control_tokens import check_conversations
from hidden_rule.models.template_syntax import TemplateFaultError
from hidden_rule.models.templates import lost_text
from hidden_rule.models.trie import LabelTrie
from hidden_rule.models.turns import Turn, read_turn
from hidden_rule.task.replies import parse_reply, render_reply


def encode_prompts(
    tokenizer, conversations: list[list[dict]], template_kwargs: dict, source="ruleset"
) -> list[list[int]]:
    """Token ids of each conversation up to where the assistant's reply begins; `source`: the file that they come from.

    Raises UserError if the template cannot render one or loses a text of it, and if a text holds a control token.
    """
    if not conversations:
        return []
    check_conversations(tokenizer, conversations, source)
    try:
        texts = tokenizer.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=False, **template_kwargs
        )
    except Exception as error:  # a template is a program of the model's, and may raise anything
        reason = " ".join(str(error).split())[:200]
        raise SettingError("model.id", f"the model's chat template fails ({reason})", "take another model") from error
    for text, messages in zip(texts, conversations, strict=True):
        if lost := lost_text(text, messages):
            raise SettingError("model.id", f"the model's chat template {lost}", "take another model")
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def turn_of(tokenizer) -> Turn:
    """How a turn of the assistant begins and ends in a tokenizer's chat template."""
    return _turn(tokenizer, tokenizer.chat_template)


@functools.lru_cache(maxsize=8)
def _turn(tokenizer, template: str) -> Turn:
    try:
        return read_turn(tokenizer, template)
    except TemplateFaultError as fault:
        raise SettingError("model.id", f"the model's chat template {fault}", "take another model") from fault


def encode_answer(tokenizer, text: str) -> list[int]:
    """Token ids of an answer as the template writes it, from the generation prompt to the token that ends the turn."""
    turn = turn_of(tokenizer)
    before = tokenizer.encode(turn.asked, add_special_tokens=False)
    words = turn.opening + text + turn.closing
    together = tokenizer.encode(turn.asked + words, add_special_tokens=False)
    if together[: len(before)] == before:
        return [*together[len(before) :], turn.end_id]
    return [*tokenizer.encode(words, add_special_tokens=False), turn.end_id]


def encode_reply(tokenizer, label: str, labels=None) -> list[int]:
    """Token ids of the reply for a label, of several, and of the end of the turn."""
    return encode_answer(tokenizer, render_reply(label, labels))


def label_trie(tokenizer, labels) -> LabelTrie:
    """The trie of the replies for `labels`, in their order; raises SettingError if the tokenizer does not keep one."""
    replies = [encode_reply(tokenizer, label, labels) for label in labels]
    for label, reply in zip(labels, replies, strict=True):
        text, _ = cut_reply(tokenizer, reply, [tokenizer.eos_token_id, reply[-1]])
        if parse_reply(text, labels) != label:
            fault = f"the model's tokenizer makes {text[:60]!r} of the reply for {label}"
            raise SettingError("model.id", fault, "take another model, or other labels")
    return LabelTrie(replies)


def stop_tokens(tokenizer, network) -> list[int]:
    """Token ids that end a reply: the tokenizer's own, those that the model declares, and the end of a turn."""
    declared = network.generation_config.eos_token_id
    declared = [declared] if isinstance(declared, int) else declared or []
    return list(dict.fromkeys([tokenizer.eos_token_id, *declared, turn_of(tokenizer).end_id]))


def cut_reply(tokenizer, ids: list[int], stops: list[int]) -> tuple[str, int]:
    """The text of a generated reply up to the first of the tokens that end it, and its tokens, that one included."""
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    closing = turn_of(tokenizer).closing.strip()
    return (text.rstrip().removesuffix(closing) if closing else text), min(end + 1, len(ids))
