"""What two runs were made from: settings that differ, and provenance side by side."""

from hidden_rule.experiment.results import Results
from hidden_rule.report.tables import as_text

ABSENT = "–"
PACKAGES = "packages that differ"


def flat(config, prefix: str = "") -> dict[str, str]:
    """A config's values as text by their dotted keys."""
    if not isinstance(config, dict) or not config:
        return {prefix: as_text(config)}
    found: dict[str, str] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def settings_that_differ(a: dict, b: dict) -> list[list[str]]:
    """Rows of key, value in A and value in B, sorted by key."""
    of_a, of_b = flat(a), flat(b)
    keys = [key for key in sorted({*of_a, *of_b}) if of_a.get(key) != of_b.get(key)]
    return [[key, of_a.get(key, ABSENT), of_b.get(key, ABSENT)] for key in keys]


def provenance_rows(a: Results, b: Results) -> list[list[str]]:
    """Rows of what, A's and B's; only those that one of them knows."""
    of_a, of_b = (facts(results.provenance or {}) for results in (a, b))
    rows = [[key, of_a.get(key, ABSENT), of_b.get(key, ABSENT)] for key in dict.fromkeys([*of_a, *of_b])]
    packages = [(results.provenance or {}).get("packages") or {} for results in (a, b)]
    differing = [
        name for name in sorted({*packages[0], *packages[1]}) if packages[0].get(name) != packages[1].get(name)
    ]
    versions = (", ".join(f"{name} {of.get(name, ABSENT)}" for name in differing) or "none" for of in packages)
    return [*rows, [PACKAGES, *versions]]


def facts(record: dict) -> dict[str, str]:
    """Provenance as short texts by what they are."""
    git, model, machine = (record.get(key) or {} for key in ("git", "model", "hardware"))
    found = {
        "created": record.get("created"),
        "commit": git.get("commit") and git["commit"] + (" (with changes)" if git.get("dirty") else ""),
        "Python": record.get("python"),
        "lock": (record.get("lock") or {}).get("sha256"),
        "model": model.get("id"),
        "model revision": model.get("revision"),
        "model files": model.get("content"),
        "ruleset": (record.get("ruleset") or {}).get("sha256"),
        **{f"cases of {name}": of.get("sha256") for name, of in (record.get("data") or {}).items()},
        "machine": machine.get("cpu") and f"{machine.get('cores')} cores of {machine['cpu']}",
        "GPUs": ", ".join(gpu.get("name", "") for gpu in machine.get("gpus") or []) or "none",
        "operating system": machine.get("os"),
    }
    return {key: str(value) for key, value in found.items() if value}
