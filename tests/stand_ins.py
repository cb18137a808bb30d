"""Programs that stand where an engine's interpreter does."""

from pathlib import Path

from hidden_rule.core import engines


def stand_in(engine: str, folder: Path, monkeypatch, script: str) -> None:
    """Let a shell script be the interpreter of an engine that is installed as its lock says, below `folder`."""
    monkeypatch.setattr(engines, "FOLDER", folder)
    environment = engines.ENVIRONMENTS[engine]
    environment.python.parent.mkdir(parents=True)
    environment.python.write_text(f"#!/bin/sh\n{script}\n")
    environment.python.chmod(0o755)
    engines.write_stamp(engine, environment.lock)
