"""The prompts of a training as a file that every engine reads alike: all its batches, in their order.

A row: `place` (its number in the file), `row` (that of the training split), `label`, `messages`, `tokens` (ids of the
prompt as every other step makes them), and, for a reward of the user's own, `case`. Each epoch is shuffled as TRL's
trainings are (`epoch_order.py`), and its rows that fill no batch are left out.
"""

import json
from pathlib import Path

import torch

from hidden_rule.task.dataset import read_split
from hidden_rule.task.reward_file import cases_of
from hidden_rule.training.job import TrainingJob
from hidden_rule.training.start import Start


def ordered_rows(n_rows: int, epochs: int, batch_size: int, seed: int) -> list[int]:
    """Numbers of the rows that are trained on, epoch by epoch, whole batches only."""
    whole = n_rows - n_rows % batch_size
    orders = (torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed + epoch)) for epoch in range(epochs))
    return [row for order in orders for row in order.tolist()[:whole]]


def write_prompts(job: TrainingJob, start: Start, path) -> int:
    """Write the file; returns how many rows it has."""
    split, settings = start.train, job.settings
    rows = ordered_rows(len(split.labels), settings["epochs"], settings["batch_size"], job.seed)
    cases = None
    if "file" in settings["reward"]:
        cases = cases_of(read_split(job.data.train, start.ruleset), start.ruleset)
    with Path(path).open("w", encoding="utf-8") as stream:
        for place, row in enumerate(rows):
            line = {"place": place, "row": row, "label": split.labels[row], "messages": split.conversations[row]}
            line |= {"tokens": split.prompts[row]} | ({"case": cases[row]} if cases else {})
            stream.write(json.dumps(line) + "\n")
    return len(rows)


def read_prompts(path) -> list[dict]:
    """The rows of the file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
