"""How much slower a training step and an evaluation get when the machine does something else, by how threads wait.

    python bench/busy.py                     # every row, some 40 minutes: results/published/busy.json
    python bench/busy.py --beside nice0      # one row, the others kept

Beside each of `BESIDE` (programs that compute all the time), each column of `WAYS` does the same SFT step, and the same
evaluation of 32 applications, again and again, in a process of its own that lives throughout a row. They take turns:
only one of them computes at a time, the first seconds of a turn are not counted, and a cell is the median over the
measured steps of all turns.
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import measure
from measure import ROOT

THREADS = os.cpu_count() or 1
LOOP = "while True: pass"
PROGRAM = "import torch; torch.set_num_threads({n}); x = torch.randn(256, 256)\nwhile True: x = (x @ x).softmax(1)"
SPINNING = {"GOMP_SPINCOUNT": "300000"}  # libgomp's own default, said aloud: ours leaves it alone


@dataclass(frozen=True)
class Beside:
    """Programs that run beside what is measured."""

    words: str
    n: int
    nice: int = 0
    code: str = LOOP


BESIDE = {
    "nothing": Beside("nothing", 0),
    "nice10": Beside("one program, nice 10", 1, 10),
    "nice0": Beside("one program, nice 0", 1),
    "three_nice10": Beside("three programs, nice 10", 3, 10),
    "three_nice0": Beside("three programs, nice 0", 3),
    "threads": Beside(f"three programs of {THREADS} threads, nice 0", 3, 0, PROGRAM.format(n=THREADS)),
}


@dataclass(frozen=True)
class Way:
    """How the threads of a measured process wait."""

    words: str
    environment: dict[str, str]
    threads: int = THREADS


WAYS = {
    "ours": Way(f"ours, {THREADS} threads", {}),
    "spinning": Way(f"spinning (libgomp's default), {THREADS} threads", SPINNING),
    "short": Way(f"`GOMP_SPINCOUNT=10000`, {THREADS} threads", {"GOMP_SPINCOUNT": "10000"}),
    "passive": Way(f"`OMP_WAIT_POLICY=passive`, {THREADS} threads", {"OMP_WAIT_POLICY": "passive"}),
    "one": Way("one thread", {}, 1),
}
ITEMS = {"sft": "SFT, a step of 16 rows", "evaluate": "evaluation of 32 applications"}


def turns(what: str):
    """Wait for the parent's word, then yield as many times as there is time for, and answer with the seconds of each.

    A turn is a line of JSON: `warm_s`, then `seconds`, but at least `steps` whole ones.
    """
    for line in sys.stdin:
        turn = json.loads(line)
        if turn["what"] != what:
            continue
        began, ends = time.perf_counter(), []
        while len(ends) < turn["steps"] + 1 or ends[-1] < began + turn["warm_s"] + turn["seconds"]:
            yield
            ends.append(time.perf_counter())
            if ends[-1] < began + turn["warm_s"]:
                ends = ends[-1:]  # what is counted begins where warming up ends
        print(json.dumps([after - before for before, after in itertools.pairwise(ends)]), flush=True)


def work(what: str, threads: int, folder: Path) -> None:
    """A measured process: do one item again and again, in turns."""
    import torch

    import bench

    torch.set_num_threads(threads)
    setup = bench.load(folder, [])
    print("ready", flush=True)
    if what == "sft":
        train(setup)
        return
    from hidden_rule.models.decoding import label_log_probs

    model = setup.start.model.get_base_model().eval()
    for _ in turns(what):
        label_log_probs(model, setup.start.trie, setup.start.validation.prompts[:32], 32)


def train(setup: measure.Setup) -> None:
    """A training by SFT of 16 rows, a step an epoch, which goes on at the parent's word."""
    from hidden_rule.training.sft import train_sft
    from hidden_rule.training.watcher import Watcher

    pace = turns("sft")

    class PacedWatcher(Watcher):
        def validate(self, *args, **kwargs):
            pass

        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop |= next(pace, "end") == "end"

    settings = {**setup.config["sft"], "batch_size": 16, "micro_batch_size": 16, "epochs": 10_000}
    with tempfile.TemporaryDirectory() as folder:
        job = measure.training_job(setup.config, setup.manifest, {}, Path(folder), settings=settings)
        train_sft(job, setup.shortened(16).start, PacedWatcher)


