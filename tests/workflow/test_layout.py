"""The workflow's files: a Snakefile that is a table of contents, one name for a rule, its script and its folders."""

import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT
from hidden_rule.experiment.conditions import methods
from hidden_rule.experiment.engine_checks import ELSEWHERE, METHODS

WORKFLOW = ROOT / "workflow"
RULE_FILES = sorted((WORKFLOW / "rules").glob("*.smk"))


def rules() -> dict[str, str]:
    """The text of every rule, by its name."""
    found = {}
    for path in RULE_FILES:
        _, *parts = re.split(r"^rule (\w+):\n", path.read_text(), flags=re.MULTILINE)
        found |= dict(zip(parts[::2], parts[1::2], strict=True))
    return found


RULES = rules()


def test_the_snakefile_is_a_table_of_contents():
    text = (ROOT / "Snakefile").read_text()
    assert len(text.splitlines()) < 100
    included = re.findall(r'^include: "workflow/rules/(.*)"$', text, re.MULTILINE)
    assert sorted(included) == [path.name for path in RULE_FILES]
    assert re.findall(r"^rule (\w+):", text, re.MULTILINE) == ["all"]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_its_script_and_its_folders_have_one_name(name):
    text = RULES[name]
    assert re.search(r"^    message:$", text, re.MULTILINE)
    assert f'log_of("{name}"' in text
    assert set(re.findall(r'benchmark_of\("(\w+)"\)', text)) <= {name}
    (script,) = re.findall(r'"\.\./scripts/(.+)\.py"', text)
    if name == "train":
        assert script == "train_{params.trainer}" and "code=training_code" in text
    else:
        assert script == name and f'code=code_of("{name}")' in text


def test_every_script_has_its_rule():
    trainers = {*methods(), *METHODS} - {*ELSEWHERE}  # methods, and engines that train several
    expected = {*RULES} - {"train"} | {f"train_{trainer}" for trainer in trainers}
    assert {path.stem for path in (WORKFLOW / "scripts").glob("*.py")} == expected


@pytest.mark.slow
def test_the_package_of_another_checkout_is_refused(tmp_path):
    """As in a checkout whose own environment was never made, but another's is active."""
    for name in ("workflow", "experiments", "rulesets"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"is where the package lies, not {tmp_path}; run make setup in {tmp_path}" in line
