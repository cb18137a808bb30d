"""Real steps of an experiment's trainers and evaluations, timed: `python -m hidden_rule.planning.probe REQUEST ANSWER`.

A process of its own, as jobs are. Each kind of training runs for a few steps on the experiment's data, from a fresh
adapter, with one validation of some rows; then a batch of cases is scored and answered with the last adapter. Adapters
and tables go to a scratch folder. What a training measures beside that (curriculum, trackers) is left out.
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.files import read_json, write_text
from hidden_rule.core.laps import KEPT, STEP
from hidden_rule.core.offline import restrict_network
from hidden_rule.core.sources import code_hash
from hidden_rule.core.usage import Snapshot, cpu_seconds, waited_seconds
from hidden_rule.models.devices import lease_devices
from hidden_rule.models.files import HASHES, folder_content, known_record
from hidden_rule.models.startup import load_libraries
from hidden_rule.planning.jobs import results_of
from hidden_rule.task.build_dataset import build_dataset, build_own_dataset

SPLITS = ("train", "validation", "test", "holdout")
PARALLEL = 0.96  # share of a step in which each thread computes, on an idle machine with two cores


@dataclass(frozen=True)
class Request:
    """What is measured: the conditions whose steps are, and the prompts.

    steps: of each training, at most; rows: of a validation and an evaluation; seconds: that one training's steps may
    take, from the third one on; threads, gpus: of this process.
    """

    config: dict
    manifest: str  # of the model, which is prepared here where it was not yet
    conditions: list[str]
    prompts: list[str]
    steps: int
    rows: int
    seconds: float
    threads: int
    gpus: int


def data_files(config: dict, folder: Path) -> tuple[Path, dict[str, Path]]:
    """The ruleset and the splits: those of the experiment where it has them, else made in `folder`."""
    layout, ruleset = results_of(config).layout, Path(config["ruleset"])
    there = {name: layout.split(name) for name in SPLITS}
    if all(path.is_file() for path in (ruleset, *there.values())):
        return ruleset, there
    made, data = {name: folder / f"{name}.parquet" for name in SPLITS}, config["data"]
    if data["source"] == "file":
        ruleset = folder / "ruleset.yaml"
        build_own_dataset(data, made, ruleset)
    else:
        build_dataset(ruleset, {name: data[name] for name in SPLITS}, data["seed"], made)
    return ruleset, made


Range = tuple[float, float]  # at least, at most


@dataclass(frozen=True)
class Clocks:
    """Clocks of this process at one moment."""

    at: float = field(default_factory=time.perf_counter)
    waited_s: float = field(default_factory=waited_seconds)  # of this thread, for a core
    cpu_s: float = field(default_factory=cpu_seconds)

    def idle_s(self, threads: int, share: float = 1.0) -> Range:
        """Seconds from then to now as on an idle machine, between two bounds; of a `share` of the work."""
        now = Clocks()
        seconds = now.at - self.at - (now.waited_s - self.waited_s)
        return on_idle_machine(share * seconds, share * (now.cpu_s - self.cpu_s), threads)


def on_idle_machine(seconds: float, cpu_s: float, threads: int) -> Range:
    """Seconds that work would take on an idle machine: at least and at most.

    seconds: without those in which its own thread had no core; the threads that it waits for may have lacked one too.
    cpu_s: of all threads, which on an idle machine compute or spin for nearly the whole time, and on a busy one sleep
    where they wait for each other. On an idle machine both bounds agree. Where a GPU computes, seconds count.
    """
    import torch

    return (seconds if torch.cuda.is_available() else min(seconds, cpu_s / (PARALLEL * threads))), seconds


class ShortTraining:
    """One training of a few steps, and what its watcher saw."""

    def __init__(self, request: Request):
        self.request = request
        self.begun = self.ended = Clocks()  # of its loading, and after its last step
        self.ready = 0.0  # when its first step began, by time.perf_counter()
        self.before_s: Range = (0.0, 0.0)
        self.kept_s: Range | None = None  # of one row in frozen layers; None: nothing is kept
        self.validated_s: Range = (0.0, 0.0)  # of one row
        self.step_s: list[Range] = []

    def take_kept(self, laps, start) -> None:
        """Of what came before the first step, take out the time of keeping what frozen layers make of the rows."""
        for lap in laps:
            if lap.kind == KEPT:
                low, high = on_idle_machine(lap.ran_s, lap.cpu_s, self.request.threads)
                n_rows = len(start.train.labels) + len(start.validation.labels)
                self.kept_s = (low / n_rows, high / n_rows)
                self.before_s = (self.before_s[0] - low, self.before_s[1] - high)

    def watcher(self, start, micro_batch_size: int, patience: int = 0):
        """A watcher that ends the training after the steps that are asked for, and validates once."""
        from hidden_rule.training.watcher import Watcher

        trial, most = self, self.request.steps

        class TrialWatcher(Watcher):
            def validate(self, step):
                if step:
                    return
                trial.before_s, clocks = trial.begun.idle_s(1), Clocks()
                trial.take_kept(self.spending.meter.laps.laps, self.start)
                super().validate(step)
                share = 1 / len(self.start.validation.labels)
                trial.validated_s, trial.ready = clocks.idle_s(trial.request.threads, share), time.perf_counter()

            def on_step_end(self, args, state, control, **kwargs):
                super().on_step_end(args, state, control, **kwargs)
                late = state.global_step >= 3 and time.perf_counter() - trial.ready > trial.request.seconds
                if state.global_step >= most or late:
                    control.should_training_stop = True

            def on_train_end(self, args, state, control, **kwargs):
                trial.ended = Clocks()
                laps = self.spending.meter.laps.laps
                threads = trial.request.threads
                steps = [on_idle_machine(lap.ran_s, lap.cpu_s, threads) for lap in laps if lap.kind == STEP]
                trial.step_s = steps[len(steps) // 2 :]  # a training's first steps are slower than the others

        return TrialWatcher(start, micro_batch_size, patience)


def method_of(name: str):
    """The function that trains by a method, in our own environment; PPO, which only engines have, is timed as GRPO."""
    from hidden_rule.training import dpo, grpo, rft, rloo, sft

    methods = {"sft": sft.train_sft, "grpo": grpo.train_grpo, "rloo": rloo.train_rloo, "ppo": grpo.train_grpo}
    return (methods | {"rft": rft.train_rft, "dpo": dpo.train_dpo})[name]


def trial_settings(config: dict, condition: str) -> tuple[str, dict]:
    """A condition's method and settings, changed for a short trial: one epoch, no limit, rows in no order."""
    of = results_of(config).settings[condition]
    settings = {**of["settings"], "epochs": 1, "max_minutes": 0.0, "patience": 0}
    if of["method"] == "ppo":
        settings = {**config["grpo"], "estimator": "sampled", **settings, "epochs": 1}
    if "curriculum" in settings:
        settings["curriculum"] = {**settings["curriculum"], "by": "none"}
    return of["method"], settings


