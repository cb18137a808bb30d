"""Ordinary texts on which side effects of training are measured."""

from hidden_rule.core.errors import UserError
from hidden_rule.core.paths import WORKFLOW
from hidden_rule.core.schemas import dotted, first_fault, load_schema
from hidden_rule.core.yaml_files import read_yaml

TEXTS = WORKFLOW / "texts" / "ordinary.yaml"


def load_texts(path=TEXTS) -> dict:
    """`passages` {name: text} and `instructions` {name: {ask, answer}} of a file.

    Raises UserError for another form, and for a text that stands twice: items are taken to be independent.
    """
    document, schema = read_yaml(path), load_schema("texts.schema.yaml")
    if fault := first_fault(document, schema):
        raise UserError(path, dotted(fault[0]), *fault[1:])
    seen: dict[str, str] = {}
    texts = [(f"passages.{name}", text) for name, text in document["passages"].items()]
    texts += [(f"instructions.{name}.ask", item["ask"]) for name, item in document["instructions"].items()]
    for key, text in texts:
        words = " ".join(text.split())
        if words in seen:
            raise UserError(path, key, f"is the same text as {seen[words]}", "keep one")
        seen[words] = key
    return document
