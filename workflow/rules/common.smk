# What the rules repeat, and what makes Snakemake notice that a result is out of date.

import functools

from hidden_rule.core.compat_snakemake import shared_threads
from hidden_rule.core.errors import one_line_errors
from hidden_rule.core.files import content_hash
from hidden_rule.core.paths import WORKFLOW
from hidden_rule.core.sources import code_hash, schema_hash
from hidden_rule.models.files import FETCHED, HASHES, folder_content
from hidden_rule.models.job_resources import memory_mb, runtime_minutes, weights_bytes

# A rule, its script, and its folders of logs and benchmarks have one name.

ENVIRONMENT = "../../envs/hidden-rule.yaml"


def log_of(rule, job=None):
    """The log of a rule's only job, or of each."""
    return f"{RESULTS}/logs/{rule}/{job or rule}.log"


def benchmark_of(rule):
    """Time and memory of each run's job."""
    return f"{RESULTS}/benchmarks/{rule}/{{condition}}_seed{{seed}}.tsv"


MOST_THREADS = 8  # on a CPU, of a job that loads the model


def threads_with_model(wildcards):
    """CPU threads of a job that loads the model: jobs side by side (`--resources gpu=2`) share the cores."""
    return shared_threads(workflow, "gpu", most=MOST_THREADS)


def threads_of_states(wildcards):
    """All threads for the training cases: nothing else that loads the model has anything to do meanwhile."""
    return MOST_THREADS if wildcards.cases == "training" else threads_with_model(wildcards)


def small(mem_mb, runtime=10):
    """The resources of a job without a model; memory in MB, time in minutes."""
    return {"mem_mb": mem_mb, "runtime": runtime}


def with_model(processes=1, runtime=60, engine=lambda wildcards: False, limit=lambda wildcards: 0):
    """The resources of a job that loads the model into each of `processes`, by its size (models/job_resources.py).

    Asked for once, twice, three times as the job is submitted again. `runtime`: minutes with a small model; `engine` and
    `limit` say of a job whether another engine than TRL trains, and how many minutes the training may take by itself.
    """

    def mem_mb(wildcards, attempt):
        return attempt * memory_mb(weights_bytes(config["model"], MODEL_FOLDER), processes, engine(wildcards))

    def minutes(wildcards, attempt):
        return attempt * runtime_minutes(weights_bytes(config["model"], MODEL_FOLDER), runtime, limit(wildcards))

    return {"gpu": processes, "mem_mb": mem_mb, "runtime": minutes}


# What changes no result of a training reruns none: resources, not params.
UNSEEN = {
    "processes": config["launch"]["processes"],
    "strategy": config["launch"]["strategy"],
    "nodes": 1,  # all of a training's processes on one machine
    "checkpoint_steps": config["checkpoint"]["steps"],
    "checkpoint_minutes": config["checkpoint"]["minutes"],
    "tracking": ",".join(config["tracking"]) or "none",
}


# What results depend on. Snakemake looks into an input only if it is newer than the results, which a file that was moved
# here, or edited under a clock set back, is not; and of code it sees the time of the script's own file alone. So both are
# params too: `code`, the script and the modules that it imports, by meaning (core/sources.py), and `content`, the inputs
# that no job makes. profiles/default therefore leaves out Snakemake's trigger `code`. Where a run has it all the same
# (--workflow-profile none), a script that was touched runs again too, and Snakemake says why: more than is needed, never
# less. Only --rerun-triggers without `params` misses an edit of code, as it misses one of settings.


def code_of(script):
    """A param that follows the code of a script and of all that it imports; worked out where a job needs it."""
    return lambda wildcards: code_hash(WORKFLOW / "scripts" / f"{script}.py")


def training_code(wildcards):
    """The same of the script that trains a condition."""
    return code_of(f"train_{trainer_of(wildcards)}")(wildcards)


def content_of(*paths):
    """A param that follows files that no job makes, and what the schema fills into a ruleset."""
    made = [config["ruleset"]] if OWN_CASES else []
    return [content_hash(*(path for path in paths if path not in made)), schema_hash("ruleset.schema.yaml")]


# Of a local model's folder the hashes are kept, so that its files are read again only when one of them has changed.
with one_line_errors():
    LOCAL_MODEL = (
        folder_content(config["model"]["id"], f"{MODEL_FOLDER}/{HASHES}") if config["model"]["source"] == "path" else ""
    )


@functools.cache
def packaged_model():
    """What a packaged model is made by."""
    return code_hash(WORKFLOW.parent / "src" / "hidden_rule" / "models" / "package.py")


# What an inspection looks at beside the model, its settings and the ruleset.
INSPECTED = {
    "targets": config["lora"]["target_modules"],
    "last_layers": config["lora"]["last_layers"],
    "limits": reply_limits(config),
    "oracle": "oracle" in [condition.get("prompt") for condition in config["conditions"].values()],
    "examples": any(isinstance(condition.get("prompt"), dict) for condition in config["conditions"].values()),
}


def base_content(wildcards):
    """A param that follows what the base model's files hold, as far as `model` does not say it, whatever their times."""
    return packaged_model() if config["model"]["source"] == "package" else LOCAL_MODEL
