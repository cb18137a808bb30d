"""The tutorial's commands do what it shows, and its example file is what its script writes."""

import importlib.util
import re
import shlex

import polars as pl
import pytest
import yaml

from conftest import ROOT, Checkout
from hidden_rule.experiment.config import load_config
from hidden_rule.statistics import search_file
from hidden_rule.task.cases import inspect
from hidden_rule.task.cases.own import case_settings, read_own_cases

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TUTORIAL, re.DOTALL)
COMMANDS = [text.strip() for kind, text in BLOCKS if not kind and text.startswith(("make ", "snakemake "))]
OUTPUT = dict(re.findall(r"```\n(make \w[^\n]*)\n```.*?```\n(.*?)```", TUTORIAL, re.DOTALL))  # by command


def example():
    """The script that makes the example file, as a module."""
    spec = importlib.util.spec_from_file_location("make_claims", ROOT / "examples" / "make_claims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(command: str, main, capsys) -> list[str]:
    """Lines that a `make` command prints by `main`, its variables given as the Makefile does."""
    given = dict(word.split("=", 1) for word in shlex.split(command)[2:])
    options = [word for key, value in given.items() if key != "DATA" for word in (f"--{key.lower()}", value)]
    main([given["DATA"], *options])
    return capsys.readouterr().out.splitlines()


def test_the_example_is_what_its_script_writes():
    assert (ROOT / "examples" / "claims.csv").read_bytes() == example().claims_csv().encode()


def test_the_example_has_natural_frequencies_noise_and_its_rule():
    made = example()
    claims = pl.read_csv(ROOT / "examples" / "claims.csv")
    right = [made.decide(claim) for claim in claims.iter_rows(named=True)]
    agree = (claims["decision"] == pl.Series(right)).mean()
    assert len(claims) == made.N == 3000 and 0.96 < agree < 0.98
    shares = dict(claims["decision"].value_counts(normalize=True).iter_rows())
    assert set(shares) == set(made.LABELS) and shares["pay"] > 0.5 and min(shares.values()) > 0.02


def test_inspect_shows_what_the_tutorial_shows(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (command,) = [command for command in COMMANDS if command.startswith("make inspect ")]
    lines = shown(command, inspect.main, capsys)
    assert [line for line in OUTPUT[command].strip().splitlines() if line not in lines] == []
    assert not [line for line in lines if line.startswith("warning")]


@pytest.mark.slow
def test_find_rules_shows_what_the_tutorial_shows(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (command,) = [command for command in COMMANDS if command.startswith("make find-rules ")]
    printed = " ".join(shown(command, search_file.main, capsys))
    assert OUTPUT[command].split() == printed.split()  # the page breaks lines


def test_the_rules_and_the_overlay_of_the_tutorial(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    rules, overlay = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
    handbook = yaml.safe_load((ROOT / "examples" / "claims-rules.yaml").read_text(encoding="utf-8"))
    assert rules | {"rules": rules["rules"][1:]} == handbook
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    overlay["data"]["ruleset"] = str(tmp_path / "rules.yaml")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    own = read_own_cases(case_settings(load_config(["config.yaml", tmp_path / "mine.yaml"])["data"]))
    assert [rule.name for rule in own.ruleset.hidden_rules] == ["found_1"]
    holdout = own.splits["holdout"].filter(fired_rule="found_1")
    assert len(holdout) > 50 and (holdout["label"] == "investigate").mean() > 0.9


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("snakemake ")])
def test_snakemake_commands_name_overlays_that_load(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    path = words[words.index("--configfile") + 1]
    assert path == "experiments/mine.yaml" or load_config(["config.yaml", path])["data"]["source"] == "file"
    assert words[-4:] == ["--cores", "all", "--resources", "gpu=1"]


@pytest.mark.slow
def test_the_dry_run_lists_the_jobs(tmp_path):
    (command,) = [command for command in COMMANDS if command.startswith("snakemake -n ")]
    done = Checkout(tmp_path).snakemake(*shlex.split(command)[1:4])
    assert done.returncode == 0, done.stderr[-2000:]
    for rule in ("build_dataset", "train", "find_rules", "write_report"):
        assert re.search(rf"^{rule}\s+\d", done.stdout + done.stderr, re.MULTILINE), rule
    assert not (tmp_path / "results" / "claims-file").exists()
