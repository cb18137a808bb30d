"""A checkout of its own to run the pipeline in, and one smoke run that tests share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "workflow" / "scripts"))  # as Snakemake does


class Checkout:
    """A copy of the working tree, committed, in which snakemake runs."""

    def __init__(self, folder: Path):
        self.folder = folder
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

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run snakemake here as a user would; what it printed is in `stdout` and `stderr`."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "snakemake", "--cores", "all", "--resources", "gpu=1", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env=environment, check=False)

    def run(self, *arguments: str) -> None:
        """`snakemake`, which has to end well."""
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]

    def planned(self, *arguments: str) -> set[str]:
        """The messages of the jobs that would run."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        lines = (done.stdout + done.stderr).splitlines()
        return {line.split(": ", 1)[1] for line in lines if line.startswith("Job ") and ": " in line}


SMOKE = ("--configfile", "experiments/smoke.yaml")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Checkout:
    """A checkout in which the smoke experiment has run. Tests leave it as they found it."""
    checkout = Checkout(tmp_path_factory.mktemp("smoke"))
    checkout.run(*SMOKE)
    return checkout


@pytest.fixture(scope="session")
def manifest(smoke) -> Path:
    """The embedded model's manifest."""
    return next(smoke.folder.glob("results/models/*/manifest.json"))
