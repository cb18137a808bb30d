"""The reply that a model must give, and the one parser that reward and accuracy share."""

import json

MAX_REPLY_CHARS = 4096  # a valid reply is far shorter; this bounds the work on a runaway one


def render_reply(label: str) -> str:
    """The valid reply that decides `label`: `{"decision": "<LABEL>"}`."""
    return json.dumps({"decision": label})


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
    key, label = pairs[0]
    return label if key == "decision" and isinstance(label, str) and label in labels else None
