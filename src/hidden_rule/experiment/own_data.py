"""The section `data` of a config where cases come from a file: what it must say, and what it resolves to."""

from collections.abc import Callable
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import fill_defaults, resolve
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.model_checks import check_path
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.files import check_file
from hidden_rule.task.cases.own import OwnCases, case_settings, read_own_cases
from hidden_rule.task.dataset import SPLITS

GENERAL = ("source", "seed", *SPLITS)  # settings of drawn cases too


def is_own(config: dict) -> bool:
    """Whether the cases come from a file."""
    data = config.get("data")
    return isinstance(data, dict) and data.get("source") == "file"


def generated_ruleset(config: dict) -> str:
    """The file of the ruleset that is made for a file of cases."""
    return f"results/{config.get('experiment')}/data/ruleset.yaml"


def with_own_ruleset(config: dict, rank: Callable[[tuple], int]) -> dict:
    """A config of a file of cases whose `ruleset` is the one that is made for them, a stated one in `data`.

    `rank` gives the number of the last file that sets a key. What the default experiment says of a policy and of the
    sizes of its splits is not meant for a file that a later one names.
    """
    if not is_own(config):
        return config
    data, later = dict(config["data"]), rank(("data", "source")) > 0
    for split in SPLITS:
        if later and rank(("data", split)) == 0:
            data.pop(split, None)
    stated = None if later and rank(("ruleset",)) == 0 else config.get("ruleset")
    made = generated_ruleset(config)
    if stated is not None and stated != made:
        data.setdefault("ruleset", stated)
    return config | {"data": data, "ruleset": made}


def read_own_data(config: dict, schema: dict) -> OwnCases | None:
    """The cases of the file that `data` names, None without one; `data` gets the sizes that its splits have.

    Raises ConfigFaultError for a setting that does not fit the file, UserError for what is wrong in the file itself.
    """
    data = config.get("data", {})
    if not is_own(config):
        if extra := sorted(data.keys() - {*GENERAL}):
            fault = f"is a setting of a file of cases, and data.source is {data.get('source', 'drawn')}"
            raise ConfigFaultError(
                ("data", extra[0]), fault, "write source: file, or leave it out", (("data", "source"),)
            )
        return None
    for key, what in (("path", "the file of cases"), ("label", "the column of decisions")):
        if key not in data:
            raise ConfigFaultError(("data", key), "is missing", f"give {what}", (("data", "source"),))
    for key in ("path", "ruleset"):
        if key in data:
            _check_path(key, data[key])
    asked = data.get("asked", {split: data[split] for split in SPLITS if split in data})
    usual = fill_defaults({}, resolve(schema["properties"]["data"], schema), schema)
    filled = usual | data | {"asked": asked, "path": str(Path(data["path"]))}
    try:
        own = read_own_cases(case_settings(filled))
    except CaseSettingError as error:
        path = ("data", *error.key.split("."))
        raise ConfigFaultError(path, error.fault, error.remedy, (("data", "path"),)) from None
    config["data"] = filled | {split: len(own.splits[split]) for split in SPLITS}
    return own


def _check_path(key: str, path: str) -> None:
    check_path(("data", key), path)
    try:
        check_file(path)
    except UserError as error:  # not of the file, but of what names it
        raise ConfigFaultError(("data", key), f"{path}: {error.fault}", error.remedy or "check the path") from None
