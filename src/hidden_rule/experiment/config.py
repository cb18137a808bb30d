"""Read an experiment's config and check it before any job runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from hidden_rule.experiment.cautions import cautions
from hidden_rule.experiment.config_checks import check_all
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.own_data import with_own_ruleset
from hidden_rule.experiment.planned_comparisons import without_superseded
from hidden_rule.experiment.setting_files import Source, merged, placed, rank, read_sources, setting_files


@dataclass(frozen=True)
class Experiment:
    """A checked config, what its author is to be told about it, and the file that sets each dotted key."""

    config: dict
    cautions: list[str]
    files: dict[str, str]


def read_experiment(files: Sequence, words: Sequence[str] = ()) -> Experiment:
    """The experiment that config files and the words of --config (`key=value`) describe, later ones winning.

    Raises UserError with the file that the user wrote, the key, the fault and a remedy.
    """
    sources = read_sources(files, words)
    config, notes = _checked(merged(sources), sources)
    return Experiment(config, [*notes, *cautions(config)], setting_files(sources))


def load_config(files: Sequence, words: Sequence[str] = ()) -> dict:
    """The config of `read_experiment`."""
    return read_experiment(files, words).config


def check_config(config: dict, files: Sequence) -> dict:
    """The config, checked, with defaults filled in and keys sorted: the same settings are always the same value.

    `config` is what `files` merge to and the command line changes. The files are read again for what merging hides
    (keys given twice) and to name the one at fault.
    """
    return _checked(config, read_sources(files))[0]


def _checked(config: dict, sources: list[Source]) -> tuple[dict, list[str]]:
    config = with_own_ruleset(config, lambda path: rank(path, sources))
    try:
        config, void = without_superseded(config, sources)
        checked, lines = check_all(config)
    except ConfigFaultError as fault:
        raise placed(fault, sources, config) from None
    if void:
        instead = f"each condition is compared with {checked['comparisons']['against']} instead"
        lines = [*lines, f"comparisons.against is {void}, which a later file leaves out: {instead}"]
    return checked, lines
