"""What an engine's training starts from, written into its folder once, and found there again by later attempts."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from hidden_rule.core.files import read_json, write_text
from hidden_rule.models.adapters import AdapterBase, save_adapter
from hidden_rule.models.files import loaded_files, model_folder
from hidden_rule.models.hardware import compute_dtype
from hidden_rule.models.tokens import stop_tokens
from hidden_rule.task.dataset import read_split
from hidden_rule.task.reward_file import added, load_reward
from hidden_rule.task.reward_trial import chosen_cases, try_reward
from hidden_rule.task.rewards import OwnRewards, TableRewards
from hidden_rule.training.engines.prompts import write_prompts
from hidden_rule.training.engines.reward_door import ERRORS, Door
from hidden_rule.training.engines.run import EngineRun
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.launch import Place
from hidden_rule.training.start import Start

READY, ATTEMPTS = "ready.json", "attempts"
TRIED = 32  # training rows of each label that a reward of the user's own is tried on


def prepare_run(engine: str, method: str, job: TrainingJob, start: Start, place: Place) -> EngineRun:
    """The run of a job, its folder complete; `start`: the job's, loaded."""
    if job.checkpoints is None:
        raise ValueError("an engine's training needs a folder for its checkpoints")
    settings = job.settings
    folder = (Path(job.checkpoints.root) / job.checkpoints.identity / engine).absolute()
    steps_an_epoch = len(start.train.labels) // settings["batch_size"]
    run = EngineRun(
        job=job,
        method=method,
        place=place,
        folder=folder,
        n_steps=steps_an_epoch * settings["epochs"],
        steps_an_epoch=steps_an_epoch,
        longest_prompt=max(map(len, start.train.prompts)),
        dtype=str(compute_dtype(job.base.dtype, start.device)).removeprefix("torch."),
        device=start.device.type,
        attempt=_attempt(folder),
    )
    if not (folder / READY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write(run, start)
        write_text(json.dumps({"n_steps": run.n_steps}), folder / READY)
    (run.rollouts / ERRORS).unlink(missing_ok=True)  # of an attempt before, whose reason may be gone: a full disk
    write_text(f"{run.attempt}\n", folder / ATTEMPTS)
    run.logs.mkdir(exist_ok=True)
    return run


def _attempt(folder: Path) -> int:
    """The number of the attempt that begins now, from 1."""
    try:
        return int((folder / ATTEMPTS).read_text()) + 1
    except (OSError, ValueError):
        return 1


def _write(run: EngineRun, start: Start) -> None:
    """Everything in a run's folder that does not depend on the engine."""
    job = run.job
    write_model(job, start, run.model)
    save_adapter(start.model, run.start, AdapterBase(str(run.model)))
    write_prompts(job, start, run.prompts)
    scale, ruleset = job.settings["reward"], start.ruleset
    rewards: TableRewards | OwnRewards
    if "file" not in scale:
        rewards = TableRewards(ruleset.labels, scale)
    else:
        own, rows = load_reward(scale["file"], scale["function"]), read_split(job.data.train, ruleset)
        cases = chosen_cases(rows, ruleset, TRIED)
        try_reward(own, ruleset.labels, cases)
        rewards = OwnRewards(own, ruleset.labels, cases)
        scale = {**scale, "file": str(Path(scale["file"]).absolute())}
    unit = largest_reward(rewards, start.train.labels) if run.method == "ppo" else 1.0
    Door(list(ruleset.labels), scale, str(run.prompts), str(run.rollouts), unit).write(run.door)


def largest_reward(rewards: TableRewards | OwnRewards, labels: list[str]) -> float:
    """The most points, in size, that a valid reply or an empty one earns; 1 where all earn nothing.

    In this unit values are near 1, which a critic reaches in few steps: Adam moves weights by the learning rate,
    whatever the loss. Of a reward of the user's own those to the cases that it is tried on.
    """
    n = len(rewards.cases) if isinstance(rewards, OwnRewards) else len(labels)
    right = [case["label"] for case in rewards.cases] if isinstance(rewards, OwnRewards) else labels
    valid, empty = rewards.of_replies(right, list(range(n))), rewards.earned([""] * n, right, list(range(n)))
    points = [sum(values) for row in zip(*valid.values(), strict=True) for values in zip(*row, strict=True)]
    return max(map(abs, [*points, *added(empty)])) or 1.0


def write_model(job: TrainingJob, start: Start, folder: Path) -> None:
    """A model's folder as an engine loads it: links to the weights, our tokenizer and template, neutral generation.

    Of its generation settings the tokens that end a reply are kept (`models/generation.py`).
    """
    tokenizer: Any = start.tokenizer
    tokenizer.save_pretrained(folder)
    stops = stop_tokens(tokenizer, start.model.get_base_model())
    GenerationConfig(eos_token_id=stops, pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)
    source = model_folder(read_json(job.base.manifest), job.base.manifest)
    for name, path in loaded_files(source).items():
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path.absolute())
