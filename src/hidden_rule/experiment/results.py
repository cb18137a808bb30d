"""The tables of one experiment as one object: each is read once, checked against its schema, from where it lies.

    results = Results("results/laptop", config)               # everything that there is: for people, tests, publishing
    results = Results(folder, config, declared=rule.input)    # in a rule: what it did not declare is refused

A table that an experiment has only under some settings (no training with GRPO: no feasibility) is None without them.
"""

import os
from functools import cached_property
from pathlib import Path

import polars as pl

from hidden_rule.core.costs import read_costs
from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.files import read_json
from hidden_rule.core.tables import (
    COLLAPSE,
    COMPARISONS,
    FEASIBILITY,
    HISTORY,
    LEAKS,
    LEARNT_RULES,
    METRICS,
    RULES,
    SIDE_EFFECTS,
    SIDE_EFFECTS_SUMMARY,
    SUPERVISION,
    predictions_schema,
    read_table,
    scan_table,
)
from hidden_rule.experiment.conditions import condition_settings, in_order, repeats_its_rows, start_of
from hidden_rule.experiment.layout import Layout
from hidden_rule.experiment.reward_settings import COSTS, uses_costs
from hidden_rule.experiment.runs import (
    Estimate,
    Guess,
    Run,
    Setting,
    find_estimate,
    most_frequent,
    separate_rules,
    settings_of,
)
from hidden_rule.task.dataset import read_split, read_suites
from hidden_rule.task.ruleset import load_ruleset

OPTIONAL = (COSTS,)  # sections that a config need not have


def excerpt(config: dict, conditions, *sections: str) -> dict:
    """What `Results` needs of the config for these conditions, and further sections of it.

    For a rule's parameters: what it does not hold cannot change what the rule makes, and reruns nothing. Sections that
    a config need not have are left out where it does not.
    """
    chosen = {name: condition for name, condition in config["conditions"].items() if name in conditions}
    methods = {condition["method"] for condition in chosen.values() if "method" in condition}
    keys = ["data", "ruleset", "seeds", *sorted(methods), *sections]
    if uses_costs([*chosen.values(), *(config[method] for method in methods)]):
        keys.append(COSTS)
    return {"conditions": chosen} | {key: config[key] for key in keys if key in config or key not in OPTIONAL}


class UndeclaredInputError(LookupError):
    """A rule's script read a table that the rule does not declare as an input: Snakemake would not know of it."""


