"""Record where a result came from (provenance.json) and the full config it was made with (config.resolved.yaml)."""

import json
import platform

import yaml

from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256, read_json, write_text
from hidden_rule.core.logs import logged
from hidden_rule.experiment.results import Results
from hidden_rule.report import provenance


def record_run(results: Results, lock, model, provenance_path, config_path) -> None:
    """Write both records; lock: path of the pip lock; model: paths of the base model's manifest, and of its inspection.

    Raises UserError where a fact cannot be found out.
    """
    config = results.config
    record = {
        "experiment": config["experiment"],
        "created": provenance.creation_time(),
        "git": provenance.git_state(),
        "lock": {"path": str(lock), "sha256": file_sha256(lock)},
        "python": platform.python_version(),
        "packages": provenance.locked_packages(lock),
        **provenance.engine_locks(config),
        "model": {**read_json(model[0]), "inspection": read_json(model[1])},
        "ruleset": {"path": config["ruleset"], "sha256": file_sha256(results.declared(config["ruleset"]))},
        **provenance.reward_hashes(results),
        **({"cases": own_files(results)} if results.ruleset.is_observed else {}),
        "data": provenance.data_hashes(results),
        "adapters": provenance.adapter_hashes(results),
        "hardware": provenance.hardware(),
        "timings": provenance.timings(results.costs),
        "config": config,
    }
    _refuse_unknown(provenance_path, record)
    write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", provenance_path)
    write_text(yaml.safe_dump(config, sort_keys=True, allow_unicode=True), config_path)


def own_files(results: Results) -> list[dict]:
    """Path and hash of the file of cases, and of that of stated rules if there is one."""
    data = results.config["data"]
    paths = [data[key] for key in ("path", "ruleset") if key in data]
    return [{"path": path, "sha256": file_sha256(results.declared(path))} for path in paths]


def _refuse_unknown(provenance_path, record, key: str = "") -> None:
    """A fact that is missing must stop, not stand in the record as an empty value."""
    if isinstance(record, dict):
        for name, value in record.items():
            if (key, name) not in (("", "config"), ("", "model")):  # there an empty value has a meaning
                _refuse_unknown(provenance_path, value, f"{key}.{name}".lstrip("."))
    elif record is None or (isinstance(record, str) and record.strip().lower() in ("", "unknown")):
        raise UserError(provenance_path, key, "could not be found out", "see the log for what was tried")


if "snakemake" in globals():
    from pathlib import Path

    with logged(snakemake.log[0]):
        record_run(
            Results(Path(snakemake.output.config).parent, snakemake.params.config, snakemake.input),
            lock=snakemake.input.lock,
            model=(snakemake.input.model, snakemake.input.inspection),
            provenance_path=snakemake.output.provenance,
            config_path=snakemake.output.config,
        )
