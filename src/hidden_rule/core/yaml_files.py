"""Read YAML strictly: what YAML 1.1 would read otherwise than people mean it is an error of one line."""

import os
import re
import stat
from pathlib import Path

import yaml

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import type_word

MAX_BYTES = 1_000_000  # of a file: some seconds of reading
MAX_NODES = 100_000  # of a document, aliases written out; a text counts as one for each TEXT_NODE characters
TEXT_NODE = 100
MAX_DIGITS = 300  # of a whole number; larger ones are no floats
MAX_DEPTH = 40
DECIMAL = "write decimals with a point, as in 0.5"


class StrictLoader(yaml.SafeLoader):
    """YAML without silent surprises: no key twice, no number in another notation, no date, no endless document."""


class _YamlFault(yaml.YAMLError):
    def __init__(self, key, fault: str, remedy: str):
        super().__init__(fault)
        self.key, self.fault, self.remedy = key, fault, remedy


def _construct_mapping(loader, node):
    first_line = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        line = key_node.start_mark.line + 1
        if isinstance(key_node, yaml.ScalarNode) and node.flow_style and re.fullmatch(r"\d+", key_node.value):
            fault = f"{key_node.value} is read as a key"
            raise _YamlFault(f"line {line}", fault, f"{DECIMAL}, or put the key in quotes")
        if not isinstance(key_node, yaml.ScalarNode):
            raise _YamlFault(f"line {line}", "a key is a list or a mapping", "write a plain word as the key")
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _YamlFault(
                f"line {line}", f"the key {key_node.value} is read as {type_word(key)}", "put it in quotes"
            )
        if key in first_line:
            raise _YamlFault(key, f"the key stands twice (lines {first_line[key]} and {line})", "keep one")
        first_line[key] = line
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _construct_sequence(loader, node):
    """A list; `[0,0002]`, where a decimal comma made two numbers of one, is a fault."""
    plain = [item.value if isinstance(item, yaml.ScalarNode) and not item.style else "" for item in node.value]
    for before, after, item in zip(plain, plain[1:], node.value[1:], strict=False):
        if node.flow_style and re.fullmatch(r"[-+]?\d+", before) and re.fullmatch(r"0\d+", after):
            line = f"line {item.start_mark.line + 1}"
            raise _YamlFault(line, f"{before},{after} is read as two numbers", f"write {before}.{after}")
    return loader.construct_sequence(node, deep=True)


def _construct_int(loader, node):
    """A whole number as people write it; YAML 1.1 would read 0640 as octal and 1:30 as 90."""
    if len(node.value) > MAX_DIGITS:
        raise _YamlFault(f"line {node.start_mark.line + 1}", "a number is too long", "give a smaller one")
    if re.fullmatch(r"[-+]?0[0-9_]+|.*:.*", node.value):
        read = yaml.SafeLoader.construct_yaml_int(loader, node)
        line, remedy = f"line {node.start_mark.line + 1}", "put it in quotes, or write a plain number"
        raise _YamlFault(line, f"{node.value} is read as the number {read}", remedy)
    return yaml.SafeLoader.construct_yaml_int(loader, node)


def _construct_float(loader, node):
    if ":" in node.value:
        line, remedy = f"line {node.start_mark.line + 1}", "put it in quotes, or write a plain number"
        raise _YamlFault(line, f"{node.value} is read as a number to the base of 60", remedy)
    return yaml.SafeLoader.construct_yaml_float(loader, node)


def _construct_date(loader, node):
    raise _YamlFault(f"line {node.start_mark.line + 1}", f"{node.value} is read as a date", "put it in quotes")


def _refuse_tag(loader, node):
    raise _YamlFault(f"line {node.start_mark.line + 1}", f"the tag {node.tag} is not allowed", "write plain values")


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _construct_sequence)
StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _construct_date)
for _name in ("binary", "set", "omap", "pairs"):  # bytes, sets and pairs are no values of ours
    StrictLoader.add_constructor(f"tag:yaml.org,2002:{_name}", _refuse_tag)


def _measure(node, measured: dict) -> tuple[int, int]:
    """Size and depth of a document with every alias written out; raises _YamlFault for one that contains itself."""
    if id(node) in measured:
        if measured[id(node)] is None:
            line = f"line {node.start_mark.line + 1}"
            raise _YamlFault(line, "an anchor contains itself", "write the values out instead of the alias")
        return measured[id(node)]
    measured[id(node)] = None
    children = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    size, depth = 1 + (len(node.value) // TEXT_NODE if isinstance(node, yaml.ScalarNode) else 0), 0
    for child in children:
        child_size, child_depth = _measure(child, measured)
        size, depth = size + child_size, max(depth, child_depth)
    measured[id(node)] = size, depth + 1
    return measured[id(node)]


def _load_yaml(text: str):
    """The document of a YAML text; raises YAMLError (_YamlFault with a remedy)."""
    loader = StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        size, depth = _measure(node, {})
        if depth > MAX_DEPTH:
            raise RecursionError
        if size > MAX_NODES:
            fault = f"holds {size:,} values once its aliases are written out, of at most {MAX_NODES:,}"
            raise _YamlFault(None, fault, "use fewer aliases")
        return loader.construct_document(node)
    except RecursionError:
        raise _YamlFault(None, "is nested too deeply to be read", "flatten it") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a tag on what it does not fit: !!int x
        raise _YamlFault(None, f"is not valid YAML ({error})", "check tags and numbers") from None
    finally:
        loader.dispose()


def read_text(path) -> str:
    """The text of a file in UTF-8; one that is missing, no file, too large or unreadable is a UserError.

    Pipes and devices are not opened: reading them might never end.
    """
    try:
        about = os.stat(path)
        if stat.S_ISDIR(about.st_mode):
            raise UserError(path, None, "is a folder", "name a file")
        if not stat.S_ISREG(about.st_mode):
            raise UserError(path, None, "is a pipe or a device, not a file", "name a file")
        if about.st_size > MAX_BYTES:
            fault = f"holds {about.st_size / 1e6:.1f} MB, of at most {MAX_BYTES / 1e6:.1f}"
            raise UserError(path, None, fault, "check that it is the right file")
        return Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(path, None, "no such file", "check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(
            path, None, f"is not text in UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(path, None, f"cannot be read ({reason})", "check the path") from None


def read_yaml(path) -> dict:
    """Read a YAML mapping; a missing file, a syntax error, a key given twice, … is a UserError of one line."""
    document = parse_yaml(read_text(path), path)
    if not isinstance(document, dict):
        found = "is empty" if document is None else f"holds {type_word(document)} at the top"
        raise UserError(path, None, found, "write keys and values (key: value)")
    return document


def parse_yaml(text: str, path):
    """The document of a YAML text; `path` is the file, or what else holds it, that errors name."""
    try:
        return _load_yaml(text)
    except _YamlFault as error:
        raise UserError(path, error.key, error.fault, error.remedy) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        line = f"line {mark.line + 1}" if mark else None
        fault = f"is not valid YAML ({' '.join(problem.split())[:200]})"
        remedy = "indent with blanks, not with tabs" if "'\\t'" in fault else "check brackets, quotes and indentation"
        raise UserError(path, line, fault, remedy) from None
