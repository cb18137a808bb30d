"""Control tokens: those that have a meaning to the model beside their letters, and must not come from a user's text."""

import functools
import re
from collections.abc import Iterator

from hidden_rule.core.errors import UserError
from hidden_rule.task.replies import reply_words

BRACKETED = re.compile(r"<\S+>|\[\S+\]|◁\S+▷|[|｜]\S+[|｜]")
PLAIN = re.compile(r"([^\W_]|[\s'’-])*|.", re.DOTALL)  # words, blanks, a single character
HTML = re.compile(  # tags that vocabularies hold as text
    r"a|b|i|u|s|p|q|[bh]r|h[1-6]|em|code|strong|su[bp]|[uod]l|li|d[dt]|t[rdh]|thead|tbody|tfoot|table|caption|pre|div|span|"
    r"img|html|head|body|title|blockquote|del|ins|small|mark", re.IGNORECASE
)  # fmt: skip


def control_tokens(tokenizer) -> tuple[str, ...]:
    """The tokenizer's control tokens.

    Special tokens other than plain words, and added tokens that look like one: in brackets, and no tag of HTML, which
    some vocabularies hold as text.
    """
    ends = {tokenizer.eos_token, tokenizer.bos_token}
    return tuple(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if (token.special and not PLAIN.fullmatch(token.content))
        or (token.content in ends and len(token.content.strip()) > 1)
        or (not token.special and _looks_like_control(token.content))
    )


def _looks_like_control(token: str) -> bool:
    name = token.strip("<>[]/|｜◁▷")
    return bool(BRACKETED.fullmatch(token) and re.search(r"[^\W\d]", name) and not HTML.fullmatch(name))


def control_pattern(tokenizer) -> re.Pattern:
    """A pattern that finds the first control token in a text; where several begin, the longest."""
    tokens = control_tokens(tokenizer)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokens[:64]}
    other_case = [token for token in ids if token.upper() != token]
    folds = any(ids[token] in tokenizer.encode(token.upper(), add_special_tokens=False) for token in other_case[:4])
    return _pattern(tokens, folds)


@functools.lru_cache(maxsize=8)
def _pattern(tokens: tuple[str, ...], any_case: bool) -> re.Pattern:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)", re.IGNORECASE if any_case else 0)


def check_text(pattern: re.Pattern, text: str, file, key: str) -> None:
    """Raise UserError if a user's text, which stands at `key` of `file`, holds a control token of the model."""
    if found := pattern.search(text):
        fault = f"holds {found[0]!r}, a control token of the model"
        raise UserError(file, key, fault, "write it in other characters, or leave it out")


def ruleset_texts(ruleset) -> Iterator[tuple[str, str]]:
    """Every text of a ruleset that can stand in a prompt or a reply, with its key."""
    words = reply_words(ruleset.labels)
    yield "prompt.system", ruleset.system
    yield "prompt.user", ruleset.user
    for feature in ruleset.features:
        yield f"features.{feature.name}.text", feature.text
        for i, choice in enumerate(feature.choices):
            yield f"features.{feature.name}.choices[{i}]", choice
    for i, rule in enumerate(ruleset.rules):
        yield f"rules[{i}].label", words[rule.label]
        yield f"rules[{i}].says", rule.says or ""
        yield f"rules[{i}].when", rule.when
    for label, word in words.items():
        yield ("default" if label == ruleset.default else f"label {label}"), word
    for kind in ("paraphrases", "decoys"):
        for i, wording in enumerate(getattr(ruleset, kind)):
            yield f"{kind}[{i}].text", wording.text


def check_ruleset(tokenizer, file, ruleset) -> None:
    """Raise UserError with file and key if a text of a ruleset is not plain text to a model.

    That is if it holds a control token, or characters of which its tokenizer makes the token for what it does not know.
    """
    pattern = control_pattern(tokenizer)
    control = {tokenizer.convert_tokens_to_ids(token): token for token in control_tokens(tokenizer)}
    for key, text in ruleset_texts(ruleset):
        check_text(pattern, text, file, key)
        for i in tokenizer.encode(text, add_special_tokens=False):
            if i == tokenizer.unk_token_id:
                fault = f"holds characters that the model's tokenizer does not know ({tokenizer.unk_token})"
                raise UserError(file, key, fault, "write it in other characters, or take another model")
            if i in control:  # a tokenizer may change a text before it looks for tokens
                fault = f"holds what the model's tokenizer takes for {control[i]!r}, a control token"
                raise UserError(file, key, fault, "write it in other characters, or leave it out")


def check_conversations(tokenizer, conversations: list[list[dict]], file) -> None:
    """Raise UserError if a text of a conversation, made from `file`, holds a control token of the model."""
    pattern = control_pattern(tokenizer)
    texts = dict.fromkeys((message["role"], message["content"]) for messages in conversations for message in messages)
    for role, text in texts:
        check_text(pattern, text, file, f"prompt, text of the {role}")
