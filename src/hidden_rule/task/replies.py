"""The reply that a model must give, and the one parser that reward and accuracy share.

A reply holds a word for its label: the label itself, or what tokenizers and JSON keep as it is where the label holds
other characters (`✅ yes` is `yes`). Tables, charts and pages show labels as they are.
"""

import functools
import json
import re
import unicodedata

MAX_REPLY_CHARS = 4096  # a valid reply is far shorter; this bounds the work on a runaway one
MAX_WORD = 64  # characters of a label that is its own word
LIKE_CONTROL = re.compile(r"<[^\s<>]*[A-Za-z|/][^\s<>]*>|\[/?[A-Za-z_]+\]|\|[^\s|]+\|")  # of some tokenizer
OTHER_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "ł": "l", "Ł": "L"})


def render_reply(label: str, labels=None) -> str:
    """The valid reply that decides `label` of `labels` (None: it alone): `{"decision": "<LABEL>"}`."""
    return json.dumps({"decision": reply_words(labels or (label,))[label]})


def reply_words(labels) -> dict[str, str]:
    """The word that stands in replies for each label, all different; it depends on the set of labels alone."""
    labels = tuple(labels)
    words = _words_of(tuple(sorted(set(labels))))
    return {label: words[label] for label in labels}


@functools.lru_cache(maxsize=64)
def _words_of(labels: tuple[str, ...]) -> dict[str, str]:
    words = {label: label for label in labels if _is_word(label)}
    taken = {word.casefold() for word in words.values()}
    for i, label in enumerate(labels, 1):
        if label not in words:
            stem = _spelt_plainly(label) or f"label_{i}"
            number = next(n for n in range(1, len(labels) + 2) if _numbered(stem, n).casefold() not in taken)
            words[label] = _numbered(stem, number)
            taken.add(words[label].casefold())
    return words


def _numbered(stem: str, n: int) -> str:
    return stem if n == 1 else f"{stem}_{n}"


def _is_word(label: str) -> bool:
    """Whether a label stays what it is in JSON and in any tokenizer."""
    printable = label.isascii() and label.isprintable() and not re.search(r'["\\{}]|\s\s', label)
    return printable and label == label.strip() and 0 < len(label) <= MAX_WORD and not LIKE_CONTROL.search(label)


def _spelt_plainly(label: str) -> str:
    """A label in letters, digits and underscores; symbols alone by their names; empty if its letters are others."""
    plain = unicodedata.normalize("NFKD", label.translate(OTHER_LETTERS))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    if any(c.isalpha() and not c.isascii() for c in plain):
        return ""
    if not re.search("[A-Za-z0-9]", plain):
        symbols = [c for c in plain if unicodedata.category(c)[0] in "SP"][:3]
        plain = " ".join(unicodedata.name(c, "").lower() for c in symbols)
    return re.sub("[^A-Za-z0-9]+", "_", plain).strip("_")[:48].strip("_")


def plain_text(label: str) -> str:
    """What of a label can stand in a prompt beside its word: no brackets and bars, of which control tokens are made."""
    return " ".join(re.sub(r'[<>|{}"\\\[\]｜◁▷]', " ", label).split())[:100]


def parse_reply(text: str, labels) -> str | None:
    """The label that `text` decides, or None if it is not a valid reply.

    Valid is a JSON object with the one key `decision` and one of `labels` as its value, blanks around it allowed.
    Everything else is None: prose, code fences, two answers, another case, a key given twice. Never raises.
    """
    if not isinstance(text, str) or len(text) > MAX_REPLY_CHARS:
        return None
    try:
        # pairs, not a dict: a key given twice stays visible, and a nested object is no string
        pairs = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, tuple) or len(pairs) != 1:  # a JSON array is a list, not a tuple
        return None
    key, word = pairs[0]
    if key != "decision" or not isinstance(word, str):
        return None
    return next((label for label, own in reply_words(labels).items() if own == word), None)
