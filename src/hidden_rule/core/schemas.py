"""JSON schemas: the first fault of a document as one line that a person can act on, and defaults filled in."""

import difflib
import functools
import json
import math
import re
import unicodedata

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from hidden_rule.core.paths import WORKFLOW

SCHEMA_DIR = WORKFLOW / "schemas"
MAX_WHOLE = 10**300  # beyond, a whole number is no float
SETTINGS = {"Config": "config.schema.yaml", "Ruleset": "ruleset.schema.yaml"}  # by title, which one key may belong to
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


def _unique_items(validator, wanted, instance, schema):
    """No item twice, in time that grows with the list, whatever its items are."""
    if wanted and isinstance(instance, list) and (twice := _first_repeated(instance)) is not None:
        yield ValidationError(f"{twice[0]!r} stands twice")


def _first_repeated(items: list) -> tuple | None:
    """The first item, in a tuple, that equals an earlier one (1 equals 1.0, and not true), or None."""
    seen = set()
    for item in items:
        whole = isinstance(item, float) and item.is_integer()
        key = json.dumps(int(item) if whole else item, sort_keys=True, default=str)
        if key in seen:
            return (item,)
        seen.add(key)
    return None


Validator = validators.extend(Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique_items})


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
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else repr(value)
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
    if (unfit := _unfit(document)) is not None:
        path, fault, remedy = unfit
        return (*prefix, *path), fault, remedy
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
            known = error.schema.get("properties", {})
            extra = next(key for key in value if key not in known)
            for_users = [key for key, of in known.items() if not of.get("internal")]
            return (*path, extra), "unknown key", _place_of(extra, error.schema, root) or did_you_mean(extra, for_users)
        case "required":
            missing = next(key for key in limit if key not in value)
            about = resolve(error.schema.get("properties", {}).get(missing, {}), root).get("description")
            return (*path, missing), "is missing", f"add it ({about})" if about else "add it"
        case "type":
            wanted = TYPE_WORDS[limit]
            if isinstance(value, str) and limit in ("number", "integer") and (meant := _number_meant(value, limit)):
                return path, f"{quoted(value)} is read as text, not a number", f"write {meant}"
            remedy = "put it in quotes" if limit == "string" and value is not None else f"give {wanted}"
            if limit == "array" and (listed := _listed(value, error.schema, root)):
                remedy = f"write {listed}"
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
            twice = _first_repeated(value)
            return path, f"{quoted(twice[0] if twice else value)} stands twice", "keep one"
        case "minItems" | "minProperties":
            return path, "is empty" if not value else f"has only {len(value)} of at least {limit}", "add more"
        case "minLength":
            return path, "is empty", f"write {description}" if description else "write something"
        case "maxItems" | "maxProperties":
            return path, f"has {len(value)} of at most {limit}", "remove some"
        case _:
            return path, " ".join(error.message.split())[:120], description


def _listed(value, schema: dict, root: dict) -> str | None:
    """A value in brackets, `3` as `[3]` and `0, 1` as `[0, 1]`, if that is a list as `schema` wants it; else None."""
    if value is None or isinstance(value, dict):
        return None
    text = f"[{str(value).lower() if isinstance(value, bool) else value}]"
    try:
        inside = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None
    return text if Validator({**schema, "$defs": root.get("$defs", {})}).is_valid(inside) else None


def _place_of(key: str, schema: dict, root: dict) -> str | None:
    """Where a key belongs that stands a level too high, or is dotted: `write it below sft`; None if nowhere."""
    parts, inner = key.split("."), schema
    for part in parts:
        inner = resolve(inner.get("properties", {}).get(part, {}), root)
    if len(parts) > 1 and inner:
        return f"write {': {'.join(parts)}: …{'}' * (len(parts) - 1)}"
    children = schema.get("properties", {}).items()
    below = {name: resolve(child, root).get("properties", {}) for name, child in children}
    if homes := [name for name, of in below.items() if key in of and not of[key].get("internal")]:
        return f"write it below {' or '.join(homes)}"
    for kind, file in SETTINGS.items():
        foreign = load_schema(file)["properties"].keys() - {"name", "description"}
        if root.get("title") in SETTINGS.keys() - {kind} and (owned := [part for part in parts if part in foreign]):
            return f"write {owned[0]} into the {kind.lower()} file"
    return None


def _range_words(schema: dict) -> str:
    """The allowed range of a number in words."""
    low = [f"at least {schema['minimum']}"] if "minimum" in schema else []
    low += [f"more than {schema['exclusiveMinimum']}"] if "exclusiveMinimum" in schema else []
    high = [f"at most {schema['maximum']}"] if "maximum" in schema else []
    high += [f"less than {schema['exclusiveMaximum']}"] if "exclusiveMaximum" in schema else []
    return ("a whole number, " if schema.get("type") == "integer" else "") + " and ".join(low + high)


def _number_meant(text: str, kind: str) -> str | None:
    """The number that a text of YAML 1.1 stands for, as YAML reads it, or None.

    A text are `2e-4` (which needs a point and a sign), `0,0002` and `1,000`.
    """
    text = text.strip()
    if match := re.fullmatch(r"([+-]?\d+)(\.\d*)?[eE]([+-]?)(\d+)", text):
        whole, fraction, sign, exponent = match.groups()
        return f"{whole}{fraction if fraction and len(fraction) > 1 else '.0'}e{sign or '+'}{exponent}"
    if kind == "number" and re.fullmatch(r"[+-]?\d+,\d+", text):
        return text.replace(",", ".")
    if re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", text):
        return text.replace(",", "")
    return None


def _unfit(value, path: tuple = ()) -> tuple | None:
    """`(path, fault, remedy)` of the first number that is not finite, or text that cannot be shown or written.

    JSON schema ranges let NaN pass, and a whole number may be larger than any float.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return path, "is not a finite number", "give a plain number"
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        return path, f"has {len(str(abs(value)))} digits", "give a smaller number"
    if isinstance(value, str) and (character := control_character(value)):
        return path, f"holds the control character U+{ord(character):04X}", "take it out"
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if isinstance(key, str) and (character := control_character(key)):
            return (*path, key), f"its name holds the control character U+{ord(character):04X}", "take it out"
        if (found := _unfit(child, (*path, key))) is not None:
            return found
    return None


def control_character(text: str) -> str | None:
    """The first character that is no text (controls but line end and tab, halves of surrogate pairs), or None."""
    if text.isprintable():
        return None
    return next((c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)


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
