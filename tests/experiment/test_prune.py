"""What `make prune` removes, what it leaves, and what it refuses; what `make clean` and `make clean-all` remove."""

import json
import os
import shutil
import subprocess
import sys

import pytest

import write_manifest
from bad_inputs import the_line
from conftest import ROOT
from hidden_rule.core import manifest as verify
from hidden_rule.experiment.prune import prune

RESULTS = {  # of a finished experiment
    "metrics.parquet": 3000,
    "report.html": 50_000,
    "data/train.parquet": 700,
    "adapters/sft/seed0/adapter_model.safetensors": 9000,
    "training/sft/seed0/history.parquet": 800,
}
BESIDE = {
    "logs/train/sft_seed0.log": 200_000,
    "logs/evaluate/sft_seed0.log": 100_000,
    "benchmarks/train/sft_seed0.tsv": 100_000,
    "checkpoints/sft/seed0/abc/checkpoint-8/optimizer.pt": 1_500_000,
    "data/.4711.train.parquet": 100_000,
    "adapters/sft/.seed0.4711.tmp/adapter_model.safetensors": 100_000,
}


def write(folder, files, filled="x"):
    for name, size in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(filled * size)


@pytest.fixture
def root(tmp_path):
    """A folder with the finished experiment `mine`, and what nobody needs any more."""
    folder = tmp_path / "results" / "mine"
    write(folder, BESIDE | RESULTS)
    write_manifest.write_manifest([folder / name for name in RESULTS], folder / "manifest.json")
    for path in (folder / "checkpoints").rglob("*"):
        os.utime(path, (0, 0))
    (tmp_path / "results" / "models").mkdir()
    (tmp_path / "results" / "other").mkdir()
    return tmp_path


def files(root):
    folder = root / "results" / "mine"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}


def test_what_nothing_reads_goes_and_the_results_stay(root):
    assert prune("mine", root=root) == [
        f"{root}/results/mine: 2.1 MB removed",
        "  checkpoints       1.5 MB  1 file: of trainings that ended",
        "  logs              0.3 MB  2 files: what jobs printed",
        "  benchmarks        0.1 MB  1 file: time and memory of jobs, as Snakemake measured them",
        "  leftovers         0.2 MB  2 files: half-written",
    ]
    assert files(root) == {*RESULTS}
    assert verify.faults(root / "results" / "mine") == []
    assert prune("mine", root=root) == [f"{root}/results/mine: nothing to remove"]


def test_a_dry_run_says_the_same_and_removes_nothing(root):
    before = files(root)
    said = prune("mine", dry=True, root=root)
    assert said[0].endswith("2.1 MB would be removed") and files(root) == before
    assert prune("mine", root=root)[1:] == said[1:]


@pytest.mark.parametrize("keep", ["logs checkpoints", "checkpoints,logs", " logs,  checkpoints,"])
def test_parts_that_are_kept(root, keep):
    prune("mine", keep, root=root)
    assert files(root) == {*RESULTS} | {name for name in BESIDE if name.startswith(("logs", "checkpoints"))}


def locked(root):
    lock = root / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/other/a.parquet\nresults/mine/report.html\n")


def training(root):
    later = (root / "results/mine/manifest.json").stat().st_mtime + 1  # a file system's clock may stand for some ms
    os.utime(root / "results/mine/checkpoints/sft/seed0/abc/checkpoint-8/optimizer.pt", (later, later))


def linked(part):
    def link(root):
        folder = root / "results" / "mine"
        shutil.move(folder / part, root / "elsewhere")
        (folder / part).symlink_to(root / "elsewhere")

    return link


def linked_experiment(root):
    (root / "results" / "mine").rename(root / "elsewhere")
    (root / "results" / "mine").symlink_to(root / "elsewhere")


def manifest_of_another(root):
    path = root / "results" / "mine" / "manifest.json"
    path.write_text(json.dumps({"../../../secret": {"bytes": 1, "sha256": "0"}}))


