"""Disk that an experiment takes, counted from its config; constants are of measured files."""

from dataclasses import dataclass

from hidden_rule.planning.jobs import Job
from hidden_rule.planning.model_facts import ModelFacts

KEPT = 3  # checkpoints of a training: two are kept, and a third is written before one is deleted
OF_CHECKPOINT = 12  # bytes a weight of LoRA: it and two moments of Adam, float32
OF_ADAPTER = 4
TOKENIZER = 12e6  # bytes beside each adapter and checkpoint: tokenizer.json is 3.5 MB of the embedded, 11 MB of Qwen3
PAGES = 25e6  # report, charts, page of cases
OF_ROW = 60  # bytes of an answered case in a table of predictions


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that are still to be written: with the results, and in the cache of fetched models."""

    model: float
    adapters: float
    checkpoints: float
    tables: float

    @property
    def results(self) -> float:
        return self.adapters + self.checkpoints + self.tables


def disk_need(
    config: dict, facts: ModelFacts, lora: int, jobs: list[Job], answered: int, at_once: int, states: float = 0.0
) -> DiskNeed:
    """The need of `jobs` that are to run; `lora`: weights of an adapter; `answered`: rows of all evaluations.

    at_once: trainings side by side, each with its checkpoints; states: bytes of those of frozen layers.
    """
    trained = [job for job in jobs if job.rule == "train"]
    model = 0.0
    if facts.folder is None and facts.shape and config["model"]["source"] != "path":
        model = float(facts.shape.bytes)
    saves = config["checkpoint"]["steps"] or config["checkpoint"]["minutes"]
    each = OF_CHECKPOINT * lora + TOKENIZER
    return DiskNeed(
        model=model,
        adapters=len(trained) * (OF_ADAPTER * lora + TOKENIZER),
        checkpoints=min(at_once, len(trained)) * KEPT * each if saves else 0.0,
        tables=PAGES + OF_ROW * answered + states,
    )
