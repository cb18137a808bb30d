"""Where a result came from: code, environment, model, data, hardware and time. What cannot be found out is an error."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psutil

from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_sha256
from hidden_rule.core.tables import read_table
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.reward_settings import reward_file
from hidden_rule.task.dataset import SPLITS


def git_state(folder=".") -> dict:
    """`commit` of the checkout around `folder`, and whether it is `dirty` (changed or untracked files)."""

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
        except FileNotFoundError:
            raise UserError("git", None, "is not installed, so the code has no version", "install git") from None
        except subprocess.CalledProcessError as error:
            reason = next(iter(error.stderr.strip().splitlines()), f"exit status {error.returncode}")
            remedy = "run in a git checkout with a commit (git clone, or: git init, git add --all, git commit)"
            raise UserError(Path(folder).resolve(), None, f"the code has no version ({reason})", remedy) from None
        return done.stdout.strip()

    return {"commit": git("rev-parse", "--verify", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def locked_packages(lock_path) -> dict[str, str]:
    """Installed versions of the packages that a pip lock names; those that are not installed here are left out."""
    names = re.findall(
        r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*==", Path(lock_path).read_text(encoding="utf-8"), re.MULTILINE
    )
    packages = {}
    for name in sorted({name.lower() for name in names}):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if not packages:
        raise UserError(lock_path, None, "names no package that is installed", "install it: pip install -r <lock>")
    return packages


def hardware() -> dict:
    """`cpu`, `cores`, `memory_bytes`, `gpus` (empty without one) and `os` of this machine."""
    return {
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
        "os": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        if named:
            return named[1].strip()
    if platform.system() == "Darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
    name = platform.processor() or platform.machine()  # Linux on ARM names the architecture only
    if not name:
        raise UserError("hardware", "cpu", "cannot be found out", "run on Linux or macOS")
    return name


def _gpus() -> list[dict]:
    """Each NVIDIA GPU: `name`, `memory_bytes`, `driver`."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, check=False, capture_output=True, text=True)
    if done.returncode != 0:  # the tool without a working device
        return []
    rows = [[cell.strip() for cell in line.rsplit(",", 2)] for line in done.stdout.strip().splitlines()]
    return [{"name": name, "memory_bytes": int(mib) * 2**20, "driver": driver} for name, mib, driver in rows]


def timings(costs: pl.DataFrame) -> list[dict]:
    """Wall seconds of each condition, seed and stage, from table COSTS."""
    columns = ["condition", "seed", "stage", "wall_s"]
    return costs.select(columns).sort(columns[:3]).to_dicts()


def data_hashes(results: Results) -> dict:
    """`sha256` and `rows` of each split, and of the suites where there are any."""
    names = [*SPLITS, "suites"] if results.has_suites else SPLITS
    paths = {name: results.declared(results.layout.split(name)) for name in names}
    return {name: {"sha256": file_sha256(path), "rows": read_table(path).height} for name, path in paths.items()}


def reward_hashes(results: Results) -> dict[str, dict]:
    """`rewards`: SHA-256 of each file that a reward is taken from, by its path; nothing where there is none."""
    files = [file for of in results.settings.values() for file in reward_file(of["settings"])]
    hashes = {file: file_sha256(results.declared(file)) for file in dict.fromkeys(files)}
    return {"rewards": hashes} if hashes else {}


def engine_locks(config: dict) -> dict[str, dict]:
    """`engines`: of each that has an environment of its own what is installed there, and what it did; or nothing."""
    uses = [(condition.get("engine"), name) for name, condition in config["conditions"].items()]
    uses.append((config["evaluation"].get("engine"), "evaluation"))
    found = {
        name: {**of.installed(), "for": [use for engine, use in uses if engine == name]}
        for name, of in ENVIRONMENTS.items()
        if any(engine == name for engine, _ in uses)
    }
    return {"engines": found} if found else {}


def adapter_hashes(results: Results) -> dict[str, str]:
    """SHA-256 of each trained run's weights, by `condition/seed{seed}`."""
    paths = {run: results.layout.adapter(run) / "adapter_model.safetensors" for run in results.trained}
    return {f"{run.condition}/seed{run.seed}": file_sha256(results.declared(path)) for run, path in paths.items()}


def creation_time() -> str:
    """Now in UTC, ISO 8601, whole seconds; `SOURCE_DATE_EPOCH` in its stead where it is set (reproducible builds)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")
