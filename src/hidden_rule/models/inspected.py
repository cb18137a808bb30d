"""What an inspection of a model found; what it must refuse it raises as a UserError. Imports nothing heavy."""

import json
from dataclasses import asdict, dataclass, field

from hidden_rule.core.files import read_json, write_text


@dataclass(frozen=True)
class Inspected:
    """Facts for the model's manifest and the report, and warnings for the log, the manifest and the report."""

    facts: dict = field(default_factory=dict)  # JSON values by name, in plain words
    warnings: tuple[str, ...] = ()  # a sentence each


def as_record(found: Inspected, settings: dict) -> dict:
    """Findings as a manifest holds them, with the settings that were looked at beside the model."""
    return json.loads(json.dumps({"settings": settings, **asdict(found)}, default=str))


def earlier_findings(manifest_path, settings: dict) -> Inspected | None:
    """What was found when a model was prepared, or None where other settings were looked at then."""
    record = read_json(manifest_path).get("inspection", {})
    if record.get("settings") != json.loads(json.dumps(settings)):
        return None
    return Inspected(record["facts"], tuple(record["warnings"]))


def write_findings(found: Inspected, path) -> None:
    """Write findings as JSON: `facts` and `warnings`."""
    write_text(json.dumps(asdict(found), indent=2, default=str) + "\n", path)