class Process:
    """A measured process, from its parent's side."""

    def __init__(self, way: Way, what: str, folder: Path):
        command = [sys.executable, __file__, "--one", what, "--threads", str(way.threads), "--work", str(folder)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.what = what
        self.process = subprocess.Popen(command, env={**kept, "HF_HUB_OFFLINE": "1", **way.environment}, **pipes)

    def wait_until_ready(self) -> None:
        while (line := self.process.stdout.readline()) != "ready\n":
            if not line:
                sys.exit(f"{' '.join(self.process.args)} ended with {self.process.wait()}")

    def turn(self, **turn) -> list[float]:
        """Seconds of each step of a turn."""
        print(json.dumps({"what": self.what, **turn}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def beside(programs: Beside):
    """Run these programs."""
    command = ["nice", "-n", str(programs.nice), sys.executable, "-c", programs.code]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    running = [subprocess.Popen(command, env=environment) for _ in range(programs.n)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure_row(name: str, what: str, options) -> dict[str, list[float]]:
    """Seconds of every measured step beside one kind of programs, by way of waiting."""
    processes = {way: Process(WAYS[way], what, options.work) for way in options.ways}
    seconds = {way: [] for way in options.ways}
    try:
        for process in processes.values():
            process.wait_until_ready()
        for process in processes.values():
            process.turn(warm_s=0, seconds=0, steps=2)
        with beside(BESIDE[name]):
            time.sleep(3 if BESIDE[name].code != LOOP else 0)  # until they have started
            for _ in range(options.repeats):
                for way, process in processes.items():
                    seconds[way] += process.turn(warm_s=options.warm, seconds=options.seconds, steps=2)
                    print(f"{what} {name} {way}: {seconds[way]}", file=sys.stderr)
    finally:
        for process in processes.values():
            process.end()
    return seconds


def main(arguments=None) -> None:
    """Read the options; be a measured process, or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "results/published/busy.json")
    parser.add_argument("--work", type=Path, default=ROOT / "results/bench", help="where the data is kept")
    parser.add_argument("--items", nargs="+", choices=list(ITEMS), default=list(ITEMS))
    parser.add_argument("--beside", nargs="+", choices=list(BESIDE), default=list(BESIDE))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=3, help="turns a cell")
    parser.add_argument("--warm", type=float, default=4.0, help="seconds at a turn's start that are not counted")
    parser.add_argument("--seconds", type=float, default=6.0, help="that are counted, at least, and two steps")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--one", choices=list(ITEMS), help="be a measured process")
    options = parser.parse_args(arguments)
    if "ours" not in options.ways:
        parser.error("--ways: leaves out ours, which is compared with the others")
    options.output, options.work = options.output.resolve(), options.work.resolve()
    os.chdir(ROOT)
    if options.one:
        work(options.one, options.threads, options.work)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the programs beside end with this one
    import bench

    bench.draw(bench.inputs([])[0], options.work)  # once: the measured processes start together
    results = measure.circumstances()
    kept = json.loads(options.output.read_text()) if options.output.is_file() else {}
    results["words"] = {"items": ITEMS, "beside": {name: programs.words for name, programs in BESIDE.items()}}
    results["words"]["ways"] = {name: way.words for name, way in WAYS.items()}
    results["items"] = kept.get("items", {})
    for what in options.items:
        for name in options.beside:
            row = measure_row(name, what, options)
            results["items"].setdefault(what, {})[name] = row
            measure.write_json(results, options.output)
    from hidden_rule.report.documentation import busy_table

    print(busy_table(results))


if __name__ == "__main__":
    main()
