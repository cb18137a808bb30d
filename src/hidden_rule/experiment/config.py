"""Read an experiment's config and check it before any job runs."""

from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import dotted
from hidden_rule.core.yaml_files import read_yaml
from hidden_rule.experiment.conditions import merge
from hidden_rule.experiment.config_checks import ConfigFaultError, check_all


def check_config(config: dict, files: list) -> dict:
    """The config, checked, with defaults filled in and keys sorted: the same settings are always the same value.

    `config` is what `files` merge to, later files winning. They are read again for what merging hides (keys given
    twice) and to name the file at fault. Raises UserError with the file, the key, the fault and a remedy.
    """
    documents = {_shown(file): read_yaml(_shown(file)) for file in files}
    try:
        return check_all(config)
    except ConfigFaultError as fault:
        file = _file_of(fault.path, documents, config)
        raise UserError(file, dotted(fault.path), fault.fault, fault.remedy) from None


def load_config(files: list) -> dict:
    """Merge config files as Snakemake does (dictionaries deep, all else replaced) and check the result."""
    merged: dict = {}
    for file in files:
        merge(merged, read_yaml(_shown(file)))
    return check_config(merged, files)


def _file_of(path: tuple, documents: dict[str, dict], config: dict) -> str:
    """The last file in which the key stands; for a key that stands nowhere, the last that has what is above it."""
    for depth in range(len(path), 0, -1):
        for file, document in reversed(documents.items()):
            if _has(document, path[:depth]):
                return file
        if _has(config, path[:depth]):
            return "--config"  # given on the command line
    return next(iter(documents), "--config")


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
