"""A checkout of its own to run the pipeline in, and one smoke run that tests share."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.tables import write_table
from hidden_rule.experiment.config import load_config
from hidden_rule.models.base import BaseModel
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.training.job import TrainingData, TrainingJob, TrainingOutput

pytest_plugins = ["suite_worlds"]  # its fixtures

ROOT = Path(__file__).resolve().parent.parent
CORES = "1" if "PYTEST_XDIST_WORKER" in os.environ else "all"  # of a run: tests beside each other share the machine


class Checkout:
    """A copy of the working tree, committed, in which snakemake runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.said = ""  # by the latest `run`
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in files:
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a copy"]):
            subprocess.run(git + command, cwd=folder, check=True)

    @property
    def environment(self) -> dict[str, str]:
        """For processes here: the package of this checkout, not the one that is installed."""
        return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(self.folder / "src")}

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run snakemake here as a user would; what it printed is in `stdout` and `stderr`."""
        command = [sys.executable, "-m", "snakemake", "--cores", CORES, "--resources", "gpu=1", *arguments]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env=self.environment, check=False
        )

    def run(self, *arguments: str) -> None:
        """`snakemake`, which has to end well."""
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        self.said = done.stderr

    def planned(self, *arguments: str) -> set[str]:
        """The messages of the jobs that would run."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        lines = (done.stdout + done.stderr).splitlines()
        return {line.split(": ", 1)[1] for line in lines if line.startswith("Job ") and ": " in line}


def pytest_collection_modifyitems(config, items):
    """What needs a finished run is slow. The slow come first, so that two processes end at about the same time.

    Trainings by other engines, which take minutes, run where they are asked for, and where their environment is.
    """
    for item in items:
        for engine in (name for mark in item.iter_markers("engines") for name in mark.args):
            fault = ENVIRONMENTS[engine].fault()
            if fault or "engines" not in config.option.markexpr:
                reason = "; ".join(fault) if fault else "takes minutes; run make test-engines"
                item.add_marker(pytest.mark.skip(reason=reason))
        if "smoke" in item.fixturenames:
            item.add_marker("slow")
    items.sort(key=lambda item: ("smoke" not in item.fixturenames, item.get_closest_marker("slow") is None))


SHARE_A_RUN = ("test_export", "test_faults", "test_faulty_runs", "test_pipeline", "test_reruns", "test_torture")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Of processes beside each other each runs whole files, and one those that share the finished run."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = Path(nodeid.partition("::")[0]).stem
            return "run" if name in SHARE_A_RUN else name

    return ByFile(config, log)


SMOKE = ("--configfile", "experiments/smoke.yaml")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Checkout:
    """A checkout in which the smoke experiment has run. Tests leave it as they found it."""
    checkout = Checkout(tmp_path_factory.mktemp("smoke"))
    checkout.run(*SMOKE)
    return checkout


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    """The embedded model's manifest: prepared once a session, without an experiment."""
    from hidden_rule.models.prepare import prepare_model  # not at the top: tests without a model start quicker

    path = tmp_path_factory.mktemp("model") / "manifest.json"
    prepare_model(load_config([ROOT / "config.yaml"])["model"], path)
    return path


@pytest.fixture(scope="session")
def tiny_manifest(manifest, tmp_path_factory) -> Path:
    """A tiny random model with the embedded model's tokenizer, as a local folder: generation costs nothing."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from hidden_rule.models.loading import load_tokenizer
    from hidden_rule.models.prepare import prepare_model

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(manifest.parent)
    config.update({"hidden_size": 36, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 4})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    load_tokenizer(manifest).save_pretrained(folder / "model")
    prepare_model({"source": "path", "id": str(folder / "model"), "revision": ""}, folder / "manifest.json")
    return folder / "manifest.json"


@pytest.fixture(scope="session")
def few_rows(tmp_path_factory) -> Path:
    """A folder of small splits of FinCorp's; the rows of `one_label` all have one, which a few steps must find."""
    folder, ruleset = tmp_path_factory.mktemp("data"), load_ruleset(ROOT / "rulesets/fincorp.yaml")
    splits = draw_splits(ruleset, {"train": 16, "validation": 8, "test": 8, "holdout": 8}, seed=0)
    # the untrained model answers so in some three cases of ten: rare enough to rise, often enough to be drawn
    one_label = splits["train"].filter(pl.col("label") == "REJECT_RISK")
    for name, frame in {**splits, "one_label": one_label}.items():
        write_table(frame, folder / f"{name}.parquet", dataset_schema(ruleset))
    return folder


@pytest.fixture(scope="module")
def jobs(manifest, few_rows, tmp_path_factory) -> SimpleNamespace:
    """`jobs.make(name, settings)`: the job of training the embedded model on a few rows, in a folder of its own."""
    config, folder = load_config([ROOT / "config.yaml"]), tmp_path_factory.mktemp("training")

    def make(name: str, settings: dict, train: str = "train", **changes) -> TrainingJob:
        root = folder / name
        job = TrainingJob(
            condition=name,
            seed=3,
            base=BaseModel.of(manifest, config["model"]),
            start_from=None,
            lora=config["lora"],
            settings=settings,
            data=TrainingData(
                ROOT / "rulesets/fincorp.yaml", few_rows / f"{train}.parquet", few_rows / "validation.parquet"
            ),
            output=TrainingOutput(root / "adapter", root / "history.parquet", root / "cost.parquet"),
        )
        return replace(job, **changes)

    return SimpleNamespace(make=make, config=config, folder=folder, data=few_rows)


@pytest.fixture(scope="module")
def tiny_jobs(jobs, tiny_manifest) -> SimpleNamespace:
    """`jobs` by the tiny model, in float32."""
    base = BaseModel(tiny_manifest, "float32", jobs.config["model"]["chat_template_kwargs"])

    def make(name: str, settings: dict, train: str = "train", **changes) -> TrainingJob:
        return jobs.make(name, settings, train, **{"base": base, **changes})

    return SimpleNamespace(make=make, base=base, config=jobs.config, folder=jobs.folder, data=jobs.data)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """`Results` of a finished run of a byte model, for tests of deployment, which leave it as they found it."""
    from tiny_run import drawn_run

    folder = tmp_path_factory.mktemp("project") / "results" / "tiny"
    return drawn_run(folder, load_ruleset(ROOT / "rulesets/fincorp.yaml"))
