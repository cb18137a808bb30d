"""What the jobs that load the model compute, counted from the config: optimizer steps, scored rows, generated replies.

Times depend on the kind of a step: its method and the settings that change what a step computes. Conditions that differ
in nothing else (learning rate, epochs, rows, start) share a kind, so that a sweep is measured once.
"""

import json
from dataclasses import dataclass, field

import polars as pl

from hidden_rule.core.engines import TRL
from hidden_rule.experiment.conditions import replies_a_prompt
from hidden_rule.experiment.reward_settings import reward_file
from hidden_rule.planning.jobs import KEEPS, Job, results_of
from hidden_rule.planning.rates import prompt_key
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import SuiteSettings, draw_suites
from hidden_rule.task.training_subsets import steps_a_pass

OF_A_STEP = (  # settings that decide what a step computes
    *("batch_size", "micro_batch_size", "gradient_checkpointing", "group_size", "samples", "estimator", "keep"),
    *("pairs", "rejected", "use_vllm", "updates"),
)
SPLITS = ("validation", "test", "holdout")
TRAINED = ("train", "validation")  # splits that trainings come to
OWN_WORDS = prompt_key(None)


@dataclass(frozen=True)
class Kind:
    """A kind of training step. `condition`: the first one that has it, whose settings are measured."""

    name: str
    method: str
    condition: str
    settings: dict = field(compare=False, hash=False, default_factory=dict)
    engine: str = TRL

    @property
    def replies(self) -> int:
        """Replies that are sampled to a prompt at a time; 0 where none is."""
        return replies_a_prompt(self.settings) or (self.settings.get("samples", 0) if self.preference_errors else 0)

    @property
    def preference_errors(self) -> bool:
        return self.settings.get("pairs") == "errors"


@dataclass(frozen=True)
class Work:
    """What one job computes.

    steps: of its kind; kept: rows that the layers below the adapter's compute once; validated, structured: rows whose
    valid replies are scored, within a training and beside one; known: of the latter those whose states below the
    adapter's are on file; free: rows to which a reply is generated, of
    `max_new_tokens` at most; prompt: the condition's, as JSON.
    """

    kind: Kind | None = None
    steps: int = 0
    kept: int = 0
    validated: int = 0
    structured: int = 0
    known: int = 0
    free: int = 0
    prompt: str = OWN_WORDS
    max_minutes: float = 0.0  # of steps and validation; 0: no limit
    patience: int = 0  # steps after which it may end early; 0: never


def kind_of(config: dict, condition: str, settings: dict) -> Kind:
    """The kind of a trained condition's steps; `settings`: as `condition_settings` gives them."""
    of, engine = settings["settings"], settings.get("engine", TRL)
    seen = {key: of[key] for key in OF_A_STEP if key in of}
    if config["decoding"] == "free" and "max_new_tokens" in of:
        seen["max_new_tokens"] = of["max_new_tokens"]
    if files := reward_file(of):
        seen["reward"] = files
    if of.get("beta") and settings["method"] not in ("dpo",):
        seen["reference"] = True  # whose log-probabilities are computed too
    name = json.dumps([settings["method"], engine, seen], sort_keys=True)
    return Kind(name, settings["method"], condition, of, engine)


def kinds_of(config: dict, conditions: set[str]) -> list[Kind]:
    """The kinds of these conditions' steps, each once, in the order of conditions."""
    found: dict[str, Kind] = {}
    for name, settings in results_of(config).settings.items():
        if settings["method"] and name in conditions:
            kind = kind_of(config, name, settings)
            found.setdefault(kind.name, kind)
    return list(found.values())


def prompts_of(config: dict) -> list[str]:
    """The prompts in which conditions are asked, each once, the ruleset's own first (trainings use it too)."""
    asked = [of for of in config["conditions"].values() if "reference" not in of]
    return list(dict.fromkeys([OWN_WORDS, *(prompt_key(of.get("prompt")) for of in asked)]))


def kept_rows(config: dict, condition: str) -> int:
    """Rows whose states below its adapter's layers a training holds in memory (`kernels/frozen_layers.py`)."""
    return sum(config["data"][name] for name in TRAINED) if results_of(config).takes_states(condition) else 0


