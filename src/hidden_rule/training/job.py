"""A training as an object: what it starts from, what it learns from, where its results go; imports nothing heavy."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hidden_rule.core.files import file_sha256, json_sha256
from hidden_rule.models.base import BaseModel


@dataclass(frozen=True)
class TrainingData:
    """Files: the ruleset, and the splits that a training learns from and is measured on."""

    ruleset: Path
    train: Path
    validation: Path
    states: Path | None = None  # of these splits, made for all trainings (`models/kept_states.py`)


@dataclass(frozen=True)
class TrainingOutput:
    """Where a training writes: the adapter's folder, and the tables HISTORY and COSTS."""

    adapter: Path
    history: Path
    cost: Path


@dataclass(frozen=True)
class CheckpointPlan:
    """Where and how often a training saves itself: below `root/identity`; `steps` and `minutes` 0 are never."""

    root: Path
    identity: str
    steps: int = 0
    minutes: float = 0
    at_sigterm: bool = False  # end after the step under way, with a checkpoint


@dataclass(frozen=True)
class TrainingJob:
    """One condition and seed to be trained, whatever the method."""

    condition: str
    seed: int  # of the new adapter's weights, the order of the data, and everything drawn
    base: BaseModel
    start_from: Path | None  # the folder of the adapter to start from; None: a new one
    lora: dict  # r, alpha, dropout, target_modules
    settings: dict  # the method's own part of the configuration
    data: TrainingData
    output: TrainingOutput
    decoding: str = "structured"  # what RL explores with: structured | free
    checkpoints: CheckpointPlan | None = None  # None: it does not save itself
    trackers: tuple[str, ...] = ()  # transformers' names of those that it reports to

    def as_json(self) -> dict:
        """The job as JSON values, for a process that takes it from a file."""
        return json.loads(json.dumps(asdict(self), default=str))

    @classmethod
    def from_json(cls, values: dict) -> "TrainingJob":
        """The job that `as_json` gave, paths being paths again."""
        base, plan = values["base"], values["checkpoints"]
        made = {
            "base": BaseModel(**{**base, "manifest": Path(base["manifest"])}),
            "start_from": values["start_from"] and Path(values["start_from"]),
            "data": TrainingData(**{name: path and Path(path) for name, path in values["data"].items()}),
            "output": TrainingOutput(**{name: Path(path) for name, path in values["output"].items()}),
            "checkpoints": plan and CheckpointPlan(**{**plan, "root": Path(plan["root"])}),
            "trackers": tuple(values["trackers"]),
        }
        return cls(**{**values, **made})

    def with_settings(self, **changes) -> "TrainingJob":
        """The same job with other settings."""
        return replace(self, settings={**self.settings, **changes})


def training_identity(files: list, **settings) -> str:
    """A short name for everything that a training depends on: the content of `files`, and `settings`."""
    return json_sha256({"files": [file_sha256(path) for path in files], **settings})[:16]


def checkpoints_of_rule(snakemake) -> CheckpointPlan:
    """The checkpoints of a rule's training, named after everything that it depends on."""
    inputs, params, resources = snakemake.input, snakemake.params, snakemake.resources
    identity = training_identity(
        [inputs.ruleset, inputs.train, inputs.validation, *inputs.start, *inputs.reward],
        code=params.code,
        model=params.model,
        base=params.base,
        lora=params.lora,
        settings=params.settings,
        seed=snakemake.wildcards.seed,
        decoding=params.get("decoding"),
    )
    return CheckpointPlan(
        Path(params.checkpoints), identity, resources.checkpoint_steps, resources.checkpoint_minutes, at_sigterm=True
    )


def job_of_rule(snakemake) -> TrainingJob:
    """The job that the rule `train` asks a script for."""
    inputs, params = snakemake.input, snakemake.params
    trackers = snakemake.resources.tracking
    return TrainingJob(
        condition=snakemake.wildcards.condition,
        seed=int(snakemake.wildcards.seed),
        base=BaseModel.of(inputs.model, params.model),
        start_from=params.start_from and Path(params.start_from),
        lora=params.lora,
        settings=params.settings,
        data=TrainingData(
            Path(inputs.ruleset), Path(inputs.train), Path(inputs.validation), next(map(Path, inputs.states), None)
        ),
        output=TrainingOutput(Path(params.adapter), Path(snakemake.output.history), Path(snakemake.output.cost)),
        decoding=params.get("decoding") or "structured",
        checkpoints=checkpoints_of_rule(snakemake),
        trackers=() if trackers == "none" else tuple(trackers.split(",")),
    )
