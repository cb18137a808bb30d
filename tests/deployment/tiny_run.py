"""A finished run of a tiny random model whose tokens are bytes: its conditions are evaluated by our own code."""

import json
from pathlib import Path

from tiny_export import FINCORP, write_adapter

from byte_models import byte_manifest
from hidden_rule.core.files import file_sha256
from hidden_rule.core.tables import METRICS, write_table
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.fit_reference import fit_reference
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput, ReferenceJob
from hidden_rule.experiment.results import Results
from hidden_rule.models.base import BaseModel
from hidden_rule.statistics.metrics import summarize_predictions
from hidden_rule.task.dataset import dataset_schema, draw_splits
from synthetic import write_results

WORLD = {  # a condition may have the name of what Python's dictionaries have
    "baseline": {"method": None},
    "sft": {"method": "sft"},
    "items": {"method": "sft"},
    "oracle": {"method": None, "prompt": "oracle"},
    "few": {"method": None, "prompt": {"examples": 2}},
    "logistic": {"method": None, "reference": "logistic"},
}
SIZES = {"train": 40, "validation": 4, "test": 8, "holdout": 24}
EVALUATION = {"engine": "transformers", "batch_size": 8, "max_new_tokens": 16, "structured": ["holdout"], "free": []}


def write_run(folder: Path, ruleset, splits, ruleset_path=FINCORP, **data) -> Results:
    """A finished run in `folder`, with one seed, of the conditions of WORLD; `data`: of its config's section."""
    folder.mkdir(parents=True)
    manifest = byte_manifest(folder.parent)
    world = {name: {"accuracy": 0.5, **facts} for name, facts in WORLD.items()}
    config = {"ruleset": str(ruleset_path), "experiment": "tiny <b>run</b>", "evaluation": EVALUATION}
    config |= {
        "model": {"id": "tiny", "source": "path", "revision": "", "dtype": "float32", "chat_template_kwargs": {}}
    }
    config |= {"data": {"source": "drawn", "seed": 0, **data}}
    results = write_results(folder, ruleset, world, config=config)
    for name, frame in splits.items():
        write_table(frame, results.layout.split(name), dataset_schema(ruleset))
    record = json.loads(manifest.read_text()) | {"inspection": {"facts": {"dtype": "float32"}}}
    results.layout.model.write_text(json.dumps(record))
    for seed, run in enumerate(results.trained):
        write_adapter(manifest, results.layout.adapter(run), seed)
    holdout = {"holdout": results.layout.split("holdout")}
    for run in results.runs:
        spec, output = (
            results.config["conditions"][run.condition],
            EvaluationOutput(results.layout.predictions(run), folder / "cost.parquet"),
        )
        train = results.layout.split("train")
        if "reference" in spec:
            job = ReferenceJob(run.condition, run.seed, spec["reference"], ruleset_path, train, holdout, output)
            fit_reference(job)
            continue
        adapter = results.layout.adapter(run) if run.method else None
        evaluate(
            EvaluationJob(
                run.condition, run.seed, BaseModel(manifest, "float32"), adapter, ruleset_path, holdout, EVALUATION,
                output, spec.get("prompt"), train,
            )
        )  # fmt: skip
    metrics, _ = summarize_predictions({run: results.layout.predictions(run) for run in results.runs}, ruleset)
    write_table(metrics, folder / "metrics.parquet", METRICS)
    provenance = {"config": results.config, "ruleset": {"path": str(ruleset_path), "sha256": file_sha256(ruleset_path)}}
    results.layout.provenance.write_text(json.dumps(provenance))
    return Results(folder, results.config, ruleset=ruleset)


def drawn_run(folder: Path, ruleset) -> Results:
    """The run with drawn applications."""
    return write_run(folder, ruleset, draw_splits(ruleset, SIZES, seed=0))
