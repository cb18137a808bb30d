"""Faults around a whole run: moved, read-only and full folders, two runs at once, a wrong clock, damaged results."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from smoke_jobs import AGGREGATED, CASES, EVERYTHING, MANIFEST, PREPARE, SEARCH
from test_faults import mount

from conftest import CORES, SMOKE, Checkout
from hidden_rule.core import manifest as verify
from hidden_rule.experiment.prune import PARTS, prune
from torture import fingerprints


def said(done: subprocess.CompletedProcess) -> str:
    return done.stdout + done.stderr


def errors(done: subprocess.CompletedProcess) -> list[str]:
    """The lines that our own scripts end with; --show-failed-logs repeats them."""
    return sorted({line for line in said(done).splitlines() if line.startswith("error: ")})


@pytest.fixture(scope="module")
def moved(smoke, tmp_path_factory) -> Checkout:
    """The smoke run's checkout in another place, as `mv` leaves it: for tests that break it."""
    checkout = object.__new__(Checkout)
    checkout.folder = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.copytree(smoke.folder, checkout.folder, symlinks=True)
    return checkout


def test_a_moved_checkout_runs_nothing_again(smoke, moved):
    assert moved.planned(*SMOKE) == set()
    assert verify.main(str(moved.folder / "results" / "smoke")) == 0


def test_a_pruned_run_has_nothing_to_do(moved):
    folder = moved.folder / "results" / "smoke"
    assert prune("smoke", root=moved.folder)[0].endswith("MB removed")
    assert not any((folder / part).exists() for part in PARTS)
    assert moved.planned(*SMOKE) == set()
    assert verify.main(str(folder)) == 0


def test_results_that_came_alone_are_said_to_lack_their_record(smoke, tmp_path):
    other = Checkout(tmp_path / "other")
    shutil.copytree(smoke.folder / "results" / "smoke", other.folder / "results" / "smoke")
    assert verify.main(str(other.folder / "results" / "smoke")) == 0
    assert "missing provenance/metadata" in said(other.snakemake("-n", *SMOKE))


def test_two_runs_at_once_on_one_folder(moved):
    overlay = moved.folder.parent / "twice.yaml"
    overlay.write_text("experiment: twice\nconditions: {sft: false, grpo: false, sft_then_grpo: false}\n")
    predictions = "results/twice/predictions/baseline/seed0.parquet"
    arguments = [*SMOKE, str(overlay), "--", predictions]
    command = [sys.executable, "-m", "snakemake", "--cores", CORES, "--resources", "gpu=1", *arguments]
    first = subprocess.Popen(command, cwd=moved.folder, env=moved.environment, stderr=subprocess.DEVNULL)
    while not list(moved.folder.glob(".snakemake/locks/*")):
        assert first.poll() is None
        time.sleep(0.05)
    second = moved.snakemake(*arguments)
    assert first.wait() == 0
    assert second.returncode == 1
    assert "Directory cannot be locked" in said(second) and "Traceback" not in said(second)
    expected = moved.folder / predictions.replace("twice", "smoke")
    assert (moved.folder / predictions).read_bytes() == expected.read_bytes()


def test_a_folder_that_cannot_be_written(moved):
    results = moved.folder / "results"
    changed, new = moved.folder.parent / "changed.yaml", moved.folder.parent / "new.yaml"
    changed.write_text("sft: {learning_rate: 1.0e-4}\n")
    new.write_text("experiment: new\n")
    before = fingerprints(moved)
    mount("--bind", results, results)
    try:
        mount("-o", "remount,bind,ro", results)
        assert moved.snakemake(*SMOKE).returncode == 0  # nothing to do
        for overlay, words in [
            (changed, "Write-protected output files for rule"),
            (new, "Failed to create output directory results/new"),
        ]:
            done = moved.snakemake(*SMOKE, str(overlay))
            assert done.returncode == 1
            assert words in said(done) and "Traceback" not in said(done)
    finally:
        subprocess.run(["umount", str(results)], check=True)
    assert fingerprints(moved) == before and moved.planned(*SMOKE) == set()


