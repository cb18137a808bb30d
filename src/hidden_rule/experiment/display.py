"""Conditions by the names that people read: `displayed(results)` is what pages, charts and sentences are made from.

A condition whose name only repeats its method and start has a display name: `sft` is SFT, `sft_then_grpo` is
SFT → GRPO, `grpo_verl` is GRPO (verl), the untrained `baseline` is Untrained, and the reference `logistic` is Logistic
regression. Any other name was chosen by a person, and is shown as it is. Files, configs and command lines keep the
conditions' own names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hidden_rule.experiment.layout import Layout
from hidden_rule.experiment.results import Results
from hidden_rule.experiment.runs import Run

NAMED = ("condition", "condition_a", "condition_b", "start", "curve")  # columns of conditions' names
CLASSIFIERS = {"constant": "Constant", "logistic": "Logistic regression", "boosting": "Gradient boosting"}
UNTRAINED = "baseline"  # the default name of the condition that is neither trained nor a reference


def display_names(conditions: dict[str, dict]) -> dict[str, str]:
    """The display name of each condition, in the order of `conditions`, the config's section.

    Names stay distinct: a display name that is taken already, by another condition's own name too, is not used.
    """
    found: dict[str, str] = {}

    def name_of(name: str) -> str:
        condition = conditions[name]
        method, start = condition.get("method"), condition.get("start_from")
        if name == UNTRAINED and not condition:
            return "Untrained"
        if name == condition.get("reference"):
            return CLASSIFIERS[name]
        if method and condition.get("engine"):
            plain = name.removesuffix(f"_{condition['engine']}")
            shown = of_method(plain, method, start)
            return f"{shown} ({condition['engine']})" if name != plain != shown else name
        return of_method(name, method, start) if method else name

    def of_method(name: str, method: str, start: str | None) -> str:
        if start is None and name == method:
            return method.upper()
        if start in conditions and name == f"{start}_then_{method}":
            return f"{name_of(start)} → {method.upper()}"
        return name

    for name in conditions:
        shown = name_of(name)
        found[name] = name if shown in found.values() or (shown != name and shown in conditions) else shown
    return found


@dataclass(frozen=True)
class _DisplayedLayout(Layout):
    """The layout of a folder whose conditions are asked for by their display names."""

    own: dict[str, str]  # display name: the condition's own name, as it stands in paths

    def split(self, name: str) -> Path:
        folder, _, condition = name.rpartition("/")
        return super().split(f"{folder}/{self.own[condition]}" if folder else name)

    def _of(self, run: Run, stage: str, suffix: str) -> Path:
        return super()._of(Run(self.own[run.condition], run.seed, run.method), stage, suffix)


class DisplayedResults(Results):
    """Results in which every condition has its display name: in lists, runs, the config's section, and tables.

    names: by own name, the display name.
    """

    def __init__(self, results: Results):
        own = results.config["conditions"]
        self.names = display_names(own)
        conditions = {
            self.names[name]: condition
            | ({"start_from": self.names[condition["start_from"]]} if condition.get("start_from") else {})
            for name, condition in own.items()
        }
        super().__init__(results.layout.folder, results.config | {"conditions": conditions}, ruleset=results.ruleset)
        self.layout = _DisplayedLayout(results.layout.folder, {shown: name for name, shown in self.names.items()})
        self._declared = results._declared
        self.conditions = [self.names[name] for name in results.conditions]  # in the order of their own names

    def _table(self, path: Path, schema: pl.Schema) -> pl.DataFrame:
        return self._named(path, lambda: super(DisplayedResults, self)._table(path, schema))

    def _costs(self, path: Path) -> pl.DataFrame:
        return self._named(path, lambda: super(DisplayedResults, self)._costs(path))

    def _named(self, path: Path, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        if path not in self._tables:
            frame = read()
            columns = [name for name in NAMED if name in frame.columns]
            self._tables[path] = frame.with_columns(pl.col(columns).replace(self.names))
        return self._tables[path]


def displayed(results: Results) -> DisplayedResults:
    """The same results with the conditions' display names."""
    return results if isinstance(results, DisplayedResults) else DisplayedResults(results)


def model_words(model: dict) -> str:
    """The name of a model (`model` of a config, or a manifest); of the embedded one also what its weights are."""
    return f"{model['id']} (dequantized from Q4_1 GGUF)" if model.get("source") == "package" else model["id"]