def training_work(config: dict, condition: str, settings: dict) -> Work:
    """What a training computes, if nothing ends it early."""
    of = settings["settings"]
    kind, rows = kind_of(config, condition, settings), of.get("train_rows", config["data"]["train"])
    validated = (of["epochs"] + 1) * config["data"]["validation"]  # before the first step, and after each epoch
    structured, free, sampled = 0, 0, 0
    if "rounds" in of:
        sampled = min(of["rounds"], of["epochs"]) * rows
    elif kind.preference_errors:
        sampled = rows
    if config["decoding"] == "free":
        free = sampled * of.get("samples", 0)
    else:
        structured = sampled
    if settings["method"] == "dpo":
        structured += rows  # the reference's log-probabilities
    return Work(
        kind=kind,
        steps=of["epochs"] * steps_a_pass(of, rows),
        validated=validated,
        structured=structured,
        free=free,
        max_minutes=of.get("max_minutes", 0.0),
        patience=of.get("patience", 0),
    )


def evaluated_rows(config: dict, n_suite_rows: int) -> dict[str, int]:
    """How many rows each split has that evaluations ask, and the suites together."""
    rows = {**{split: config["data"][split] for split in SPLITS}, "suites": n_suite_rows}
    return {name: rows[name] for name in {*config["evaluation"]["structured"], *config["evaluation"]["free"]}}


def evaluation_work(config: dict, condition: str, n_suite_rows: int) -> Work:
    """What an evaluation computes: every row is scored, and replies are generated to those under free decoding."""
    rows, prompt = evaluated_rows(config, n_suite_rows), config["conditions"][condition].get("prompt")
    n = sum(rows.values())
    return Work(
        structured=n,
        known=n if results_of(config).keeps_states and not prompt else 0,
        free=sum(rows[name] for name in config["evaluation"]["free"]),
        prompt=prompt_key(prompt),
    )


def sampling_work(config: dict, settings: dict) -> Work:
    """What `sample_start` computes: replies drawn to some cases of the validation split."""
    numbers = config["feasibility"]
    replies = max(numbers["replies"], replies_a_prompt(settings["settings"]) or 0)
    return Work(free=min(numbers["applications"], config["data"]["validation"]) * replies)


def suite_rows(config: dict) -> int:
    """Rows of the suites that evaluations ask: of the table where it was written, else drawn as it will be."""
    results = results_of(config)
    if not results.has_suites:
        return 0
    path = results.layout.split("suites")
    if path.is_file():
        return pl.scan_parquet(path).select(pl.len()).collect().item()
    ruleset, data = load_ruleset(config["ruleset"]), config["data"]
    sizes = {split: data[split] for split in ("train", *SPLITS)}
    train = draw_splits(ruleset, sizes, data["seed"], source=config["ruleset"])["train"]
    wanted = SuiteSettings(**config["suites"], seed=data["seed"])
    return len(draw_suites(ruleset, wanted, train, source=config["ruleset"]))


def works_of(config: dict, jobs: list[Job]) -> dict[Job, Work]:
    """The work of each of these jobs that computes with the model."""
    settings, found = results_of(config).settings, {}
    n_suite_rows = suite_rows(config) if any(job.rule in (KEEPS, "evaluate") for job in jobs) else 0
    for job in jobs:
        if job.rule == KEEPS:
            evaluated = evaluated_rows(config, n_suite_rows)
            rows = {name: config["data"][name] for name in TRAINED} if job.cases == "training" else evaluated
            found[job] = Work(kept=sum(rows.values()))
        if job.run is None:
            continue
        condition = job.run.condition
        if job.rule == "train":
            found[job] = training_work(config, condition, settings[condition])
        elif job.rule == "evaluate":
            found[job] = evaluation_work(config, condition, n_suite_rows)
        elif job.rule == "sample_start":
            found[job] = sampling_work(config, settings[condition])
        elif job.rule == "measure_side_effects":
            found[job] = Work(structured=SIDE_EFFECT_ROWS)
    return found


SIDE_EFFECT_ROWS = 640  # rows of an evaluation that take as long as a measurement of side effects, about
