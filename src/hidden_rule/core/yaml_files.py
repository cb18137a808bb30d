"""Read YAML strictly: what YAML 1.1 would read otherwise than people mean it is an error of one line."""

import re
from pathlib import Path

import yaml

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import quoted, type_word

MAX_NODES = 100_000  # of a document, aliases written out


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
            raise _YamlFault(f"line {line}", fault, "write decimals with a point, as in 0.5, or put the key in quotes")
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


def _construct_int(loader, node):
    """A whole number as people write it; YAML 1.1 would read 0640 as octal and 1:30 as 90."""
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


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _construct_date)


def _expanded_size(node, sizes: dict) -> int:
    """Nodes of a document with every alias written out; raises _YamlFault for one that contains itself."""
    if id(node) in sizes:
        if sizes[id(node)] is None:
            line = f"line {node.start_mark.line + 1}"
            raise _YamlFault(line, "an anchor contains itself", "write the values out instead of the alias")
        return sizes[id(node)]
    sizes[id(node)] = None
    children = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    sizes[id(node)] = 1 + sum(_expanded_size(child, sizes) for child in children)
    return sizes[id(node)]


def _load_yaml(text: str):
    """The document of a YAML text; raises YAMLError (_YamlFault with a remedy)."""
    loader = StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if (size := _expanded_size(node, {})) > MAX_NODES:
            fault = f"holds {size:,} values once its aliases are written out, of at most {MAX_NODES:,}"
            raise _YamlFault(None, fault, "use fewer aliases")
        return loader.construct_document(node)
    except RecursionError:
        raise _YamlFault(None, "is nested too deeply to be read", "flatten it") from None
    except ValueError as error:  # a number that is none, as in !!int x
        raise _YamlFault(None, f"is not valid YAML ({error})", "check tags and numbers") from None
    finally:
        loader.dispose()


def read_text(path) -> str:
    """The text of a file in UTF-8; one that is missing, no file or unreadable is a UserError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(path, None, "no such file", "check the path") from None
    except IsADirectoryError:
        raise UserError(path, None, "is a folder", "name a file") from None
    except UnicodeDecodeError as error:
        raise UserError(
            path, None, f"is not text in UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        name = str(path) if len(str(path)) <= 200 and str(path).isprintable() else quoted(str(path))
        raise UserError(name, None, f"cannot be read ({reason})", "check the path") from None


def read_yaml(path) -> dict:
    """Read a YAML mapping; a missing file, a syntax error, a key given twice, … is a UserError of one line."""
    text = read_text(path)
    try:
        document = _load_yaml(text)
    except _YamlFault as error:
        raise UserError(path, error.key, error.fault, error.remedy) from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "not YAML"
        line = f"line {mark.line + 1}" if mark else None
        fault = f"is not valid YAML ({' '.join(problem.split())[:200]})"
        raise UserError(path, line, fault, "check brackets, quotes and indentation") from None
    if not isinstance(document, dict):
        found = "is empty" if document is None else f"holds {type_word(document)} at the top"
        raise UserError(path, None, found, "write keys and values (key: value)")
    return document
