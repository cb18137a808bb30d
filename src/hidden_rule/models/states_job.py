"""Cases of which is computed once, for all adapters, what the layers below these make; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from hidden_rule.models.base import BaseModel


@dataclass(frozen=True)
class StatesJob:
    """The cases of some splits, for `models/kept_states.py`."""

    base: BaseModel
    lora: dict  # target_modules and last_layers
    ruleset: Path
    splits: dict[str, Path]  # the file of each split by its name, and that of all suites by `suites`
    output: Path
    whole: frozenset[str] = frozenset()  # splits whose replies are scored token by token, not by their choices
