"""Where the settings of an experiment come from, and which of these places a fault is put down to."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import dotted
from hidden_rule.core.yaml_files import parse_yaml, read_yaml
from hidden_rule.experiment.conditions import merge
from hidden_rule.experiment.faults import ConfigFaultError

COMMAND_LINE = "--config"
END = "...\n"  # of a scalar that YAML writes
MAX_PASTED = 30_000  # characters that an environment variable gets


@dataclass(frozen=True)
class Source:
    """A config file, or the command line, and what it sets."""

    name: str
    document: dict


def read_sources(files: Sequence, words: Sequence[str] = ()) -> list[Source]:
    """Config files, and the words `key=value` of --config, which are read as YAML; later ones win.

    Snakemake reads the latter in another way: numbers in a list or mapping stay texts.
    """
    sources = [Source(_shown(file), read_yaml(_shown(file))) for file in files]
    given: dict = {}
    for word in words:
        key, _, text = word.partition("=")
        merge(given, {key.strip(): parse_yaml(text, f"{COMMAND_LINE} {key}")})
    return sources + ([Source(COMMAND_LINE, given)] if given else [])


def merged(sources: Sequence[Source]) -> dict:
    """What sources set together: dictionaries are merged, all else is replaced."""
    config: dict = {}
    for source in sources:
        merge(config, source.document)
    return config


def setting_files(sources: Sequence[Source]) -> dict[str, str]:
    """The source of each dotted key, of all depths, those of later sources last (core.errors.SETTING_FILES)."""
    found: dict[str, str] = {}
    for source in sources:
        for path in _paths(source.document):
            found.pop(key := ".".join(path), None)
            found[key] = source.name
    if sum(len(key) + len(name) for key, name in found.items()) > MAX_PASTED:
        return {key: name for key, name in found.items() if "." not in key}
    return found


def placed(fault: ConfigFaultError, sources: Sequence[Source], config: dict) -> UserError:
    """The error of a fault: it names the source that the user wrote last of those that take part in it."""
    at = max([fault.path, *fault.beside], key=lambda path: rank(path, sources))
    if fault.anywhere or rank(at, sources) <= rank(fault.path, sources):
        name = _source_of(at, sources, config)
        return UserError(name, dotted(at), fault.fault, _pasted(fault, name, sources))
    name, conflicting = _source_of(at, sources, config), dotted(fault.path)
    if fault.fault.startswith("is missing"):  # what is not there conflicts with nothing
        return UserError(name, conflicting, fault.fault, _pasted(fault, name, sources))
    remedy = f"for {conflicting}, {_pasted(fault, name, sources)}"
    return UserError(name, dotted(at), f"conflicts with {conflicting}: {fault.fault}", remedy)


def rank(path: tuple, sources: Sequence[Source]) -> int:
    """The number of the last source in which the key stands; -1 for none."""
    return next((i for i in reversed(range(len(sources))) if _has(sources[i].document, path)), -1)


def _source_of(path: tuple, sources: Sequence[Source], config: dict) -> str:
    """The last source in which the key stands; for a key that stands nowhere, the last that has what is above it."""
    for depth in range(len(path), 0, -1):
        if (place := rank(path[:depth], sources)) >= 0:
            return sources[place].name
        if _has(config, path[:depth]):
            return COMMAND_LINE
    return sources[0].name if sources else COMMAND_LINE


def _pasted(fault: ConfigFaultError, name: str, sources: Sequence[Source]) -> str:
    """The remedy; for a fault of the command line with the words that can be pasted there."""
    value = re.fullmatch(r"(write|take|give at least|give at most|did you mean) (\S+?)\??", fault.remedy)
    if name != COMMAND_LINE or not value:
        return fault.remedy
    document: dict = {}
    merge(document, next((source.document for source in sources if source.name == COMMAND_LINE), {}))
    try:
        if fault.fault == "unknown key":
            holder = _inner(document, fault.path[:-1])
            holder[value[2]] = holder.pop(fault.path[-1])
        else:
            _inner(document, fault.path[:-1])[fault.path[-1]] = parse_yaml(value[2], name)
    except (LookupError, TypeError, AttributeError, UserError):
        return fault.remedy
    key = value[2] if fault.fault == "unknown key" and len(fault.path) == 1 else fault.path[0]
    text = yaml.safe_dump(document[key], default_flow_style=True, width=10_000, allow_unicode=True)
    return f"{fault.remedy}: {COMMAND_LINE} " + shlex.quote(f"{key}={text.removesuffix(END).strip()}")


def _inner(document: dict, path: tuple):
    """What stands at a path, mappings made on the way where there are none."""
    for part in path:
        document = document.setdefault(part, {}) if isinstance(document, dict) else document[part]
    return document


def _paths(document: dict, above: tuple = ()):
    """The paths of all keys."""
    for key, value in document.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def _shown(file) -> str:
    """The path as a person would type it: relative if the file lies below the working directory."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _has(document, path: tuple) -> bool:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
