"""Libraries whose internals are used have a version that was tested, or one line says so."""

import importlib.metadata
import subprocess
import sys

import pytest

from hidden_rule.core import versions
from hidden_rule.core.errors import UserError


@pytest.mark.parametrize("library", versions.TESTED)
def test_what_is_installed_was_tested(library):
    versions.check_version(library)


@pytest.mark.parametrize(
    ("installed", "accepted"),
    [("2.10.1", False), ("2.11.0+cu130", True), ("2.13.0+cpu", True), ("2.14.0", False), ("3.0", False)],
)
def test_a_range_has_a_first_and_excludes_its_end(monkeypatch, installed, accepted):
    monkeypatch.setattr(importlib.metadata, "version", lambda library: installed)
    if accepted:
        versions.check_version("torch")
        return
    with pytest.raises(UserError) as error:
        versions.check_version("torch")
    assert str(error.value) == (
        f"envs/requirements.txt: torch: version {installed} is installed; its internals are used as versions 2.11 to "
        "below 2.14 have them; run make setup"
    )


def test_a_library_that_is_missing_is_one_line(monkeypatch):
    def missing(library):
        raise importlib.metadata.PackageNotFoundError(library)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UserError, match="envs/requirements.txt: trl: is not installed; run make setup"):
        versions.check_version("trl")


def test_a_job_ends_with_one_line_not_with_an_attribute_error(tmp_path):
    """As a rule's script does: the versions are looked at before the internals are touched."""
    program = (
        "from hidden_rule.core import versions; from hidden_rule.core.logs import logged\n"
        "versions.TESTED['trl'] = ('9.0', '9.1')\n"
        f"with logged({str(tmp_path / 'log')!r}):\n"
        "    import hidden_rule.kernels.compat_trl\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: envs/requirements.txt: trl: version 1.")
    assert len(done.stderr.splitlines()) == 1
