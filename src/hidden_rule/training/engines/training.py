"""One condition and seed trained by an engine: the start that every method has, and the files that every method writes.

A module of an engine knows its own commands, checkpoints and logs (`run.Engine`). What is equal for all stands here and
beside: start, prompts and their order, reward door, processes and their end, validation, history, costs.

Where it departs from TRL's trainings:
- Validation is of the start and of the trained adapter, not of each epoch.
- A killed training goes on from the engine's own checkpoints, saved every `checkpoint.steps`, or after each epoch.
"""

import gc
import logging
import shutil
from dataclasses import replace

import torch

from hidden_rule.models.adapters import load_adapter, save_adapter
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.finite import NotFiniteError
from hidden_rule.models.hardware import use_threads
from hidden_rule.models.loading import load_model
from hidden_rule.training.engines.account import Clock, Progress, write_account
from hidden_rule.training.engines.preparation import prepare_run
from hidden_rule.training.engines.processes import Processes, failure
from hidden_rule.training.engines.rollouts import check_complete, check_rollouts, read_rollouts, steps_of
from hidden_rule.training.engines.run import Engine, EngineRun
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.launch import Place
from hidden_rule.training.output import adapter_base
from hidden_rule.training.start import Start, load_start
from hidden_rule.training.watcher import CPU_BATCH, validation_metrics

log = logging.getLogger(__name__)


def train_by_engine(engine: Engine, method: str, job: TrainingJob, place: Place):
    """Train, and write the adapter's folder, the training's history and its cost; returns the trained model."""
    use_threads(place.threads_each)
    try:
        return _train(engine, method, job, place)
    except NotFiniteError as error:
        raise error.of(job) from None


def _train(engine: Engine, method: str, job: TrainingJob, place: Place):
    start = load_start(job)
    clock, device = Clock(start.begun), start.device
    first = label_probs(start.model, start)
    before = validation_metrics(first, first, start.validation.labels, start.ruleset.labels)
    run = prepare_run(engine.name, method, job, start, place)
    clock.go_on(run.folder)
    start = replace(start, model=None)  # its memory is the engine's now
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    supervise(engine, run, clock)
    steps = steps_of(read_rollouts(run.rollouts), job.settings["batch_size"])
    check_complete(steps, run.n_steps, job.settings["batch_size"] * job.settings["group_size"], place.log)
    folder = engine.adapter(run)
    model = load_adapter(load_model(job.base.manifest, job.base.dtype, device), folder, trainable=False)
    after = validation_metrics(label_probs(model, start), first, start.validation.labels, start.ruleset.labels)
    save_adapter(model, job.output.adapter, adapter_base(job.base))
    write_account(run, start, engine.logged(run), [before, after], clock)
    shutil.rmtree(run.folder.parents[1], ignore_errors=True)  # the root of the job's checkpoints
    return model


def label_probs(model, start: Start) -> torch.Tensor:
    """Log-probabilities (B, L) of the valid replies to the validation cases, structured; `model`: a PEFT model."""
    batch = CPU_BATCH if start.device.type == "cpu" else 16
    return label_log_probs(model.eval().get_base_model(), start.trie, start.validation.prompts, batch)


def supervise(engine: Engine, run: EngineRun, clock: Clock) -> None:
    """Run the engine's processes to the training's end; raises UserError with one line if they fail."""
    rule_log = run.place.log
    rule_log.parent.mkdir(parents=True, exist_ok=True)
    began = rule_log.stat().st_size if rule_log.exists() else 0
    if saved := engine.saved(run):
        log.warning("resuming from %s's checkpoint of step %d", engine.name, saved)
    with Processes(rule_log) as processes, Progress(engine, run, clock, processes) as progress:
        status = 0 if saved >= run.n_steps else engine.train(run, processes, progress.look)
    check_rollouts(run.rollouts, engine.name, rule_log)
    if status:
        raise failure(rule_log, began, engine.name, status)