def measure_training(request: Request, condition: str, data: tuple[Path, dict[str, Path]], folder: Path) -> dict:
    """Seconds of a condition's steps, of a row of validation, and of what comes before and after them."""
    from hidden_rule.models.base import BaseModel
    from hidden_rule.training.job import TrainingData, TrainingJob, TrainingOutput
    from hidden_rule.training.start import load_start

    config, (ruleset, splits) = request.config, data
    method, settings = trial_settings(config, condition)
    job = TrainingJob(
        condition=condition,
        seed=config["seeds"][0],
        base=BaseModel.of(request.manifest, config["model"]),
        start_from=None,
        lora=config["lora"],
        settings=settings,
        data=TrainingData(ruleset, splits["train"], splits["validation"]),
        output=TrainingOutput(*(folder / name for name in ("adapter", "history.parquet", "cost.parquet"))),
        decoding=config["decoding"],
    )
    trial = ShortTraining(request)
    start = load_start(job)
    rows = settings["batch_size"] * (request.steps + 1)
    start = replace(start, train=start.train.head(rows), validation=start.validation.head(request.rows))
    method_of(method)(job, start, trial.watcher)
    return {
        "step_s": trial.step_s,
        "validated_s": trial.validated_s,
        "before_s": trial.before_s,
        "kept_s": trial.kept_s,
        "write_s": trial.ended.idle_s(1),
    }


