"""Record where a result came from (provenance.json) and the full config it was made with (config.resolved.yaml)."""

import json
import platform

import yaml

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256, read_json, write_text
from hidden_rule.core.logs import logged
from hidden_rule.report import provenance


def record_run(
    config: dict,
    lock_path,
    manifest_path,
    ruleset_path,
    data_paths: dict,
    costs_path,
    provenance_path,
    config_path,
    adapter_paths: dict | None = None,
) -> None:
    """Write both records; `data_paths` by split (and `suites`), `adapter_paths` by `condition/seed` (may be left out).

    Raises UserError where a fact cannot be found out.
    """
    record = {
        "experiment": config["experiment"],
        "created": provenance.creation_time(),
        "git": provenance.git_state(),
        "lock": {"path": str(lock_path), "sha256": file_sha256(lock_path)},
        "python": platform.python_version(),
        "packages": provenance.locked_packages(lock_path),
        "model": read_json(manifest_path),
        "ruleset": {"path": str(ruleset_path), "sha256": file_sha256(ruleset_path)},
        "data": provenance.data_hashes(data_paths),
        "adapters": {name: file_sha256(path) for name, path in (adapter_paths or {}).items()},
        "hardware": provenance.hardware(),
        "timings": provenance.timings(costs_path),
        "config": config,
    }
    _refuse_unknown(provenance_path, record)
    write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", provenance_path)
    write_text(yaml.safe_dump(config, sort_keys=True, allow_unicode=True), config_path)


def _refuse_unknown(provenance_path, record, key: str = "") -> None:
    """A fact that is missing must stop, not stand in the record as an empty value."""
    if isinstance(record, dict):
        for name, value in record.items():
            if (key, name) not in (("", "config"), ("", "model")):  # there an empty value has a meaning
                _refuse_unknown(provenance_path, value, f"{key}.{name}".lstrip("."))
    elif record is None or (isinstance(record, str) and record.strip().lower() in ("", "unknown")):
        raise UserError(provenance_path, key, "could not be found out", "see the log for what was tried")


if "snakemake" in globals():
    with logged(snakemake.log[0]):
        record_run(
            config=snakemake.params.config,
            lock_path=snakemake.input.lock,
            manifest_path=snakemake.input.model,
            ruleset_path=snakemake.input.ruleset,
            data_paths={split: snakemake.input[split] for split in ("train", "validation", "test", "holdout")}
            | ({"suites": snakemake.input.suites[0]} if snakemake.input.suites else {}),
            costs_path=snakemake.input.costs,
            adapter_paths=dict(zip(snakemake.params.adapters, snakemake.input.adapters, strict=True)),
            provenance_path=snakemake.output.provenance,
            config_path=snakemake.output.config,
        )
