"""The record of a finished run, `provenance.json`, as far as pages and exports rely on it.

Results may be somebody else's, or of an older version: every part that there is has its type and every name is a name,
so that no path leads out of the folder; of the config the schema's ranges and choices are not asked for.
"""

import functools

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.core.schemas import dotted, first_fault, load_schema

KEPT = {"type", "properties", "additionalProperties", "propertyNames", "items", "pattern", "anyOf", "$ref"}
NEEDED = {"": ["conditions", "data", "evaluation", "model", "ruleset", "seeds"], "evaluation": ["structured", "free"]}
TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
RECORD = {
    "type": "object",
    "required": ["config"],
    "properties": {
        **dict.fromkeys(("experiment", "created", "python"), TEXT),
        "git": {"type": "object", "properties": {"commit": TEXT}},
        "lock": {"type": "object", "properties": {"sha256": TEXT}},
        "ruleset": {"type": "object", "properties": {"sha256": TEXT}},
        "model": {
            "type": "object",
            "properties": {"files": {"type": "object"}, "inspection": {"type": "object"}, **{"id": TEXT}},
        },
        "packages": TEXTS,
        "adapters": TEXTS,
        "data": {"type": "object", "additionalProperties": {"type": "object"}},
        "hardware": {
            "type": "object",
            "properties": {"cpu": TEXT, "os": TEXT, "gpus": {"type": "array", "items": {"type": "object"}}},
        },
        "timings": {"type": "array", "items": {"type": "object"}},
    },
}
DAMAGED = "run the experiment again"


def read_record(path) -> dict:
    """The record in a file; raises UserError for one that is damaged, or no run's."""
    record = read_json(path, DAMAGED)
    fault = first_fault(record, RECORD) or first_fault(record["config"], config_schema(), prefix=("config",))
    if fault:
        raise UserError(path, dotted(fault[0]), fault[1], DAMAGED)
    return record


@functools.cache
def config_schema() -> dict:
    """The schema of a config that was once checked: types and names alone, and no key that is not needed is missing."""
    full = load_schema("config.schema.yaml")
    schema = loosened(full)
    schema["$defs"] = {name: loosened(of) for name, of in full.get("$defs", {}).items()}
    schema["required"] = NEEDED[""]
    schema["properties"]["evaluation"]["required"] = NEEDED["evaluation"]
    schema["properties"]["experiment"] = TEXT  # shown, and no part of a path
    schema["properties"]["conditions"]["minProperties"] = 1
    schema["properties"]["seeds"] = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
    return schema


def loosened(schema):
    """A schema of types and names; of several forms, any."""
    if not isinstance(schema, dict):
        return schema
    loose = {key: value for key, value in schema.items() if key in KEPT}
    if "oneOf" in schema:
        loose["anyOf"] = schema["oneOf"]
    for key in ("additionalProperties", "propertyNames", "items"):
        if key in loose:
            loose[key] = loosened(loose[key]) or True
    if "anyOf" in loose:
        loose["anyOf"] = [loosened(of) for of in loose["anyOf"]]
    if "properties" in loose:
        loose["properties"] = {name: loosened(of) for name, of in loose["properties"].items()}
    return loose
