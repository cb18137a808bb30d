"""What tests of wrong inputs share: a folder with the default config to break, and the one line that is said."""

import shutil
from pathlib import Path

import pytest

from hidden_rule.core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PARCELS = ROOT / "tests" / "rulesets" / "parcels.yaml"


@pytest.fixture
def breakable(tmp_path, monkeypatch):
    """The default config and the rulesets, in a folder of its own where files can be broken."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    shutil.copytree(ROOT / "rulesets", tmp_path / "rulesets")
    shutil.copy(PARCELS, tmp_path)
    (tmp_path / "empty_folder").mkdir()
    monkeypatch.chdir(tmp_path)


def the_line(function, *arguments) -> str:
    """The one line that a call ends with."""
    with pytest.raises(UserError) as error:
        function(*arguments)
    line = str(error.value)
    assert "\n" not in line and "Traceback" not in line and len(line) < 300
    return line
