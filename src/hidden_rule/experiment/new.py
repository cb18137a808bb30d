"""A new experiment, a ruleset to edit and the overlay that names it: `make new NAME=claims [DATA=claims.csv]`.

Without data the ruleset is a small complete policy. With a file of past decisions it says what the file's columns are,
and has room for rules.
"""

import argparse
import contextlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.files import write_text
from hidden_rule.core.schemas import first_fault, load_schema, quoted
from hidden_rule.core.yaml_files import read_yaml
from hidden_rule.experiment.config_checks import OWN_RESULTS
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.model_checks import check_path
from hidden_rule.experiment.new_files import overlay_text, policy_text, stated_text
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.files import open_cases
from hidden_rule.task.cases.inspect import LABEL_NAMES
from hidden_rule.task.cases.own import USUAL_SIZES, CaseSettings, contents_of, divided
from hidden_rule.task.cases.splits import SplitSettings
from hidden_rule.task.cases.text_files import Form
from hidden_rule.task.nouns import CASE, CaseNouns
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import Ruleset, load_ruleset

MAKE = "make new"
NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
MAX_NAME = 40  # characters
NO_PLURAL = ("ss", "us", "is", "series", "species", "news")
SHOWN = 6  # prompts
DRAWN = 20_000  # cases by which the frequencies of a policy's labels are estimated


@dataclass(frozen=True)
class NewCases:
    """What a new experiment is about: its ruleset, some cases with their labels, and how often each label occurs."""

    ruleset: Ruleset
    cases: pl.DataFrame
    counts: dict[str, int]
    origin: str  # of the counts, in words


def new_experiment(
    name: str, data: str | None = None, label: str | None = None, folder: Path = Path(), encoding: str | None = None
) -> list[str]:
    """Write `rulesets/{name}.yaml` and `experiments/{name}.yaml` below `folder`; lines on what they make.

    data: a file of past decisions; label: its column of decisions, recognized by its name if not given; encoding: of
    its text, guessed if not given. No file is overwritten. Raises UserError for a name that is none or taken, and for
    what is wrong in the data.
    """
    ruleset_path, overlay_path = (folder / part / f"{name}.yaml" for part in ("rulesets", "experiments"))
    check_name(name, folder)
    nouns = nouns_from(name)
    if data:
        about, text, label = _of_data(name, nouns, data, label, encoding)
        write_text(text, ruleset_path)
        given = {"encoding": encoding} if encoding else {}
        named = {"path": data, "label": label} | given
        write_text(overlay_text(name, named, n_trained=len(about.cases)), overlay_path)
    else:
        write_text(policy_text(name, nouns), ruleset_path)
        write_text(overlay_text(name, None), overlay_path)
        about = _of_policy(load_ruleset(ruleset_path))
    return [
        f"wrote {ruleset_path} and {overlay_path}",
        "",
        *case_lines(about),
        "",
        f"Edit {ruleset_path}, then check it and run it:",
        f"  snakemake -n --configfile {overlay_path}",
        f"  snakemake --cores all --resources gpu=1 --configfile {overlay_path}",
    ]


