"""Kill the smoke experiment at random moments, again and again, and compare it with one that nobody disturbed.

    python tests/torture.py --runs 50 --jobs 2      # an hour on two quiet cores; CI runs it once (test_torture.py)

Each run starts from nothing, with seeds of its own for data and training. It is killed (SIGKILL: the whole run, or the
process of one job) after a random time and started again with the same command, until it ends well. After a kill of the
whole run `snakemake --unlock` is called, as the README says; nothing else is. What must hold: predictions, metrics and
adapters are byte for byte those of the undisturbed run, no job that had finished runs again, and nothing half-written
is left.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from conftest import CORES, SMOKE, Checkout

COMPARED = ("predictions/*/seed*.parquet", "metrics.parquet", "comparisons.parquet", "adapters/*/*/*.safetensors")


def fingerprints(checkout: Checkout) -> dict[str, str]:
    """SHA-256 of every file that has to repeat; costs hold seconds and do not."""
    results = checkout.folder / "results" / "smoke"
    paths = sorted(
        path for pattern in COMPARED for path in results.glob(pattern) if not path.name.endswith("cost.parquet")
    )
    return {str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def jobs_in(log: str) -> tuple[set[str], set[str]]:
    """What Snakemake says it started and what it says had finished."""
    names = dict(re.findall(r"^Job (\d+): (.+)$", log, re.MULTILINE))
    finished = re.findall(r"^Finished jobid: (\d+) ", log, re.MULTILINE)
    return set(names.values()), {names[job] for job in finished if job in names}  # `all` has no message


def scripts_below(pid: int) -> list[psutil.Process]:
    """The processes below a run that are a job's script (not the shell around it)."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, IndexError):
                words = process.cmdline()
                if "python" in Path(words[0]).name and any("/.snakemake/scripts/" in word for word in words):
                    found.append(process)
    return found


def is_gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def kill_run(pid: int) -> None:
    """SIGKILL for a run and all of its jobs at once; they are gone when this returns."""
    processes = psutil.Process(pid).children(recursive=True)
    os.killpg(pid, signal.SIGKILL)
    while not all(map(is_gone, processes)):
        time.sleep(0.05)


def disturb(checkout: Checkout, arguments: tuple, rng: random.Random, longest_s: float) -> tuple[str, str]:
    """Start the experiment and kill it or one of its jobs after a random time.

    Returns what came of it (`run` or `job`: that was killed; `ended`, `failed`: without being disturbed) and what
    Snakemake said.
    """
    log_path = checkout.folder.with_suffix(".log")
    command = [sys.executable, "-m", "snakemake", "--cores", CORES, "--resources", "gpu=1", *arguments]
    whom, wait_s, killed = rng.choice(["run", "job"]), rng.uniform(0, longest_s), ""
    with open(log_path, "w") as log:
        where = {"cwd": checkout.folder, "env": checkout.environment}
        started = subprocess.Popen(command, **where, stdout=log, stderr=log, start_new_session=True)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(wait_s)
            while not killed and started.poll() is None:
                if whom == "run":
                    kill_run(started.pid)
                    killed = whom
                elif jobs := scripts_below(started.pid):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        rng.choice(jobs).kill()
                        killed = whom
                time.sleep(0.05)
            status = started.wait()
        finally:
            if started.poll() is None:  # the torture itself was stopped
                kill_run(started.pid)
    if killed == "run":
        unlock = [sys.executable, "-m", "snakemake", "--unlock"]
        subprocess.run(unlock, cwd=checkout.folder, env=checkout.environment, check=True, capture_output=True)
    what = "ended" if status == 0 else killed or "failed"
    return what, log_path.read_text(errors="replace")


