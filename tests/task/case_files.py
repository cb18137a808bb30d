"""Files of cases for tests."""

from pathlib import Path

from hidden_rule.task.cases.own import USUAL_SIZES, CaseSettings
from hidden_rule.task.cases.splits import SplitSettings


def write(folder: Path, text: str | bytes, name: str = "cases.csv") -> Path:
    """A file of `text`."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows_of(labels, n: int = 40) -> str:
    """A CSV file of `n` cases whose labels are taken in turn; `age` and `colour` say nothing about them."""
    lines = ["case_id,age,colour,decision"]
    for i in range(n):
        label = labels[i % len(labels)].replace('"', '""')
        lines.append(f'C{i:04},{20 + (7 * i) % 50},{("red", "green", "")[i % 3]},"{label}"')
    return "\n".join(lines) + "\n"


def settings_of(path, label: str = "decision", asked: dict | None = None, **changes) -> CaseSettings:
    """Settings of a file; asked: sizes that the user gives."""
    balance, seed = changes.pop("balance", False), changes.pop("seed", 0)
    asked = asked or {}
    splits = SplitSettings(USUAL_SIZES | asked, frozenset(asked), seed, balance)
    return CaseSettings(str(path), label, splits, **changes)