class Results:
    """What an experiment produced. Lists of conditions and runs are in the order in which they are shown.

    folder: `results/{experiment}`; config: as `check_config` returns it; declared: paths of a rule's inputs, None to
    read whatever there is; ruleset: the loaded one, by default that of the config.

    Properties raise UserError for a damaged or foreign file, and UndeclaredInputError as it says.
    """

    def __init__(self, folder, config: dict, declared=None, ruleset=None):
        self.config = config
        self.layout = Layout(Path(folder))
        self._declared = None if declared is None else {os.path.abspath(path) for path in declared}
        self._ruleset = ruleset
        self._tables: dict[Path, pl.DataFrame] = {}
        self._scans: dict[Run, pl.LazyFrame] = {}

    # what there is by the config

    @cached_property
    def ruleset(self):
        return load_ruleset(self.declared(Path(self.config["ruleset"]))) if self._ruleset is None else self._ruleset

    @property
    def labels(self) -> list[str]:
        return list(self.ruleset.labels)

    @property
    def separate_rules(self) -> list[str]:
        """The hidden rules that have numbers of their own: all, where there are several."""
        return separate_rules(self.ruleset)

    @property
    def rules_apart(self) -> list[str | None]:
        """What sentences about hidden rules are about: each of several, None for a single one, nothing without any."""
        single: list[str | None] = [None] if self.ruleset.hidden_rules else []
        return [*self.separate_rules] or single

    @cached_property
    def chance(self) -> Guess:
        """Accuracy of answering without looking: at random, or of a file of past decisions the most frequent label."""
        if self.ruleset.is_observed:
            return most_frequent(self.metrics, self.main)
        return Guess(1 / len(self.ruleset.labels))

    @cached_property
    def conditions(self) -> list[str]:
        """By name, references last."""
        return sorted(in_order(self.config["conditions"]), key=self._is_reference)

    @cached_property
    def references(self) -> list[str]:
        """Conditions for comparison alone: classifiers, and prompts that say more than the ruleset's own."""
        return [name for name in self.conditions if self._is_reference(name)]

    def _is_reference(self, name: str) -> bool:
        return bool({"reference", "prompt"} & set(self.config["conditions"][name]))

    @cached_property
    def settings(self) -> dict[str, dict]:
        """By condition: its `method`, `start_from` and `settings` (see `condition_settings`)."""
        return {name: condition_settings(self.config, name) for name in self.conditions}

    @cached_property
    def starts(self) -> dict[str, str | None]:
        """By trained condition: the condition whose adapter it starts from, or None."""
        return {name: of["start_from"] for name, of in self.settings.items() if of["method"]}

    @cached_property
    def runs(self) -> list[Run]:
        return [Run(name, seed, of["method"]) for name, of in self.settings.items() for seed in self.seeds]

    @property
    def trained(self) -> list[Run]:
        return [run for run in self.runs if run.method]

    @property
    def seeds(self) -> list[int]:
        return self.config["seeds"]

    # tables of the whole experiment

    @property
    def metrics(self) -> pl.DataFrame:
        return self._table(self.layout.table("metrics"), METRICS)

    @property
    def comparisons(self) -> pl.DataFrame:
        return self._table(self.layout.table("comparisons"), COMPARISONS)

    @property
    def costs(self) -> pl.DataFrame:
        return self._costs(self.layout.table("costs"))

    @property
    def collapse(self) -> pl.DataFrame | None:
        return self._optional(self.layout.table("collapse"), COLLAPSE, True)

    @property
    def supervision(self) -> pl.DataFrame | None:
        return self._optional(self.layout.table("supervision"), SUPERVISION, bool(self.varied))

    @property
    def side_effects(self) -> pl.DataFrame | None:
        """Side effects and leaks with intervals."""
        return self._optional(self.layout.table("side_effects"), SIDE_EFFECTS_SUMMARY, bool(self.measured))

    @property
    def rules(self) -> pl.DataFrame | None:
        """Rules found in the decisions, and whether they are supported."""
        return self._optional(self.layout.table("rules"), RULES, True)

    @property
    def learnt_rules(self) -> pl.DataFrame | None:
        """The rules that each run decides by."""
        return self._optional(self.layout.table("learnt_rules"), LEARNT_RULES, True)

    @cached_property
    def provenance(self) -> dict | None:
        path = self.layout.provenance
        return read_json(self.declared(path)) if self._declared is not None or path.exists() else None

    # tables of its runs

    def predictions(self, run: Run) -> pl.LazyFrame:
        """A run's answers, unread but checked."""
        if run not in self._scans:
            self._scans[run] = scan_table(self.predictions_path(run), predictions_schema(self.labels))
        return self._scans[run]

    def predictions_path(self, run: Run) -> Path:
        return self.declared(self.layout.predictions(run))

    def history(self, run: Run) -> pl.DataFrame:
        return self._table(self.layout.history(run), HISTORY)

    @property
    def histories(self) -> dict[Run, pl.DataFrame]:
        """The history of each trained run; where nothing is declared, of those that have one."""
        return {run: self.history(run) for run in self.trained if self._exists(self.layout.history(run))}

    @cached_property
    def feasibility(self) -> pl.DataFrame | None:
        """What the first groups of the assessed runs hold."""
        return self._of_runs(self.layout.feasibility, self.assessed, FEASIBILITY)

    @cached_property
    def effects(self) -> pl.DataFrame | None:
        """Side effects item by item, of all runs that were measured."""
        return self._of_runs(self.layout.side_effects, self.measured, SIDE_EFFECTS)

    @cached_property
    def leaks(self) -> pl.DataFrame | None:
        return self._of_runs(self.layout.leaks, self.measured, LEAKS)

    @property
    def costs_of_runs(self) -> pl.DataFrame:
        """What table COSTS is made of: the costs of each training and evaluation."""
        paths = [self.layout.evaluation_cost(run) for run in self.runs]
        paths += [self.layout.training_cost(run) for run in self.trained]
        return pl.concat([self._costs(path) for path in paths]).sort("condition", "seed", "stage")

    @property
    def assessed(self) -> list[Run]:
        """The runs whose start tells what their first groups will hold."""
        return [run for run in self.trained if start_of(self.config, run.condition)]

    @property
    def measured(self) -> list[Run]:
        """The runs whose side effects are measured."""
        return self.trained if self.config.get("side_effects") else []

    # cases

    @property
    def keeps_states(self) -> bool:
        """Whether what layers below every adapter make of the evaluated cases is computed once for several runs."""
        conditions = self.config["conditions"].values()
        in_own_words = [of for of in conditions if not of.keys() & {"reference", "prompt"}]
        by_us = self.config["evaluation"]["engine"] not in ENVIRONMENTS
        return bool(self.config["lora"]["last_layers"]) and by_us and len(in_own_words) * len(self.seeds) > 1

    def takes_states(self, condition: str) -> bool:
        """Whether a training begins with what layers below every adapter make of its cases, computed once for all."""
        return bool(self.config["lora"]["last_layers"]) and repeats_its_rows(self.config, self.settings[condition])

    @property
    def states(self) -> list[str]:
        """The cases of which such states are computed, as `Layout.states` names them."""
        trained = any(self.takes_states(name) for name in self.settings)
        return [*(["training"] if trained else []), *(["evaluated"] if self.keeps_states else [])]

    def split(self, name: str) -> pl.DataFrame:
        """The applications of a split, of `suites`, or of `train/{condition}`."""
        path = self.layout.split(name)
        if path not in self._tables:
            self._tables[path] = (read_suites if name == "suites" else read_split)(self.declared(path), self.ruleset)
        return self._tables[path]

    @property
    def has_suites(self) -> bool:
        """Whether suites made from the ruleset are answered."""
        evaluation = self.config["evaluation"]
        return "suites" in [*evaluation["structured"], *evaluation["free"]]

    def has_split(self, name: str) -> bool:
        """Whether a split can be read: always in a rule, which has to declare it."""
        return self._exists(self.layout.split(name))

    def training_rows(self, condition: str) -> pl.DataFrame:
        """The rows that a condition is trained on."""
        return self.split(f"train/{condition}" if condition in self.varied else "train")

    @cached_property
    def varied(self) -> list[str]:
        """Conditions that are trained on some of the rows, or on some wrong labels."""
        return [name for name, of in self.settings.items() if of["settings"].keys() & {"train_rows", "label_noise"}]

    # numbers

    @cached_property
    def evaluated(self) -> list[Setting]:
        """Settings in which a split was answered, the main one first."""
        return settings_of(self.metrics)

    @property
    def main(self) -> Setting:
        """The setting that the answer is about: the holdout under structured decoding where it was evaluated."""
        return self.evaluated[0]

    @property
    def free(self) -> Setting | None:
        """The first setting under free decoding, where the main one is not."""
        free = (setting for setting in self.evaluated if setting.decoding == "free")
        return None if self.main.decoding == "free" else next(free, None)

    def estimate(self, condition: str, setting: Setting, metric: str, rule: str | None = None) -> Estimate | None:
        """A metric that is not one of a label, pooled over seeds; None where it is undefined or was not measured.

        rule: one of `separate_rules`, None for all hidden rules together.
        """
        return find_estimate(self.metrics, condition, setting, metric, rule)

    def range_over_seeds(self, condition: str, setting: Setting, metric: str) -> tuple[float, float] | None:
        """The lowest and the highest value of such a metric among the seeds; None where it is undefined under any."""
        rows = self.metrics.filter(
            pl.col("seed").is_not_null(), pl.col("label").is_null(), pl.col("rule").is_null(),
            condition=condition, metric=metric, **setting.columns,
        )  # fmt: skip
        values = rows["value"].to_list()
        return None if not values or None in values else (min(values), max(values))

    # reading

    def declared(self, path) -> Path:
        """A path that may be read; raises UndeclaredInputError for one that is no input of the rule."""
        if self._declared is not None and os.path.abspath(path) not in self._declared:
            raise UndeclaredInputError(f"{path} is read, and no input of this rule: declare it there")
        return Path(path)

    def _exists(self, path: Path) -> bool:
        return self._declared is not None or path.exists()

    def _table(self, path: Path, schema: pl.Schema) -> pl.DataFrame:
        if path not in self._tables:
            self._tables[path] = read_table(self.declared(path), schema)
        return self._tables[path]

    def _costs(self, path: Path) -> pl.DataFrame:
        if path not in self._tables:
            self._tables[path] = read_costs(self.declared(path))
        return self._tables[path]

    def _optional(self, path: Path, schema: pl.Schema, expected: bool) -> pl.DataFrame | None:
        """A table, or None without it: by the config in a rule, by the files elsewhere."""
        there = path.exists() if self._declared is None else expected
        return self._table(path, schema) if there else None

    def _of_runs(self, path_of, runs: list[Run], schema: pl.Schema) -> pl.DataFrame | None:
        """One table of those of several runs; None without any."""
        tables = [self._table(path_of(run), schema) for run in runs if self._exists(path_of(run))]
        return pl.concat(tables) if tables else None