def check_name(name: str, folder: Path) -> None:
    """`name` can name a file, a ruleset and an experiment, and names none yet; UserError if not."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        reason = f"{quoted(name)} is no name" if name else "is missing"
        remedy = f"use at most {MAX_NAME} small letters and digits, a letter first, - or _ between words: NAME=claims"
        raise UserError(MAKE, "NAME", reason, remedy)
    schema = load_schema("config.schema.yaml")
    if fault := first_fault(name, schema["properties"]["experiment"], schema):
        raise UserError(MAKE, "NAME", fault[1], fault[2])
    if name in OWN_RESULTS:
        raise UserError(MAKE, "NAME", f"results/{name} is no experiment's folder", "take another name")
    for part in ("rulesets", "experiments"):
        if (path := folder / part / f"{name}.yaml").exists() or path.is_symlink():
            raise UserError(MAKE, "NAME", f"{path} exists, and is not overwritten", "take another name, or move it")
    for path in [folder / "config.yaml", *sorted((folder / "experiments").glob("*.yaml"))]:
        taken = None
        with contextlib.suppress(UserError):  # what is wrong in it is said where it is used
            taken = read_yaml(path).get("experiment")
        if taken == name:
            raise UserError(MAKE, "NAME", f"{path} is the experiment {name}", "take another name")


def nouns_from(name: str) -> CaseNouns:
    """What a case may be called by an experiment's name: those of `motor_claims` are claims; else they are cases."""
    many = re.split("[_-]", name)[-1]
    if len(many) < 4 or not many[0].isalpha() or not many.endswith("s") or many.endswith(NO_PLURAL):
        return CASE
    return CaseNouns(f"{many[:-3]}y" if many.endswith("ies") else many[:-1], many)


def _of_policy(ruleset: Ruleset) -> NewCases:
    cases = ruleset.decide(ruleset.draw(DRAWN, np.random.default_rng(0)))
    counts = dict(cases["label"].value_counts(sort=True).iter_rows())
    return NewCases(ruleset, cases, counts, f"{len(cases):,} drawn {ruleset.case.many}")


def _of_data(
    name: str, nouns: CaseNouns, data: str, label: str | None, encoding: str | None
) -> tuple[NewCases, str, str]:
    """What a file of cases holds, the ruleset's text, and the column of decisions."""
    try:
        check_path(("DATA",), data)
        with open_cases(data, Form(encoding)) as file:
            label = label or next((column for column in file.columns if column.lower() in LABEL_NAMES), None)
            if label is None:
                columns = ", ".join(map(quoted, file.columns[:20]))
                raise UserError(MAKE, "LABEL", f"which column of {data} holds the decision?", f"name one of {columns}")
            settings = CaseSettings(data, label, SplitSettings(USUAL_SIZES, frozenset(), seed=0))
            contents = contents_of(settings, file)
            own = divided(settings, file, contents)
    except ConfigFaultError as error:
        raise UserError(MAKE, "DATA", error.fault, error.remedy) from None
    except CaseSettingError as error:
        raise UserError(MAKE, error.key.upper(), error.fault, error.remedy) from None
    about = NewCases(own.ruleset, own.splits["train"], contents.labels.counts, f"{file.n_rows:,} cases of {data}")
    return about, stated_text(name, nouns, own.ruleset, contents), label


def case_lines(about: NewCases) -> list[str]:
    """The labels' frequencies, and some prompts with their decisions."""
    n = sum(about.counts.values())
    shares = ", ".join(f"{label} {count / n:.1%}" for label, count in about.counts.items())
    shown = about.cases.head(SHOWN)
    prompts = render_prompts(about.ruleset, shown)
    lines = [f"labels of {about.origin}: {shares}", "", f"system: {prompts[0][0]['content']}"]
    for i, ((_, user), label) in enumerate(zip(prompts, shown["label"], strict=True), 1):
        lines += ["", f"prompt {i} (decided: {label})", user["content"]]
    return lines


def printable(text: str) -> str:
    """A text as a terminal may show it: what would control it, as an escape."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def main(words: list[str]) -> None:
    """Write the files that the command line asks for."""
    parser = argparse.ArgumentParser(prog=MAKE, description=__doc__)
    parser.add_argument("name", help="of the experiment")
    parser.add_argument("--data", help="a file of past decisions")
    parser.add_argument("--label", help="its column of decisions")
    parser.add_argument("--encoding", help="of its text, as in utf-8 or cp1252; guessed if not given")
    options = parser.parse_args(words)
    if options.label and not options.data:
        raise UserError(MAKE, "LABEL", "stands without DATA", "name the file: DATA=claims.csv")
    given = options.data or None, options.label or None
    for line in new_experiment(options.name, *given, encoding=options.encoding or None):
        print(printable(line))


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
