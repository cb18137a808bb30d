"""Where the repository lies that this package was installed from, in place."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / "workflow"
