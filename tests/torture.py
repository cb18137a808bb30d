"""Kill the smoke experiment at random moments, again and again, and compare it with one that nobody disturbed.

    python tests/torture.py --runs 50          # hours; CI runs it once (test_torture.py)

Each run starts from nothing. It is killed (SIGKILL: the whole run, or one job's process alone) after a random time and
started again with the same command, until it ends well. After a kill of the whole run `snakemake --unlock` is called,
as the README says. What must hold: predictions and metrics are byte for byte those of the undisturbed run, no job whose
outputs were complete runs again, and nothing half-written is left.
"""

import argparse
import base64
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

from conftest import SMOKE, Checkout

COMPARED = ("predictions/*/seed*.parquet", "metrics.parquet", "comparisons.parquet", "adapters/*/*/*.safetensors")


def fingerprints(checkout: Checkout) -> dict[str, str]:
    """SHA-256 of every file that has to repeat; costs hold seconds and do not."""
    results = checkout.folder / "results" / "smoke"
    paths = sorted(
        path for pattern in COMPARED for path in results.glob(pattern) if not path.name.endswith("cost.parquet")
    )
    return {str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def finished(checkout: Checkout) -> dict[Path, int]:
    """When each output was written whose job had ended well: Snakemake marks the others as incomplete."""
    folder = checkout.folder
    incomplete = {path.name for path in (folder / ".snakemake" / "incomplete").glob("*")}
    names = {base64.b64decode(name + "==").decode(errors="replace") for name in incomplete}
    patterns = ("predictions/*/seed*.parquet", "adapters/*/*/*", "training/*/*/*.parquet", "data/*.parquet")
    paths = [path for pattern in patterns for path in (folder / "results" / "smoke").glob(pattern)]
    return {path: path.stat().st_mtime_ns for path in paths if str(path.relative_to(folder)) not in names}


def jobs_of(process: subprocess.Popen) -> list[int]:
    """Process ids of the scripts that run below a run."""
    listed = subprocess.run(["ps", "-eo", "pid,pgid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, group, words in rows if int(group) == process.pid and "/.snakemake/scripts/" in words]


def disturb(checkout: Checkout, rng: random.Random, longest_s: float) -> str:
    """Start the experiment and kill it or one of its jobs after a random time; what was done, or `ended`."""
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--resources", "gpu=1", *SMOKE]
    with open(checkout.folder / "torture.log", "a") as log:
        process = subprocess.Popen(
            command,
            cwd=checkout.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            process.wait(rng.uniform(0, longest_s))
            return "ended"
        except subprocess.TimeoutExpired:
            pass
        jobs = jobs_of(process)
        if jobs and rng.random() < 0.5:
            os.kill(rng.choice(jobs), signal.SIGKILL)
            process.wait()
            return "a job"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # its files are closed
        subprocess.run([*command, "--unlock"], cwd=checkout.folder, check=True, capture_output=True)
        return "the run"


def torture(seed: int, folder: Path, expected: dict[str, str], kills: int, longest_s: float) -> list[str]:
    """One experiment from nothing to its end, killed `kills` times; what was killed. Raises AssertionError."""
    rng, checkout, done = random.Random(seed), Checkout(folder), []
    before: dict[Path, int] = {}
    for _ in range(kills):
        done.append(disturb(checkout, rng, longest_s))
        after = finished(checkout)
        again = [str(path) for path, written in before.items() if after.get(path) != written]
        assert not again, f"ran again though it had ended well: {again}"
        before = after
    checkout.run(*SMOKE)
    after = finished(checkout)
    assert not [path for path, written in before.items() if after.get(path) != written]
    found = fingerprints(checkout)
    assert found == expected, {name: (found.get(name), value) for name, value in expected.items()}
    left = [path for path in checkout.folder.glob("results/smoke/**/*") if path.name.startswith(".")]
    assert not left and not (checkout.folder / "results/smoke/checkpoints").exists(), left
    return done


def main() -> None:
    """Run the torture by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=4, help="kills a run, at the most")
    parser.add_argument("--longest", type=float, default=60, help="seconds to the next kill, at the most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Checkout(Path(folder) / "undisturbed")
        undisturbed.run(*SMOKE)
        expected = fingerprints(undisturbed)
        for seed in range(options.first_seed, options.first_seed + options.runs):
            done = torture(seed, Path(folder) / str(seed), expected, options.kills, options.longest)
            print(f"seed {seed}: killed {', '.join(done)}; equal", flush=True)


if __name__ == "__main__":
    main()
