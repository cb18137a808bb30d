"""Libraries whose internals are used have a version that was tested, or one line says so."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

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


PACKAGE = Path(versions.__file__).parents[1]


DOCUMENTED = {"_fields", "_exit"}  # of Python's syntax trees, and of `os`
OWN = {"_costs", "_declared", "_of", "_table"}  # of `experiment.results.Results`, which `experiment.display` extends


def private_names(path: Path) -> set[str]:
    """Attributes with an underscore that a module reads of objects other than `self`."""
    names = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }
    return {name for name in names if name.startswith("_") and not name.endswith("__")} - DOCUMENTED - OWN


def test_private_names_stand_in_compatibility_modules_and_are_explained_there():
    modules = [path for path in PACKAGE.rglob("*.py") if private_names(path)]
    engines = PACKAGE / "training" / "engines"  # what their environments load checks their versions itself
    assert modules and all(path.name.startswith("compat_") or path.parent == engines for path in modules)
    for path in modules:
        explained = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert all(f"{name}`" in explained for name in private_names(path))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("compat_*.py")), ids=lambda path: path.stem)
def test_a_compatibility_module_says_its_version_and_what_would_remove_it(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    explained = " ".join(ast.get_docstring(tree).split())
    assert "written for" in explained and "o be removed" in explained
    checked = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "check_version"
    }
    assert checked and checked <= versions.TESTED.keys()