DAMAGES = {
    "a run": (locked, "is locked by a run, or by one that was killed; wait for its end; if none runs: snakemake --un"),
    "a training since then": (training, "was written after the run was finished: a training goes on"),
    "no manifest": (lambda root: (root / "results/mine/manifest.json").unlink(), "not finished: it has no manifest.js"),
    "a damaged one": (lambda root: (root / "results/mine/manifest.json").write_text("{"), "is damaged"),
    "one that leads out": (manifest_of_another, "names '../../../secret', which is no file of the folder"),
    "a result that is missing": (lambda root: (root / "results/mine/report.html").unlink(), "report.html: is missing;"),
    "altered results": (lambda root: write(root / "results/mine", RESULTS, "y"), "was altered, as 4 others; run the e"),
    "logs elsewhere": (linked("logs"), "results/mine/logs: is a link; delete it by hand, or leave it: KEEP=logs"),
    "checkpoints elsewhere": (linked("checkpoints"), "results/mine/checkpoints: is a link"),
    "an experiment elsewhere": (linked_experiment, "results/mine: is a link; name the experiment that it leads to"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_refused_loses_nothing(root, name, monkeypatch):
    damage, words = DAMAGES[name]
    damage(root)
    monkeypatch.chdir(root)  # a line with the long path of a test's folder is a long one
    before = sorted(os.fspath(path) for path in root.rglob("*"))
    assert words in the_line(lambda: prune("mine"))
    assert sorted(os.fspath(path) for path in root.rglob("*")) == before


def test_a_run_of_another_experiment_is_none_of_this_one(root):
    locked(root)
    lock = root / ".snakemake" / "locks" / "0.output.lock"
    lock.write_text("results/other/a.parquet\nresults/mine2/b.parquet\n")
    assert prune("mine", root=root)[0].endswith("removed")


NAMES = {
    "": "EXPERIMENT: is missing; name an experiment",
    "results/mine": "'results/mine' is no experiment; give its name",
    "../mine": "'../mine' is no experiment",
    "..": "'..' is no experiment",
    ".": "'.' is no experiment",
    "/": "'/' is no experiment",
    "mine\n": "is no experiment",
    "*": "'*' is no experiment",
    "models": "'models' is no experiment",
    "published": "'published' is no experiment",
    "mien": "results/mien: does not exist; did you mean mine?",
    "other": "results/other: holds a run that is not finished",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_finished_experiment(root, name):
    before = files(root)
    assert NAMES[name] in the_line(lambda: prune(name, root=root)).replace(f"{root}/", "")
    assert files(root) == before


def test_what_is_kept_and_said_is_one_line(root):
    assert "KEEP: 'log' is no part; did you mean logs?" in the_line(lambda: prune("mine", "log", root=root))
    command = [sys.executable, "-m", "hidden_rule.experiment.prune", "--dry", "maybe", "--", "mine"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, "error: make prune: DRY: 'maybe' is neither yes nor no; write DRY=yes\n"
    )  # fmt: skip


def test_links_within_a_part_are_removed_and_not_followed(root):
    outside = root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x" * 1_000_000)
    (root / "results/mine/logs/train/link").symlink_to(outside)
    (root / "results/mine/data/.12.link").symlink_to(outside)
    assert prune("mine", root=root)[0].endswith("2.1 MB removed")
    assert (outside / "precious").is_file() and files(root) == {*RESULTS}


# --- make clean -------------------------------------------------------------------------------------------------------

KEPT = ["results/mine/report.html", "results/models/a/manifest.json", "results/published/metrics.parquet",
        ".snakemake/metadata/a", ".snakemake/conda/a", "src/a.py", "config.yaml", "__pycache__/of_nobody"]  # fmt: skip
CACHES = [".pytest_cache/a", ".ruff_cache/a", "src/p/__pycache__/a.pyc", "site/index.html", "sbom/a.json"]
ENVIRONMENTS = [".venv/bin/python", ".venv-docs/a", ".venv-audit/a", ".engines/verl/a"]


@pytest.mark.parametrize(("target", "gone"), [("clean", CACHES), ("clean-all", CACHES + ENVIRONMENTS)])
def test_cleaning_keeps_what_a_rerun_needs(tmp_path, target, gone):
    for name in (*KEPT, *CACHES, *ENVIRONMENTS):
        write(tmp_path, {name: 1})
    for name in ("bench", "tests", "workflow"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", target], cwd=tmp_path, check=True, capture_output=True)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} - {"Makefile"}
    assert left == {*KEPT, *CACHES, *ENVIRONMENTS} - {*gone}