def measure_evaluation(request: Request, prompt: str, data, adapter: Path | None) -> dict:
    """Seconds of a row that is scored, and of one to which a reply is generated, with a prompt."""
    from hidden_rule.models.base import BaseModel
    from hidden_rule.models.decoding import Generation, generate_replies, label_log_probs
    from hidden_rule.models.hardware import default_device
    from hidden_rule.models.loading import load_policy, load_tokenizer
    from hidden_rule.models.tokens import encode_prompts, label_trie
    from hidden_rule.task.dataset import read_split
    from hidden_rule.task.prompts import draw_examples, render_prompts
    from hidden_rule.task.ruleset import load_ruleset

    begun, config = Clocks(), request.config
    base = BaseModel.of(request.manifest, config["model"])
    ruleset, wanted = load_ruleset(data[0]), json.loads(prompt)
    tokenizer = load_tokenizer(base.manifest, base.chat_template_kwargs)
    cases = read_split(data[1]["holdout"], ruleset).head(request.rows)
    examples = None
    if isinstance(wanted, dict):
        examples = draw_examples(read_split(data[1]["train"], ruleset), wanted["examples"], config["seeds"][0])
    chats = render_prompts(ruleset, cases, wanted, examples)
    prompts = encode_prompts(tokenizer, chats, base.chat_template_kwargs)
    device = default_device()
    model = load_policy(base, device, adapter)
    trie, evaluation = label_trie(tokenizer, ruleset.labels), config["evaluation"]

    def timed(work) -> Range:
        clocks = Clocks()
        work()  # results are brought to the CPU, so that a GPU's work is done
        return clocks.idle_s(request.threads, 1 / len(prompts))

    result = {"loaded_s": begun.idle_s(1)}
    result |= {"structured_s": timed(lambda: label_log_probs(model, trie, prompts, evaluation["batch_size"]))}
    if evaluation["free"] or config["decoding"] == "free":
        generation = Generation(evaluation["batch_size"], evaluation["max_new_tokens"])
        result["free_s"] = timed(lambda: generate_replies(model, tokenizer, prompts, generation))
    return result


def prepare(request: Request) -> None:
    """Prepare the model where no job did yet; a Hub model has to be in the cache."""
    path, model = Path(request.manifest), request.config["model"]
    if path.is_file() and all(known_record(path).get(key) == model[key] for key in ("source", "id", "revision")):
        return
    from hidden_rule.models.prepare import prepare_model

    content = ""  # as `base_content` of workflow/rules/common.smk
    if model["source"] == "package":
        content = code_hash(Path(prepare_model.__code__.co_filename).with_name("package.py"))
    elif model["source"] == "path":
        content = folder_content(model["id"], path.with_name(HASHES))
    prepare_model(model, path, content, fetch=False)


def measure(request: Request) -> dict:
    """All measurements of a request."""
    began, created = time.time(), psutil.Process().create_time()
    lease_devices(request.gpus)
    load_libraries()
    from hidden_rule.models.hardware import compute_dtype, default_device, device_name, peak_bytes, use_threads

    use_threads(request.threads)
    with tempfile.TemporaryDirectory(prefix="hidden-rule-preflight-") as scratch:
        loaded, cpu_loaded, folder = time.time(), cpu_seconds(), Path(scratch)
        prepare(request)
        begun = Snapshot()
        data, trained, adapter = data_files(request.config, folder), {}, None
        for condition in request.conditions:
            trained[condition] = measure_training(request, condition, data, folder / condition)
            adapter = folder / condition / "adapter"
        asked = {prompt: measure_evaluation(request, prompt, data, adapter) for prompt in request.prompts}
        used = begun.usage()
    device = default_device()
    waited = used.waited_s or 0.0
    return {
        "libraries_s": (min(loaded - min(created, began), cpu_loaded), loaded - min(created, began)),
        "trained": trained,
        "asked": asked,
        "device": device_name(device),
        "dtype": str(compute_dtype(request.config["model"]["dtype"], device)).removeprefix("torch."),
        "peak_bytes": peak_bytes(device),
        "threads": request.threads,
        "waited_share": waited / max(1e-9, used.ran_s + waited),
    }


def main(request_path: str, answer_path: str) -> None:
    """Measure what a file asks for, and write the answer to another."""
    restrict_network()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    request = Request(**read_json(request_path))
    write_text(json.dumps(measure(request)), answer_path)


if __name__ == "__main__":
    with one_line_errors():
        if len(sys.argv) != 3:
            raise UserError("planning.probe", None, "takes two files", "run make preflight")
        main(*sys.argv[1:])
