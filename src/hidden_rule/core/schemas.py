"""JSON schemas: the first fault of a document as one line that a person can act on, and defaults filled in."""

import difflib
import functools
import json
import math
import re

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from hidden_rule.core.paths import WORKFLOW

SCHEMA_DIR = WORKFLOW / "schemas"
TYPE_WORDS = {
    "object": "a mapping of keys to values",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}


def type_word(value) -> str:
    """What a YAML value is, in plain words."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return TYPE_WORDS[names.get(type(value), "number")]


def _pattern(validator, pattern, instance, schema):
    """A schema's pattern; its `$` is the end of the text, where Python's also stands before a last newline."""
    if isinstance(instance, str) and (not re.search(pattern, instance) or ("$" in pattern and instance.endswith("\n"))):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


Validator = validators.extend(Draft202012Validator, {"pattern": _pattern})


@functools.cache
def load_schema(name: str) -> dict:
    """A JSON schema from workflow/schemas, by the file's name."""
    return yaml.safe_load((SCHEMA_DIR / name).read_text(encoding="utf-8"))


def did_you_mean(word, known, otherwise: str | None = None) -> str:
    """`did you mean X?` if `word` is close to one of `known`, else a list of them (or `otherwise`)."""
    close = difflib.get_close_matches(str(word), [str(item) for item in known], n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return otherwise or f"known: {', '.join(str(item) for item in known)}"


def dotted(path) -> str:
    """`("rules", 0, "when")` as `rules[0].when`."""
    text = ""
    for part in path:
        name = part if isinstance(part, int) or len(part) <= 100 else f"{part[:80]}…"
        text += f"[{name}]" if isinstance(part, int) else f".{name}" if text else name
    return text


def quoted(value) -> str:
    """A value as YAML would show it, shortened to one line."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def resolve(schema: dict, root: dict) -> dict:
    """Follow `$ref` into `$defs`; keys beside the reference win."""
    while "$ref" in schema:
        target = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def first_fault(document, schema: dict, root: dict | None = None, prefix: tuple = ()) -> tuple | None:
    """`(path, fault, remedy)` of the most telling fault of `document` against `schema`, or None.

    Misspelled keys come first: a misspelled key is often what makes another one missing.
    """
    bad_number = _non_finite(document)
    if bad_number is not None:
        return (*prefix, *bad_number), "is not a finite number", "give a plain number"
    validator = Validator({**schema, "$defs": (root or schema).get("$defs", {})})
    errors = list(validator.iter_errors(document))
    if not errors:
        return None
    kinds = ["additionalProperties", "type"]
    errors.sort(key=lambda e: (kinds.index(e.validator) if e.validator in kinds else 2, [str(p) for p in e.path]))
    path, fault, remedy = _explain(errors[0], root or schema)
    return (*prefix, *path), fault, remedy


def _explain(error, root: dict) -> tuple[tuple, str, str | None]:
    """One jsonschema error in plain words."""
    value, limit, path = error.instance, error.validator_value, tuple(error.absolute_path)
    description = resolve(error.schema, root).get("description") if isinstance(error.schema, dict) else None
    match error.validator:
        case "additionalProperties":
            known = list(error.schema.get("properties", {}))
            extra = next(key for key in value if key not in known)
            return (*path, extra), "unknown key", did_you_mean(extra, known)
        case "required":
            missing = next(key for key in limit if key not in value)
            about = resolve(error.schema.get("properties", {}).get(missing, {}), root).get("description")
            return (*path, missing), "is missing", f"add it ({about})" if about else "add it"
        case "type":
            wanted = TYPE_WORDS[limit]
            if isinstance(value, str) and limit == "number" and re.fullmatch(r"[+-]?\d+,\d+", value):
                return path, f"{quoted(value)} is read as text, not a number", f"write {value.replace(',', '.')}"
            if isinstance(value, str) and limit in ("number", "integer") and _exponent_without_point(value):
                return path, f"{quoted(value)} is read as text, not a number", f"write {_exponent_without_point(value)}"
            remedy = "put it in quotes" if limit == "string" and value is not None else f"give {wanted}"
            if limit == "object":
                remedy = "write {} if it has no keys" if value is None else "write its keys below it, indented"
            return path, f"must be {wanted}, is {quoted(value) if value is not None else 'empty'}", remedy
        case "enum":
            return (
                path,
                f"{quoted(value)} is not one of {', '.join(map(str, limit))}",
                did_you_mean(value, limit, f"choose {' or '.join(map(str, limit))}"),
            )
        case "const":
            return path, f"must be {quoted(limit)}, is {quoted(value)}", f"write {limit}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            return path, f"{quoted(value)} is out of range", f"give {_range_words(error.schema)}"
        case "pattern":
            if error.parent is None and "propertyNames" in error.absolute_schema_path:
                return (*path, value), "is not a valid name", f"use {description}"
            return path, f"{quoted(value)} is not valid", f"give {description}"
        case "uniqueItems":
            twice = next(item for i, item in enumerate(value) if item in value[:i])
            return path, f"{quoted(twice)} stands twice", "keep one"
        case "minItems" | "minProperties":
            return path, "is empty" if not value else f"has only {len(value)} of at least {limit}", "add more"
        case "minLength":
            return path, "is empty", f"write {description}" if description else "write something"
        case "maxItems":
            return path, f"has {len(value)} of at most {limit}", "remove some"
        case _:
            return path, " ".join(error.message.split())[:120], description


def _range_words(schema: dict) -> str:
    """The allowed range of a number in words."""
    low = [f"at least {schema['minimum']}"] if "minimum" in schema else []
    low += [f"more than {schema['exclusiveMinimum']}"] if "exclusiveMinimum" in schema else []
    high = [f"at most {schema['maximum']}"] if "maximum" in schema else []
    high += [f"less than {schema['exclusiveMaximum']}"] if "exclusiveMaximum" in schema else []
    return ("a whole number, " if schema.get("type") == "integer" else "") + " and ".join(low + high)


def _exponent_without_point(text: str) -> str | None:
    """`2e-4` is text to YAML 1.1; the same number as YAML reads it, or None if `text` is no such number."""
    match = re.fullmatch(r"([+-]?\d+)(\.\d*)?[eE]([+-]?)(\d+)", text.strip())
    if not match:
        return None
    whole, fraction, sign, exponent = match.groups()
    return f"{whole}{fraction if fraction and len(fraction) > 1 else '.0'}e{sign or '+'}{exponent}"


def _non_finite(value, path: tuple = ()) -> tuple | None:
    """Path of the first NaN or infinity; JSON schema ranges let NaN pass."""
    if isinstance(value, float) and not math.isfinite(value):
        return path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found = _non_finite(child, (*path, key))
        if found is not None:
            return found
    return None


def fill_defaults(value, schema: dict, root: dict):
    """`value` with the schema's defaults filled in at every depth, and numbers of the type that the schema gives."""
    schema = resolve(schema, root)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        filled = {key: fill_defaults(item, properties.get(key, {}), root) for key, item in value.items()}
        for key, child in properties.items():
            child = resolve(child, root)
            if key not in filled and "default" in child:
                filled[key] = fill_defaults(child["default"], child, root)
        return filled
    if isinstance(value, list):
        return [fill_defaults(item, schema.get("items", {}), root) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        kinds = {"number": float, "integer": int}
        return kinds[schema["type"]](value) if schema.get("type") in kinds else value
    return value
