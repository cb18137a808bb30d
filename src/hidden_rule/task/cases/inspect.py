"""What a file of cases holds, for people: `make inspect DATA=claims.csv LABEL=decision`."""

import argparse
import sys

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.schemas import quoted
from hidden_rule.task.cases.columns import read_columns
from hidden_rule.task.cases.faults import CaseSettingError
from hidden_rule.task.cases.files import open_cases
from hidden_rule.task.cases.own import USUAL_SIZES, CaseSettings, contents_of, divided
from hidden_rule.task.cases.splits import SplitSettings
from hidden_rule.task.cases.text_files import Form
from hidden_rule.task.prompts import render_prompts

LABEL_NAMES = ("label", "decision", "class", "target", "outcome", "y", "category", "verdict", "result")


def inspect(path: str, label: str | None, encoding: str | None = None, **settings) -> list[str]:
    """Lines on the file's labels, columns, repeats, splits, and its first prompt; without a label, on its columns.

    What is known by then is printed before an error that says why the cases cannot be split.
    """
    lines: list[str] = []
    with open_cases(path, Form(encoding)) as file:
        label = label or next((name for name in file.columns if name.lower() in LABEL_NAMES), None)
        if label is None:
            lines += [f"{path}: {file.n_rows:,} cases, {len(file.columns)} columns", *file.notes]
            for column in read_columns(file, file.columns).values():
                lines += [f"{column.name}: {column.words}", *column.notes]
            return [*lines, "which column holds the decision? make inspect DATA=… LABEL=…"]
        given = CaseSettings(path, label, SplitSettings(USUAL_SIZES, frozenset(), seed=0), **settings)
        contents = contents_of(given, file)
        lines += contents.lines(file)
        try:
            own = divided(given, file, contents)
        except (UserError, CaseSettingError):
            print("\n".join([*lines, *(f"warning: {warning}" for warning in contents.warnings(file))]))
            raise
        first = render_prompts(own.ruleset, own.splits["train"].head(1))[0]
        lines = [*own.findings, *(f"warning: {warning}" for warning in own.warnings)]
        return [*lines, "", "the first prompt:", *(f"{part['role']}: {part['content']}" for part in first)]


def file_options(command: str, about: str | None, words: list[str]) -> argparse.Namespace:
    """What a command on a file of cases is given: `data`, `label`, `text`, `ruleset` and `encoding`."""
    parser = argparse.ArgumentParser(prog=command, description=about)
    parser.add_argument("data", help="a file of cases: CSV, TSV, JSON, JSON lines or parquet")
    parser.add_argument("--label", help="the column of decisions")
    parser.add_argument("--text", nargs="*", default=[], help="columns of free text")
    parser.add_argument("--ruleset", help="a file of stated rules")
    parser.add_argument("--encoding", help="of its text, as in utf-8 or cp1252; guessed if not given")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Print what the file that the command line names holds."""
    options = file_options("make inspect", __doc__, words)
    if not options.data:
        raise UserError("make inspect", "DATA", "is missing", "write make inspect DATA=claims.csv LABEL=decision")
    try:
        text = tuple(options.text)
        stated, encoding = options.ruleset or None, options.encoding or None
        lines = inspect(options.data, options.label or None, encoding, text=text, ruleset=stated)
    except CaseSettingError as error:
        raise UserError("make inspect", error.key.upper(), error.fault, error.remedy) from None
    print("\n".join(line if line.isprintable() or "\n" in line else quoted(line) for line in lines))


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