def test_a_full_disk_and_then_room(moved):
    overlay = moved.folder.parent / "full.yaml"
    overlay.write_text("experiment: full\n")
    arguments = [*SMOKE, str(overlay), "--", "results/full/data/train.parquet"]
    disk = moved.folder / "results" / "full"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=12k", "tmpfs", disk)
    try:
        done = moved.snakemake(*arguments)
        assert done.returncode == 1
        assert [line for line in errors(done) if "No space left" in line and "run the same command again" in line]
        assert "Traceback" not in said(done)
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        moved.run(*arguments)
        for split in ("train", "test"):
            name = f"data/{split}.parquet"
            assert (disk / name).read_bytes() == (moved.folder / "results" / "smoke" / name).read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_damaged_run_says_so_and_is_mended_by_the_command_that_made_it(smoke, moved):
    folder = moved.folder / "results" / "smoke"
    adapter = folder / "adapters" / "grpo" / "seed0" / "adapter_model.safetensors"
    os.truncate(adapter, 100_000)
    done = moved.snakemake(*SMOKE)
    assert done.returncode == 1 and "Traceback" not in said(done)
    assert [line.split(" bytes")[0] for line in errors(done)] == [
        f"error: {adapter.relative_to(moved.folder)}: has 100,000"
    ]
    adapter.unlink()
    predictions = folder / "predictions" / "baseline" / "seed0.parquet"
    os.truncate(predictions, 1000)
    done = moved.snakemake(*SMOKE)
    assert done.returncode == 1 and "Traceback" not in said(done)
    assert [line.split(" (")[0] for line in errors(done)] == [
        f"error: {predictions.relative_to(moved.folder)}: is not a readable parquet file"
    ]
    predictions.unlink()
    moved.run(*SMOKE)
    assert fingerprints(moved) == fingerprints(smoke)


def test_a_model_setting_that_is_refused_is_refused_again(moved, tiny_manifest):
    """Also where an earlier setting was accepted, whose record Snakemake must not take for this one's."""
    accepted, refused = moved.folder.parent / "accepted.yaml", moved.folder.parent / "refused.yaml"
    accepted.write_text(f"experiment: other\nmodel: {{source: path, id: '{tiny_manifest.parent / 'model'}'}}\n")
    refused.write_text("model: {chat_template_kwargs: {enable_thinkng: false}}\n")
    target = ("--", "results/other/model.json")
    moved.run(*SMOKE, str(accepted), *target)
    for _ in range(2):
        done = moved.snakemake(*SMOKE, str(accepted), str(refused), *target)
        assert done.returncode == 1 and "Traceback" not in said(done)
        (line,) = errors(done)
        assert (
            "refused.yaml: model.chat_template_kwargs.enable_thinkng: is no key that the model's chat template" in line
        )


@pytest.fixture
def times(smoke):
    """Times of the smoke run's files, put back at the end."""
    paths = [path for path in smoke.folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    before = {path: path.stat().st_mtime_ns for path in paths}
    yield
    for path, written in before.items():
        if path.exists():
            os.utime(path, ns=(written, written))


def test_results_of_a_clock_that_was_ahead(smoke, times):
    results = sorted((smoke.folder / "results").rglob("*"))
    for path in results:
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 3_600_000_000_000))
    done = smoke.snakemake("-n", *SMOKE)
    assert done.returncode == 1 and "Traceback" not in said(done)
    assert len(errors(done)) == 1 and "the clock was set back" in errors(done)[0]
    command = ["find", "results", "-exec", "touch", "-r", "{}", "-d", "-1 day", "{}", ";"]  # as docs/faults.md says
    subprocess.run(command, cwd=smoke.folder, check=True)
    assert smoke.planned(*SMOKE) == set()


def test_an_edit_under_a_clock_set_back_is_seen(smoke, times):
    """Inputs that are older than the results: Snakemake's own comparison of times would see no edit."""
    ruleset, module = smoke.folder / "rulesets/fincorp.yaml", smoke.folder / "src/hidden_rule/statistics/intervals.py"
    for path, old, new, expected in [
        (ruleset, "nps >= 80", "nps >= 70", PREPARE | EVERYTHING | MANIFEST),
        (module, "import ", "CHANGED = 1\nimport ", SEARCH | (AGGREGATED - CASES) | MANIFEST),
    ]:
        before = path.read_text()
        assert old in before
        try:
            path.write_text(before.replace(old, new, 1))
            os.utime(path, (0, 0))
            assert smoke.planned(*SMOKE) == expected
        finally:
            path.write_text(before)


def test_inputs_newer_than_results_without_a_change(smoke, times):
    """As after a clone, or a step of the clock between two jobs."""
    for folder in ("workflow", "rulesets", "envs", "results/smoke/data"):
        for path in (smoke.folder / folder).rglob("*"):
            os.utime(path)
    assert smoke.planned(*SMOKE) == set()
