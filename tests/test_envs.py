"""The environment's files agree with each other."""

from yaml import safe_load

from conftest import ROOT
from hidden_rule.readme import with_generated


def pins(name):
    lines = (ROOT / "envs" / name).read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith(("#", "-"))}


def test_conda_and_pip_pin_the_same():
    conda = safe_load((ROOT / "envs/hidden-rule.yaml").read_text())
    assert set(conda["dependencies"][-1]["pip"]) == pins("requirements.in")
    (model,) = pins("model.txt")
    assert model in (ROOT / "envs/hidden-rule.post-deploy.sh").read_text()


def test_the_locks_hold_what_was_asked_for():
    lock = {pin.lower() for pin in pins("requirements.txt")}
    assert {pin.lower() for pin in pins("requirements.in")} <= lock
    beside = pins("test.txt") | pins("slurm.txt")
    assert pins("test.in") | pins("slurm.in") <= beside
    assert all("==" in pin for pin in lock | beside)
    versions = dict(pin.split("==") for pin in lock)
    for pin in beside:  # what two locks name, both name alike
        name, version = pin.lower().split("==")
        assert versions.get(name, version) == version


def test_readme_shows_the_published_numbers():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_generated(readme, ROOT / "results" / "published") == readme
