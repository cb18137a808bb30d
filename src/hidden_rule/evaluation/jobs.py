"""Evaluation jobs as objects; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from hidden_rule.models.base import BaseModel

TRANSFORMERS, VLLM = ENGINES = ("transformers", "vllm")  # of evaluations; the first is this process


@dataclass(frozen=True)
class EvaluationOutput:
    """Where an evaluation writes: the table of predictions, and COSTS."""

    predictions: Path
    cost: Path


@dataclass(frozen=True)
class EvaluationJob:
    """One condition and seed to be evaluated."""

    condition: str
    seed: int  # draws the examples of a prompt that shows some
    base: BaseModel
    adapter: Path | None  # the folder of an adapter; None: the base model
    ruleset: Path
    splits: dict[str, Path]  # the file of each split by its name, and that of all suites by `suites`
    settings: dict  # the configuration's `evaluation`: engine, structured, free, batch_size, max_new_tokens
    output: EvaluationOutput
    prompt: str | dict | None = None  # the condition's, where it says more than the ruleset's own
    train: Path | None = None  # the training split, where the prompt shows examples
    log: Path | None = None  # the rule's, which an error of another process names
    states: Path | None = None  # what a StatesJob wrote of these splits


@dataclass(frozen=True)
class ReferenceJob:
    """A plain classifier to be fitted and evaluated."""

    condition: str
    seed: int
    kind: str  # constant | logistic | boosting
    ruleset: Path
    train: Path
    splits: dict[str, Path]  # as in EvaluationJob
    output: EvaluationOutput


@dataclass(frozen=True)
class SamplingJob:
    """The replies of a training's start, to be drawn as the training will draw."""

    seed: int
    base: BaseModel
    adapter: Path | None  # the folder of the start's adapter; None: the base model
    ruleset: Path
    split: Path
    settings: dict  # the training's: group_size, temperature, max_new_tokens
    applications: int  # of the split, as many of one label as of another
    replies: int  # to each application at least; as many as a group has if that is more
    batch_size: int
    output: Path  # the table SAMPLES


@dataclass(frozen=True)
class SideEffectsJob:
    """Side effects of the adapter of one condition and seed, to be measured."""

    condition: str
    seed: int
    base: BaseModel
    adapter: Path
    ruleset: Path
    texts: Path
    batch_size: int  # texts or prompts that are computed at a time
    effects: Path  # the table SIDE_EFFECTS
    leaks: Path  # the table LEAKS
