"""Engines that train or answer beside our own code: each has an environment of its own, below `.engines`.

`make setup-<engine>` installs the lock and writes a stamp of it, by which a changed lock is noticed and results that
another environment made are run again.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from hidden_rule.core.errors import SettingError
from hidden_rule.core.files import file_sha256, write_text
from hidden_rule.core.paths import ROOT

FOLDER = ROOT / ".engines"
STAMP = "installed.json"
TRL = "trl"  # the engine of our own environment


@dataclass(frozen=True)
class Environment:
    """An engine's own environment; `lock`: its requirements, as `make setup-<name>` takes them by default."""

    name: str
    lock: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """What is installed: `lock`, the file below the repository, and its `sha256`."""
        return self.folder / STAMP

    def fault(self) -> tuple[str, str] | None:
        """What is wrong with the environment, and the remedy; None if it is installed as its lock says."""
        remedy = f"run make setup-{self.name}"
        try:
            stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
            lock, installed = str(stamp["lock"]), stamp["sha256"]
        except OSError:
            return f"{self.name} is not installed", remedy
        except (ValueError, KeyError, TypeError):
            return f"{self.stamp.relative_to(ROOT)} is damaged", remedy
        if not (ROOT / lock).is_file() or file_sha256(ROOT / lock) != installed:
            return f"{self.name} is installed as {lock} was before it was changed", remedy
        return None if self.python.exists() else (f"{self.name} is not installed", remedy)

    def check(self, key: str) -> None:
        """Raise SettingError, naming the dotted key of the config that asks for it, if it is not installed."""
        if found := self.fault():
            raise SettingError(key, *found, beside=())

    def installed(self) -> dict[str, str]:
        """The lock that is installed, a file below the repository, and its hash: `lock`, `sha256`."""
        stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
        return {key: str(stamp[key]) for key in ("lock", "sha256")}

    def content(self) -> str:
        """What results depend on: the lock that is installed, by its hash; empty if none is."""
        try:
            return str(json.loads(self.stamp.read_text(encoding="utf-8"))["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


ENVIRONMENTS = {
    of.name: of
    for of in (
        Environment("verl", "envs/verl.txt"),
        Environment("openrlhf", "envs/openrlhf.txt"),
        Environment("vllm", "envs/vllm-cpu.txt"),
    )
}


def write_stamp(name: str, lock: str) -> None:
    """Write the stamp of an environment into which `lock`, a file below the repository, has been installed."""
    stamp = {"lock": lock, "sha256": file_sha256(ROOT / lock)}
    write_text(json.dumps(stamp) + "\n", ENVIRONMENTS[name].stamp)


if __name__ == "__main__":  # the Makefile's last step of setting an engine up
    write_stamp(*sys.argv[1:])
