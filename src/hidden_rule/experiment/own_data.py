"""The section `data` of a config where cases come from a file: what it must say, and what it resolves to."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import content_hash, json_sha256, read_json, write_text
from hidden_rule.core.paths import WORKFLOW
from hidden_rule.core.schemas import fill_defaults, resolve
from hidden_rule.core.sources import code_hash
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.model_checks import check_path
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.files import check_file
from hidden_rule.task.cases.own import OwnCases, case_settings, read_own_cases
from hidden_rule.task.dataset import SPLITS
from hidden_rule.task.ruleset import Ruleset, observed_document, observed_ruleset

LARGE = 5_000_000  # bytes of a file that takes seconds to read
KEPT = Path(".snakemake/hidden_rule/own_data")
GENERAL = ("source", "seed", *SPLITS)  # settings of drawn cases too


@dataclass(frozen=True)
class OwnPlan:
    """What a file of cases resolves to before any job runs: its ruleset, the rows of each split, and warnings."""

    ruleset: Ruleset
    sizes: dict[str, int]
    warnings: list[str]


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


def read_own_data(config: dict, schema: dict) -> OwnPlan | None:
    """What the file that `data` names resolves to, None without one; `data` gets the sizes that its splits have.

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
            fault = "is missing, and data.source is file"
            raise ConfigFaultError(("data", key), fault, f"give {what}", (("data", "source"),))
    for key in ("path", "ruleset"):
        if key in data:
            _check_path(key, data[key])
    asked = data.get("asked", {split: data[split] for split in SPLITS if split in data})
    usual = fill_defaults({}, resolve(schema["properties"]["data"], schema), schema)
    filled = usual | data | {"asked": asked, "path": str(Path(data["path"]))}
    try:
        plan = plan_of(filled)
    except CaseSettingError as error:
        path = ("data", *error.key.split("."))
        raise ConfigFaultError(path, error.fault, error.remedy, (("data", "path"),)) from None
    config["data"] = filled | plan.sizes
    return plan


def plan_of(data: dict) -> OwnPlan:
    """What a section `data` resolves to; raises as `read_own_cases`.

    Every job of a run reads its config anew. What a large file resolves to is therefore kept, for as long as the file's
    content, the settings and the code that reads it are the same.
    """
    files = [data[key] for key in ("path", "ruleset") if key in data]
    if os.path.getsize(data["path"]) < LARGE or not KEPT.parent.is_dir():
        return _plan_of(read_own_cases(case_settings(data)))
    code = code_hash(WORKFLOW / "scripts" / "build_dataset.py")
    kept = KEPT / f"{json_sha256([data, content_hash(*files), code])}.json"
    if kept.is_file():
        found = read_json(kept)
        return OwnPlan(observed_ruleset(kept, found["ruleset"]), found["sizes"], found["warnings"])
    plan = _plan_of(read_own_cases(case_settings(data)))
    document = {"ruleset": observed_document(plan.ruleset), "sizes": plan.sizes, "warnings": plan.warnings}
    with contextlib.suppress(OSError):  # it is read again then
        write_text(json.dumps(document), kept)
    return plan


def _plan_of(own: OwnCases) -> OwnPlan:
    return OwnPlan(own.ruleset, {split: len(own.splits[split]) for split in SPLITS}, own.warnings)


def _check_path(key: str, path: str) -> None:
    check_path(("data", key), path)
    try:
        check_file(path)
    except UserError as error:  # not of the file, but of what names it
        raise ConfigFaultError(("data", key), f"{path}: {error.fault}", error.remedy or "check the path") from None