def torture(seed: int, folder: Path, arguments: tuple, expected: dict, kills: int, longest_s: float) -> list[str]:
    """One experiment from nothing to its end, killed up to `kills` times; what was killed. Raises AssertionError.

    `arguments` are those of the undisturbed run, whose fingerprints are `expected`.
    """
    rng, checkout, done, finished = random.Random(seed), Checkout(folder), [], set()
    while True:
        patience_s = longest_s if len(done) < kills else 1e6
        what, log = disturb(checkout, arguments, rng, patience_s)
        started, ended = jobs_in(log)
        assert not started & finished, f"ran again though it had finished: {started & finished}"
        finished |= ended
        if what == "ended":
            break
        assert what != "failed", f"failed though nobody disturbed it: {log[-3000:]}"
        done.append(what)
    found = fingerprints(checkout)
    assert found == expected, {name: (found.get(name), value) for name, value in expected.items()}
    results = checkout.folder / "results"
    left = [path for path in results.rglob("*") if path.name.startswith(".")]
    left += [path for path in (results / "smoke" / "checkpoints").rglob("*") if path.is_file()]
    assert not left, f"left behind: {left}"
    return done


def undisturbed(folder: Path, arguments: tuple, known: dict) -> tuple[str, dict[str, str]]:
    """A name for sources and arguments, and the fingerprints of a run that nobody disturbs: made, or among `known`."""
    checkout = Checkout(folder)
    listed = ["git", "ls-tree", "HEAD", "config.yaml", "experiments", "rulesets", "src", "workflow"]
    sources = subprocess.run(listed, cwd=folder, check=True, capture_output=True).stdout
    key = f"{hashlib.sha256(sources).hexdigest()} {' '.join(Path(word).name for word in arguments)}"
    if key not in known:
        checkout.run(*arguments)
    found = known.get(key) or fingerprints(checkout)
    shutil.rmtree(folder)
    return key, found


def main() -> int:
    """Run the torture by hand; the exit status is 1 if a run failed, whose folder is then kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="number of the first run: it seeds the moments of kills")
    parser.add_argument("--seeds", type=int, default=10, help="of data and training: run n has seed n modulo this")
    parser.add_argument("--kills", type=int, default=3, help="kills a run, at the most")
    parser.add_argument("--longest", type=float, default=40, help="seconds to the next kill, at the most")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--cores", type=int, default=1, help="of each run, the undisturbed ones too")
    parser.add_argument("--known", type=Path, help="JSON file that keeps the undisturbed runs' hashes between calls")
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(options.cores))
    base = Path(tempfile.mkdtemp(prefix="torture"))
    runs = range(options.first, options.first + options.runs)
    arguments, killed, n_failed, began = {}, [], 0, time.monotonic()
    for seed in sorted({run % options.seeds for run in runs}):
        overlay = base / f"seed{seed}.yaml"
        overlay.write_text(f"seeds: [{seed}]\ndata: {{seed: {seed}}}\n")
        arguments[seed] = ("--cores", str(options.cores), *SMOKE, str(overlay))

    def one(run: int) -> str:
        nonlocal n_failed
        seed, folder, start = run % options.seeds, base / f"run{run}", time.monotonic()
        try:
            done = torture(run, folder, arguments[seed], expected[seed], options.kills, options.longest)
        except (AssertionError, subprocess.SubprocessError) as error:
            n_failed += 1
            return f"run {run}, seed {seed}: FAILED: {error}; see {folder}"
        killed.extend(done)
        shutil.rmtree(folder)
        words = ", ".join(done) or "nothing"
        return f"run {run}, seed {seed}: killed {words}; equal after {time.monotonic() - start:.0f} s"

    known = json.loads(options.known.read_text()) if options.known and options.known.exists() else {}
    with ThreadPoolExecutor(options.jobs) as pool:
        folders = [base / f"undisturbed{seed}" for seed in arguments]
        found = list(pool.map(undisturbed, folders, arguments.values(), [known] * len(folders)))
    if options.known:
        options.known.write_text(json.dumps(known | dict(found), indent=1))
    expected = dict(zip(arguments, (hashes for _, hashes in found), strict=True))
    print(f"{len(expected)} undisturbed runs known after {time.monotonic() - began:.0f} s", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(one, runs):
            print(line, flush=True)
    print(
        f"{len(runs) - n_failed} of {len(runs)} runs equal in {time.monotonic() - began:.0f} s; kills: "
        f"{killed.count('run')} of the run, {killed.count('job')} of a job",
        flush=True,
    )
    if not n_failed:
        shutil.rmtree(base)
    return n_failed > 0


if __name__ == "__main__":
    sys.exit(main())
